"""Losses, augmentation, optimiser, and the trainings of a recipe."""
