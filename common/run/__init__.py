"""From verbs to runs: the command line, recipes, training, energy."""
