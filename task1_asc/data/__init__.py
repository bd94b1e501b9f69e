"""The data set: official layout on disk (sets) -> packs (prepare) -> batches."""
