"""The embedded data set: a miniature of TAU Urban Acoustic Scenes 2022 Mobile, made of procedural sounds."""
