"""Studies: the workshop's grid of proxy sets.

A room of their own, because a study is many small runs of one recipe.
"""
