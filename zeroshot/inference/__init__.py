"""Checkpoints -> networks, scores of sets and of any recordings, stored scores."""
