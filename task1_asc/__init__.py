"""Task 1: data-efficient low-complexity acoustic scene classification (DCASE 2024 and 2025)."""
