"""Trained networks over recordings: scores, thresholds, ensembles, stored outputs."""
