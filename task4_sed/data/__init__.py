"""A data set in its official layout -> packed clips -> batches."""
