"""From the data sets' official layouts and split files to batches of pairs."""
