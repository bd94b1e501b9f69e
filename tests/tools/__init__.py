"""Scripts that check claims about the whole project: kills, memory, equal folders."""
