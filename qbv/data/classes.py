"""Fixed quantities of the data sets: which parts they have, and how their file names tell what they belong to."""

import re
from collections.abc import Mapping

FOLDS = 10  # of the coarse protocol
# Imitations, recordings of a whole data set; None: not known, releases differ.
OFFICIAL: Mapping[str, tuple[int | None, int]] = {
    "vimsketch": (12_453, 542),
    "vocalsketch": (None, 240),
    "vocal_imitation_set": (5_601, 2_985),
    "qvim": (985, 121),
}
# The first ids of VimSketch that stem from VocalSketch; those before are of the Vocal Imitation Set.
FIRST_VOCAL_SKETCH_RECORDING, FIRST_VOCAL_SKETCH_IMITATION = 303, 5602
_NUMBERED = re.compile(r"(\d+)_(.+)\.wav", re.DOTALL)


def numbered(name: str) -> tuple[int, str] | None:
    """Id and key of a file of VimSketch (`001_000Animal_Cat.wav`: 1, `000Animal_Cat`); None for other names.

    A recording and all of its imitations have the same key.
    """
    match = _NUMBERED.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def label_of(key: str) -> str:
    """The split files' label of a key: its first four characters, blanks for underscores."""
    return key[:4].replace("_", " ")


def file_stem(label: str) -> str:
    """VocalSketch's file of a label, without suffix: `bass (plucked)` is `bass_plucked`."""
    return re.sub(r"[^\w.'-]+", "_", label).strip("_")
