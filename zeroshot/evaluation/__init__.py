"""Anybody's scores or own runs -> figures, tables, plots; how quality falls with semantic distance."""
