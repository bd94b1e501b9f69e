"""Task 6: language-based audio retrieval (DCASE 2022 to 2025)."""
