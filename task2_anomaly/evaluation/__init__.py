"""Scores, own or anybody's, against a ground truth: figures, tables, plots."""
