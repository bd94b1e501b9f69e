"""The embedded data sets: procedural recordings and voices that imitate them, in the four official layouts."""
