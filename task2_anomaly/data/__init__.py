"""A data set on disk -> clips -> batches."""
