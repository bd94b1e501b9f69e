"""Training: losses, the training system, one run per split."""
