"""Query by vocal imitation: recordings that sound like what a voice imitates (Greif et al., DCASE Workshop 2024)."""
