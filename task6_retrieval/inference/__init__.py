"""Checkpoints to embeddings, embeddings to stored rankings."""
