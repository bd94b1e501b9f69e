"""From disk to batches: classes, layout, proxies, prepare, sets, front_end, features, embeddings, batches; toy."""
