"""Own runs and anybody's similarities -> figures, tables, plots."""
