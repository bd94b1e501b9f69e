"""Audio on disk -> float32 waveforms: reading, recordings, packing, packs, shards; coverage, loading, clip arrays."""
