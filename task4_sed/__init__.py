"""DCASE 2024 Task 4: sound event detection with heterogeneous labels (DESED and MAESTRO)."""
