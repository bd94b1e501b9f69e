"""The embedded data set: a miniature of TAU Urban Acoustic Scenes 2022 Mobile, made of procedural sounds."""

from task1_asc.toy.write import write_toy

__all__ = ["write_toy"]
