"""Audio on disk: files and packs of clips to float32 waveforms in [-1, 1]."""
