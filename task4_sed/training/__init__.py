"""Training: losses, the mean-teacher system, validation."""
