"""Make the exclusion lists of a data set: training clips that also occur in external or evaluation data.

DESED's real clips, AudioSet Strong and the public evaluation set are excerpts of YouTube videos. A clip of Strong,
Weak or Unlabeled whose video also occurs in External_Strong, devtest or the public evaluation set is listed in
resources/exclude/*_exclude.tsv of the data set, which training then leaves out.
"""

import re
from pathlib import Path

from common.run.files import existing_folder, write_rows
from common.run.folders import is_clutter
from common.run.results.tables import print_table
from task4_sed.data.annotations import read_durations, read_strong
from task4_sed.data.layout import EXCLUSION_LISTS, SETS
from task4_sed.data.sets import first_existing

HELD_OUT = ("external_strong_train", "external_strong_val", "devtest", "eval_public")
# `Y<11 characters>_<start>_<end>.wav`; the public evaluation set lacks the Y
_VIDEO = re.compile(r"^Y?([\w-]{11})_\d+(?:\.\d+)?_\d+(?:\.\d+)?(?:\.wav)?$")


def video_of(clip: str) -> str | None:
    """The YouTube id in a clip's name; None where the name has another form."""
    found = _VIDEO.match(clip)
    return found.group(1) if found else None


def clips_of(root: Path, name: str) -> list[str]:
    """The clips of a set, from its tables and its audio folder, as far as they are there."""
    layout = SETS[name]
    names: set[str] = set()
    table, durations, audio = (first_existing(root, c) for c in (layout.annotation, layout.durations, layout.audio))
    if table is not None and layout.kind == "strong":
        names |= read_strong(table).keys()
    if durations is not None:
        names |= read_durations(durations).keys()
    if audio is not None and (layout.kind != "strong" or not names):
        names |= {path.name for path in audio.glob("*.wav") if not is_clutter(path.name)}
    return sorted(names)


def exclusions(root: Path) -> dict[str, list[str]]:
    """{strong, weak, unlabeled: clips to leave out}."""
    held_out = {video_of(clip) for name in HELD_OUT for clip in clips_of(root, name)} - {None}
    return {
        name: [clip for clip in clips_of(root, name) if (video := video_of(clip)) and video in held_out]
        for name in EXCLUSION_LISTS
    }


def write_exclusions(root: Path) -> dict[str, int]:
    """Write the lists of a data set in the official layout and print their sizes; {set: clips to leave out}."""
    found = exclusions(existing_folder(root, "data set"))
    for name, clips in found.items():
        write_rows(root / EXCLUSION_LISTS[name], ("filename",), ((clip,) for clip in clips))
    rows = [[name, str(len(clips)), EXCLUSION_LISTS[name]] for name, clips in found.items()]
    print_table(f"clips of {root} to leave out", ["set", "clips", "list"], rows)
    return {name: len(clips) for name, clips in found.items()}
