"""From disk to batches: classes, layout, annotations, labels, prepare, sets, embeddings, batches; toy, recordings."""
