"""Clotho, AudioCaps and WavCaps on disk -> batches of clips with captions."""
