"""Trained networks over recordings: checkpoints, predictions, stored outputs."""
