"""Deployment: complexity, search, quantisation, export, latency.

A room of its own, because the challenge limits what a network may cost.
"""
