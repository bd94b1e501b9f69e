"""Training: losses, the mean-teacher system, validation, runs side by side."""
