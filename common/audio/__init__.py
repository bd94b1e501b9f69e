"""Audio on disk -> float32 waveforms: reading, packing, packs, shards; coverage, loading (batches), arrays per clip."""
