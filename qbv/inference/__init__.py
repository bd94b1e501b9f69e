"""Trained networks, similarities of test sets, and their files."""
