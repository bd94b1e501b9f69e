"""Data sets on disk: where they lie, what of their listed clips is there, and packing those.

Beside a pack `<set>` lie `<set>.missing.tsv`, the listed clips without a file, and `<set>.broken.tsv`, those that
cannot be read, with the reason; neither exists where all is well.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from common.audio.packing import PackReport, write_pack
from common.audio.packs import Pack, open_pack
from common.audio.shards import Storage
from common.run.errors import UserError
from common.run.files import existing_folder, read_json, write_rows
from common.run.folders import printable
from common.run.progress import progress

MARKERS = {"toy.json": "toy", "recordings.json": "recordings"}  # files of data sets that were made here


class Place(Protocol):
    """The settings that say where a data set lies."""

    @property
    def root(self) -> str | None:
        """Folder in the official layout."""

    @property
    def toy(self) -> str | None:
        """`prepare` writes the embedded data set of this size to `root`."""

    @property
    def packs(self) -> str | None:
        """Where the packed audio lies; None: <root>/packed."""


def write_embedded(data: Any, write: Callable[..., object]) -> None:
    """The embedded data set (`data.toy`), where the recipe asks for it and it is not there."""
    if data.root is None or not data.toy:
        return
    with progress("toy data", 0, "files") as advance:
        write(Path(data.root), size=data.toy, progress=advance.to)


def root_of(place: Place) -> Path:
    """The data set's folder; UserError where the recipe names none or it does not exist."""
    if place.root is None:
        raise UserError("data.root: no data set named; data.root=DIR names the folder in the official layout")
    if place.toy and not Path(place.root).exists():
        raise UserError(f"{place.root}: data set not found; `prepare` writes it")
    return existing_folder(place.root, "data set")


def packs_of(place: Place) -> Path:
    """The folder of the packed audio. Raises UserError where neither it nor a data set is named."""
    return Path(place.packs) if place.packs else root_of(place) / "packed"


def made_of(root: Path) -> str:
    """ "toy", "recordings" (built by `prepare --from-recordings`) or "official"."""
    for marker, meaning in MARKERS.items():
        if (root / marker).is_file():
            read_json(root / marker)
            return meaning
    return "official"


@dataclass(frozen=True)
class Coverage:
    """What of the listed clips is there; `report` once they are packed."""

    found: tuple[tuple[str, Path], ...]  # (name, file)
    missing: tuple[str, ...]  # names without a file
    report: PackReport | None = None

    @property
    def listed(self) -> int:
        """Clips that the tables name."""
        return len(self.found) + len(self.missing)

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the clips that could not be read."""
        return tuple(name for name, _ in self.report.skipped) if self.report else ()

    @property
    def packed(self) -> int:
        """Clips in the pack; 0 before there is one."""
        return self.report.clips if self.report else 0

    def counts(self) -> dict[str, int]:
        """Numbers of clips."""
        return {
            "listed": self.listed,
            "missing": len(self.missing),
            "broken": len(self.broken),
            "packed": self.packed,
        }


def cover(clips: Iterable[tuple[str, Path]]) -> Coverage:
    """Which of the clips (name, file) have a file. Every folder is listed once."""
    there: dict[Path, set[str]] = {}
    found, missing = [], []
    for name, path in clips:
        folder = path.parent
        if folder not in there:
            there[folder] = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
        if path.name in there[folder]:
            found.append((name, path))
        else:
            missing.append(name)
    return Coverage(tuple(found), tuple(missing))


def pack(
    coverage: Coverage,
    folder: Path,
    sample_rate: int,
    workers: int,
    clips_per_worker: int,
    storage: Storage = "pcm16",
) -> Coverage:
    """Pack what is there, list what is missing or broken beside the pack.

    clips_per_worker: starting a process costs about as much as packing so many. storage: as of `write_pack`. May be
    stopped and goes on.
    """
    if coverage.found:
        sources, workers = coverage.found, min(workers, 1 + len(coverage.found) // clips_per_worker)
        with progress(f"pack {folder.name}", len(sources)) as advance:
            report = write_pack(
                folder, sources, sample_rate, storage, workers=workers, progress=advance.to, on_error="skip"
            )
        coverage = replace(coverage, report=report)
        _list(folder.with_name(f"{folder.name}.broken.tsv"), ("filename", "reason"), report.skipped)
    _list(folder.with_name(f"{folder.name}.missing.tsv"), ("filename",), [(name,) for name in coverage.missing])
    return coverage


def _list(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        write_rows(path, columns, [[printable(cell) for cell in row] for row in rows])
    else:
        path.unlink(missing_ok=True)


def verify(packs: Iterable[Path]) -> None:
    """Read packs whole; UserError for the first damage."""
    damaged = [problem for path in packs for problem in open_pack(path).verify()]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise UserError(f"{damaged[0]}{more}; prepare again after removing it")


def open_packed(folder: Path, sample_rate: int | None = None) -> Pack:
    """A pack that `prepare` made. Raises UserError where there is none, or of another rate."""
    if not folder.exists():
        raise UserError(f"{folder}: packed audio not found; `prepare` makes it")
    return open_pack(folder, sample_rate)
