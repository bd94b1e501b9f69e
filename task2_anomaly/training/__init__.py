"""Training: losses, the training system, one network per machine."""
