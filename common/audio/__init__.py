"""Audio on disk -> float32 waveforms: reading, recordings, packing, packs, shards, loading, clip arrays.

Data sets: where they come from (downloads), what of them is there (coverage), made of own recordings (own).
"""
