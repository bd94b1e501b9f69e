"""The embedded data sets: miniatures of DCASE 2020 Task 2 and of a first-shot edition, made of procedural sounds."""
