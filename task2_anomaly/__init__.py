"""Task 2: anomalous sound detection for machine condition monitoring (DCASE 2020, and the first-shot editions)."""
