"""The embedded data set: all sets of DCASE 2024 Task 4 in their official layout, made of procedural sounds."""
