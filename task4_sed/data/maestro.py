"""Whole recordings of MAESTRO Real, as downloaded -> windows of 10 s with their soft labels (baseline 2024)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.audio.reading import info, load, write_wav
from common.run.errors import UserError
from common.run.files import Row, existing_file, is_complete, write_folder_then_rename, write_json
from common.run.folders import is_clutter
from common.run.processes import all_done
from common.run.progress import progress
from task4_sed.data.annotations import Event, event_of, read_soft, write_durations, write_soft
from task4_sed.data.classes import CLIP_SECONDS, SAMPLE_RATE
from task4_sed.data.layout import SETS

FOLDER = "maestro_real_development"  # of the recordings (.wav) and their annotation (.txt), at any depth
MARKER = "windows.json"  # in a folder of windows that were cut here
COLUMNS = ("onset", "offset", "event_label", "confidence")
# The official split: numbers of the recordings of each scene, <scene>_<number>.
SPLIT = {
    "maestro_train": {
        "cafe_restaurant": "00 06 07 08 11 12 14",
        "city_center": "02 04 06 07 11 12 14",
        "grocery_store": "00 02 03 08 09 11",
        "metro_station": "00 02 05 07 10 12",
        "residential_area": "00 01 04 07 08 09 14",
    },
    "maestro_val": {
        "cafe_restaurant": "04 10 13",
        "city_center": "05 09 10",
        "grocery_store": "01 04 12",
        "metro_station": "01 04 11",
        "residential_area": "03 05 06 12",
    },
}


def windows(seconds: float, hop: float, length: float = CLIP_SECONDS) -> list[tuple[float, float]]:
    """(start, end) of the windows of a recording: every `hop` seconds, then a shorter one up to the recording's end."""
    found, start = [], 0.0
    while start + length <= seconds:
        found.append((start, start + length))
        start = round(start + hop, 2)
    return [*found, (start, seconds)] if start < seconds else found


def cut(events: Sequence[Event], start: float, end: float) -> list[Event]:
    """Soft labels that overlap a window, clipped to it and relative to its start."""
    return [
        Event(round(max(e.onset, start) - start, 3), round(min(e.offset, end) - start, 3), e.label, e.confidence)
        for e in events
        if min(e.offset, end) - max(e.onset, start) > 1e-6
    ]


def window_name(recording: str, start: float, end: float) -> str:
    """`cafe_restaurant_00-000100-001100.wav`: seconds times 100."""
    return f"{recording}-{round(start * 100):06d}-{round(end * 100):06d}.wav"


@dataclass(frozen=True)
class Recording:
    """A whole recording; its events are seconds with a confidence."""

    name: str
    audio: Path
    seconds: float
    events: tuple[Event, ...]

    def windows(self, hop: int) -> dict[str, tuple[float, float]]:
        """{file name: (start, end)}."""
        return {window_name(self.name, *window): window for window in windows(self.seconds, hop)}


def cut_recordings(root: Path, hop: int, classes: Sequence[str], workers: int) -> None:
    """Windows of the recordings below <root>/maestro_real_development, with the tables of both sets, where missing.

    Windows that others have cut stay. Each set's audio, at 16 kHz, and each table appears whole or not at all. Raises
    UserError for audio without annotation or the reverse, unreadable files, wrong rows, windows of another hop.
    """
    folder = root / FOLDER
    wanted = [name for name in SPLIT if _is_ours(root, name)] if folder.is_dir() else []
    identity = {"format": 1, "hop": hop}
    done = {name: is_complete(root / SETS[name].audio[0], MARKER, identity) for name in wanted}
    durations = root / SETS["maestro_train"].durations[0]
    tables = [root / SETS[name].annotation[0] for name in wanted]
    if not wanted or (all(done.values()) and all(path.is_file() for path in [*tables, durations])):
        return
    found = _recordings(folder, classes)
    for name, table in zip(wanted, tables, strict=True):
        mine = [found[recording] for recording in recordings_of(name) if recording in found]
        events = {window: cut(of.events, *span) for of in mine for window, span in of.windows(hop).items()}
        if table.is_file() and (other := sorted(read_soft(table).keys() - events)):
            raise UserError(f"{table}: {other[0]} is no window of a hop of {hop} s (data.maestro_hop); remove it")
        if mine and not done[name]:
            _write_windows(root / SETS[name].audio[0], mine, hop, identity, workers)
        if mine and not table.is_file():
            write_soft(table, events)
    if not durations.is_file():
        write_durations(durations, {f"{of.name}.wav": of.seconds for of in found.values()})


