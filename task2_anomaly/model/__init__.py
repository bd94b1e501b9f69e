"""The networks of Task 2, and the back ends on embeddings."""
