"""A data set of DESED's form out of isolated real recordings (a folder as of ESC-50)."""
