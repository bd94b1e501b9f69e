"""The embedded data sets: miniatures of DCASE 2020 Task 2 and of a first-shot edition, made of procedural sounds."""

from task2_anomaly.toy.firstshot import write_first_shot_toy
from task2_anomaly.toy.write import write_toy

__all__ = ["write_first_shot_toy", "write_toy"]
