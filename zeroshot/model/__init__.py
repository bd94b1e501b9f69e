"""Audio embedding and class vector in, compatibility out."""
