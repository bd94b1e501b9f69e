"""What two or more tasks share: audio, front ends, losses, augmentation, runs, results, archives, toy sounds."""

__version__ = "0.1.0"
