"""The embedded data set: all sets of DCASE 2024 Task 4 in their official layout, made of procedural sounds."""

from task4_sed.toy.sets import write_toy

__all__ = ["write_toy"]
