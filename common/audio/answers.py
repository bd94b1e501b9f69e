"""What `predict FILES --out DIR` writes for each recording: `<name>.json` and a table, `<name>.tsv`.

What lies in the folder of other recordings stays, and files that `predict` did not make are not touched.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.audio.recordings import Recordings, short_names
from common.run.errors import UserError
from common.run.files import read_json, remove_partials, write_json, write_rows

FOLDER = Path("predictions")  # without --out
SCORES = "scores"  # folder in it with what `evaluate --scores` reads
ALWAYS = ("file", "duration")  # in each .json, beside what the task says


def out_folder(files: Sequence[Path], out: Path | None) -> Path:
    """Where `predict FILES --out DIR` writes; UserError for an --out without files, or one that is no folder."""
    if out is not None and not files:
        raise UserError("predict: --out goes with named files")
    folder = out or FOLDER
    there = next((path for path in (folder, *folder.parents) if path.exists() or path.is_symlink()), Path())
    if files and not there.is_dir():
        raise UserError(f"--out: {there} is a file, expected a folder for what is found")
    return folder


def stems(out: Path, recordings: Recordings, says: str, suffixes: Sequence[str] = (".tsv",)) -> dict[Path, Path]:
    """{recording: its files in `out` without suffix}. says: the key in its .json that only this task writes.

    Raises UserError where a file of one of the suffixes is there that no earlier `predict` of the task made.
    """
    found = {file: out / name for file, name in short_names(recordings.files).items()}
    for stem in found.values():
        check_own(stem, says, suffixes)
    for folder in (out, out / SCORES):
        remove_partials(folder, recursive=False)
    return found


def check_own(stem: Path, says: str, suffixes: Sequence[str]) -> None:
    """UserError where a file of one of the suffixes is there that no earlier `predict` of the task made."""
    about = Path(f"{stem}.json")
    taken = next((path for suffix in (*suffixes, ".json") if (path := Path(f"{stem}{suffix}")).exists()), None)
    if taken is None:
        return
    try:
        there = read_json(about)
    except UserError:
        there = None
    if not isinstance(there, dict) or not {*ALWAYS, says} <= there.keys():
        raise UserError(f"{taken}: is there and not of an earlier `predict`; name another folder with --out")


def write_answer(
    stem: Path, about: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """`<stem>.json` and `<stem>.tsv`. about: `ALWAYS`, and what was found."""
    # The first: it tells that the others are no tables of somebody else.
    write_json(Path(f"{stem}.json"), about)
    write_rows(Path(f"{stem}.tsv"), columns, rows)
