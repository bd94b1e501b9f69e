"""The embedded data set in the layout of Clotho."""
