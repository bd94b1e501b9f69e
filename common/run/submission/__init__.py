"""Challenge archives: built whole, opened safely, checked by rules that name file and line."""
