"""The embedded data set: sounds whose classes are combinations of attributes, in ESC-50's layout, with their texts."""