def recordings_of(name: str) -> list[str]:
    """The recordings of a set in the official split."""
    return [f"{scene}_{number}" for scene, numbers in SPLIT[name].items() for number in numbers.split()]


def _is_ours(root: Path, name: str) -> bool:
    """Whether a set's windows are to be cut here: there are none, or they were."""
    there = [root / path for path in SETS[name].audio if (root / path).is_dir() and any((root / path).iterdir())]
    return not there or (there[0] / MARKER).is_file()


def _write_windows(
    folder: Path, recordings: Sequence[Recording], hop: int, identity: dict[str, int], workers: int
) -> None:
    with write_folder_then_rename(folder) as partial:
        with progress(f"cut {folder.name}", len(recordings), "recordings") as advance:
            all_done(_cut_one, [(of, partial, hop) for of in recordings], workers, show=lambda _: advance())
        write_json(partial / MARKER, identity)


def _cut_one(recording: Recording, folder: Path, hop: int) -> None:
    sound = load(recording.audio, SAMPLE_RATE)
    for name, (start, end) in recording.windows(hop).items():
        write_wav(folder / name, sound[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)], SAMPLE_RATE)


def _recordings(folder: Path, classes: Sequence[str]) -> dict[str, Recording]:
    """Those of the official split that are there, by name; says which are not."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_clutter(path.name)]
    audio, tables = _by_stem(files, (".wav", ".flac")), _by_stem(files, (".txt", ".tsv"))
    official = [name for of_set in SPLIT for name in recordings_of(of_set)]
    for name in official:
        if (name in audio) != (name in tables):
            there, missing = (audio, "annotation, .txt") if name in audio else (tables, "recording, .wav")
            raise UserError(f"{there[name]}: its {missing}, is not there; expected {name} anywhere below {folder}")
    found = [name for name in official if name in audio]
    if not found:
        raise UserError(f"{folder}: no recording of MAESTRO Real found; expected such as {official[0]}.wav and .txt")
    if gone := [name for name in official if name not in audio]:
        named = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
        print(f"{folder}: {len(gone)} of {len(official)} recordings are not there: {named}")
    return {name: _recording(name, audio[name], tables[name], classes) for name in found}


def _by_stem(files: Iterable[Path], suffixes: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        if path.suffix.lower() in suffixes and found.setdefault(path.stem, path) != path:
            raise UserError(f"{path}: is there twice, also as {found[path.stem]}")
    return found


def _recording(name: str, audio: Path, table: Path, classes: Sequence[str]) -> Recording:
    seconds = info(audio).seconds
    return Recording(name, audio, seconds, tuple(read_recording(table, classes, seconds)))


def read_recording(path: Path, classes: Sequence[str], seconds: float) -> list[Event]:
    """Soft labels of a recording of so many seconds: onset, offset, label, confidence, tabs between; a header or none.

    Its last second may be incomplete. Raises UserError for everything else that passes the end, and as `read_soft`.
    """
    try:
        lines = existing_file(path, "annotation").read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    events = []
    for number, line in enumerate(lines, 1):
        fields = [field.strip() for field in line.split("\t")]
        if not line.strip() or (number == 1 and fields[0] == "onset"):
            continue
        if len(fields) != len(COLUMNS):
            raise UserError(f"{path}:{number}: {len(fields)} fields, expected {', '.join(COLUMNS)} with tabs between")
        row = Row(zip(COLUMNS, fields, strict=True), filename=path.stem)
        row.at = f"{path}:{number}"
        events.append(event_of(row, classes, {path.stem: math.ceil(seconds)}))
    return events
