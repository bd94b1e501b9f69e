"""Metrics of sound event detection: arrays in, numbers out; numpy only."""
