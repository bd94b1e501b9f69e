"""Trained networks over recordings: checkpoints, predictions, stored scores, post-processing."""
