"""A data set of DESED's form out of isolated real recordings (a folder as of ESC-50)."""

from task4_sed.recordings.build import DEFAULT_FOLDS, SHARES, from_recordings

__all__ = ["DEFAULT_FOLDS", "SHARES", "from_recordings"]
