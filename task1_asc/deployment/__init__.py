"""Deployment: complexity, search, quantisation, export.

A room of its own, because the challenge limits what a network may cost.
"""
