"""The challenge's outputs by edition, and checking anybody's."""
