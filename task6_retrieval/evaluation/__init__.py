"""Figures of rankings: anybody's files, captions against captions."""
