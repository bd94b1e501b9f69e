"""The notebooks of QVIM 2025, and checking anybody's."""
