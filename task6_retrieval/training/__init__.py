"""Training: losses over all ranks, stages 1 and 2, runs."""
