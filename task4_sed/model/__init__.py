"""The CRNN of Task 4, and the encoder beside it."""
