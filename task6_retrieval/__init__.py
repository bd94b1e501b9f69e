"""DCASE 2022 to 2025, language-based audio retrieval: clips ranked by sentences."""
