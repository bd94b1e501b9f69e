"""Training splits of the official form: made for any meta.csv, and checked for the official ones' six properties."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError
from common.run.files import existing_folder
from common.run.results.tables import print_table
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICE_GROUPS, DEVICES, PARTS_PER_SEGMENT, SCENES
from task1_asc.data.layout import ClipName, Split, find_split, read_list, read_meta, split_candidates, write_list

Recording = tuple[str, str, str, str]

# How far a cell (scene x device), a scene and a device may be from their share of the next larger split, in segments.
TOLERANCES = {"cell": 2.5, "scene": 1.5, "device": 5.0}
TEST_SHARE = 0.3  # of every scene's recordings, at locations of its own


def make(root: str | Path, out: str | Path, seed: int) -> dict[Split, list[ClipName]]:
    """Split lists for the data set `root` (its meta.csv), written to the folder `out`.

    The test list and the 100 % list of the data set are kept where there are some. Otherwise the test list is drawn
    (`draw_test`), and 100 % is what is neither at its locations nor of a device that only the test may have.
    """
    meta = read_meta(root)
    test_file, full_file = find_split(root, "test"), find_split(root, 100)
    test = read_list(test_file) if test_file else draw_test(meta, seed)
    full = read_list(full_file) if full_file else training_clips(meta, test)
    place = {clip: number for number, clip in enumerate(meta)}
    lists = make_splits(full, seed)
    lists["test"] = test
    for path, clips in ((test_file, test), (full_file, full)):
        unknown = next((clip for clip in clips if clip not in place), None)
        if unknown:
            raise UserError(f"{path}: {unknown.filename} is not in meta.csv")
    for split, clips in lists.items():
        lists[split] = sorted(clips, key=place.__getitem__)
        write_list(Path(out) / (f"split{split}.csv" if split != "test" else "test.csv"), lists[split])
    return lists


def make_splits(clips: Sequence[ClipName], seed: int) -> dict[Split, list[ClipName]]:
    """Nested 5, 10, 25, 50 % of the training clips, beside the 100 %; whole segments, each in the order of `clips`.

    Every (scene, device) cell, every scene and every device gets its share of the next larger split, rounded up or
    down. Sizes are exact multiples of the smallest split, a twentieth of the segments (rounded down), as in the
    official lists. Raises UserError for segments without ten parts and for fewer than 20 segments.
    """
    parts: dict[Recording, set[int]] = {}
    for clip in clips:
        parts.setdefault(clip.recording, set()).add(clip.part)
    for recording, there in parts.items():
        if len(there) != PARTS_PER_SEGMENT:
            raise UserError(f"segment {'-'.join(recording)}: {len(there)} parts, expected {PARTS_PER_SEGMENT}")
    smallest = len(parts) * SPLITS[0] // 100
    if not smallest:
        raise UserError(f"{len(parts)} training segments are too few for a split of 5 %, expected at least 20")
    random, kept, drawn = np.random.default_rng(seed), sorted(parts), {100: set(parts)}
    for percent in sorted(SPLITS, reverse=True)[1:]:
        kept = _draw(kept, smallest * percent // SPLITS[0], random)
        drawn[percent] = set(kept)
    return {percent: [clip for clip in clips if clip.recording in drawn[percent]] for percent in SPLITS}


def training_clips(meta: Iterable[ClipName], test: Iterable[ClipName]) -> list[ClipName]:
    """The clips that a system may be trained on: no location of the test, none of the unseen devices."""
    at_test = {clip.location for clip in test}
    return [clip for clip in meta if clip.location not in at_test and clip.device not in DEVICE_GROUPS["unseen"]]


def draw_test(meta: Sequence[ClipName], seed: int) -> list[ClipName]:
    """A test list for a data set that has none: locations with 30 % of every scene, equally many segments per cell.

    A cell is a scene on a device. Raises UserError where a scene has only one location.
    """
    random = np.random.default_rng(seed)
    held_out = draw_locations(meta, TEST_SHARE, random)
    cells = _cells({clip.recording for clip in meta if clip.location in held_out})
    each = min(len(recordings) for recordings in cells.values())
    chosen = {r for cell in cells.values() for r in _choose(cell, each, random)}
    return [clip for clip in meta if clip.recording in chosen]


def draw_locations(clips: Iterable[ClipName], share: float, random: np.random.Generator) -> set[str]:
    """Whole locations with at least `share` of every scene's clips; one location of a scene at least stays out.

    Raises UserError where a scene has only one location.
    """
    sizes: dict[str, Counter[str]] = {}
    for clip in clips:
        sizes.setdefault(clip.scene, Counter())[clip.location] += 1
    drawn: set[str] = set()
    for scene, locations in sorted(sizes.items()):
        if len(locations) < 2:
            raise UserError(f"scene {scene}: only one location, locations cannot be held out")
        wanted, order = share * locations.total(), random.permutation(sorted(locations)).tolist()
        before = np.cumsum([0, *(locations[name] for name in order)])[:-1]
        drawn.update(name for name, sofar in zip(order[:-1], before, strict=False) if sofar < wanted)
    return drawn


def allocate(counts: NDArray[np.int64], total: int, random: np.random.Generator) -> NDArray[np.int64]:
    """`total` shared out over a table in proportion to `counts` (scenes, devices), in whole numbers.

    Every cell, row and column gets its exact share rounded up or down. Such a table always exists (controlled
    rounding, Cox 1987); a random one is taken.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    share = counts.ravel() * (total / counts.sum())
    row, column = (axis.ravel() for axis in np.indices(counts.shape))
    rows, columns = np.arange(counts.shape[0])[:, None] == row, np.arange(counts.shape[1])[:, None] == column
    sums = np.vstack([rows, columns, np.ones(counts.size)]).astype(float)

    def down(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.floor(x.round(9))

    exact = sums @ share
    solution = milp(
        random.random(counts.size),
        integrality=1,
        bounds=Bounds(down(share), -down(-share)),
        constraints=LinearConstraint(sums, down(exact), -down(-exact)),
    )
    return np.rint(solution.x).astype(np.int64).reshape(counts.shape)


def _draw(recordings: Sequence[Recording], total: int, random: np.random.Generator) -> list[Recording]:
    cells = _cells(recordings)
    counts = np.array([[len(cells.get((s, d), ())) for d in DEVICES] for s in SCENES])
    sizes = allocate(counts, total, random)
    drawn = [_choose(of, sizes[SCENES.index(s), DEVICES.index(d)], random) for (s, d), of in sorted(cells.items())]
    return sorted(recording for cell in drawn for recording in cell)


def _choose(recordings: Sequence[Recording], number: int, random: np.random.Generator) -> list[Recording]:
    return [recordings[i] for i in random.choice(len(recordings), number, replace=False)]


def _cells(recordings: Iterable[Recording]) -> dict[tuple[str, str], list[Recording]]:
    cells: dict[tuple[str, str], list[Recording]] = {}
    for recording in sorted(recordings):
        cells.setdefault((recording[0], recording[3]), []).append(recording)
    return cells


# ------------------------------------------------------------------------------------------------------------ checking


@dataclass(frozen=True)
class Check:
    """One property: whether it holds (None: a list that it needs is not there), in words, and its numbers."""

    name: str
    holds: bool | None
    numbers: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        return {True: "holds", False: "VIOLATED", None: "not checked"}[self.holds]

    def text(self) -> str:
        """The numbers in a line."""
        return ", ".join(f"{key}: {value}" for key, value in self.numbers.items()) or "lists are missing"


@dataclass(frozen=True)
class SplitReport:
    """What a folder's split lists are like: clips of each list that is there, names of the others, the properties."""

    clips: Mapping[str, int]
    missing: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing that could be checked is violated."""
        return all(check.holds is not False for check in self.checks)

    def rows(self) -> list[list[str]]:
        """Property, verdict and numbers, for a table."""
        return [[check.name, check.verdict, check.text()] for check in self.checks]

    def as_dict(self) -> dict[str, Any]:
        """As it is written to JSON."""
        checks = [asdict(check) for check in self.checks]
        return {"ok": self.ok, "clips": dict(self.clips), "missing": list(self.missing), "checks": checks}


def check_splits(folder: str | Path, meta: Sequence[ClipName] | None = None) -> SplitReport:
    """Check the lists of a folder (or of its `splits/`) for the six properties; with `meta` also that it has them all.

    Raises UserError for malformed lists, and where the folder has none at all.
    """
    folder = existing_folder(folder)
    order: tuple[Split, ...] = (*SPLITS, "test")
    paths = {split: find_split(folder, split) for split in order}
    lists = {split: read_list(path, unique=False) for split, path in paths.items() if path}
    if not lists:
        raise UserError(f"{folder}: no split list found, expected {split_candidates(folder, 5)[2].name} and others")
    training = {split: lists[split] for split in SPLITS if split in lists}
    steps = {f"{small} in {large}": (lists[small], lists[large]) for small, large in pairwise(training)}
    checks = [
        _counted("1 nested", {step: len(set(small) - set(large)) for step, (small, large) in steps.items()}),
        _counted("2 whole segments", {_title(split): _broken_segments(clips) for split, clips in lists.items()}),
        _counted("3 no duplicates", {_title(split): len(clips) - len(set(clips)) for split, clips in lists.items()}),
        _counted("4 no location of the test", _shared_locations(training, lists.get("test"))),
        _counted("5 no unseen device", {_title(s): sum(map(_is_unseen, clips)) for s, clips in training.items()}),
        _stratified({step: _deviations(small, large) for step, (small, large) in steps.items()}),
    ]
    if meta is not None:
        known = set(meta)
        checks.append(_counted("in meta.csv", {_title(s): len(set(clips) - known) for s, clips in lists.items()}))
    missing = tuple(_title(split) for split, path in paths.items() if path is None)
    return SplitReport({_title(split): len(clips) for split, clips in lists.items()}, missing, tuple(checks))


def show_splits(folder: Path, meta: Sequence[ClipName] | None) -> dict[str, Any]:
    """Print what `check_splits` finds and return it; UserError where a property does not hold."""
    report = check_splits(folder, meta)
    print_table(f"split lists {folder}", ["property", "verdict", "numbers"], report.rows())
    for name in report.missing:
        print(f"not there: {name}")
    if not report.ok:
        raise UserError(f"{folder}: {next(c.name for c in report.checks if c.holds is False)}: does not hold")
    return report.as_dict()


def _title(split: Split) -> str:
    return "test" if split == "test" else f"{split} %"


def _counted(name: str, violations: Mapping[str, int]) -> Check:
    """A property that holds where no clip (segment, location) of any list violates it."""
    return Check(name, not any(violations.values()) if violations else None, violations)


def _broken_segments(clips: Iterable[ClipName]) -> int:
    parts = Counter(clip.recording for clip in set(clips))
    return sum(count != PARTS_PER_SEGMENT for count in parts.values())


def _shared_locations(training: Mapping[int, Sequence[ClipName]], test: Sequence[ClipName] | None) -> dict[str, int]:
    at_test = {clip.location for clip in test or ()}
    return {_title(s): len(at_test & {clip.location for clip in clips}) for s, clips in training.items() if at_test}


def _is_unseen(clip: ClipName) -> bool:
    return clip.device in DEVICE_GROUPS["unseen"]


def _deviations(small: Sequence[ClipName], large: Sequence[ClipName]) -> dict[str, float]:
    """Largest distance of a cell, a scene and a device from its share of the larger split, in segments."""
    taken, of = (_table(clips) for clips in (small, large))
    off = taken - of * (taken.sum() / of.sum())
    values = {"cell": off, "scene": off.sum(axis=1), "device": off.sum(axis=0)}
    return {name: round(float(np.abs(value).max()), 2) for name, value in values.items()}


def _table(clips: Iterable[ClipName]) -> NDArray[np.int64]:
    table = np.zeros((len(SCENES), len(DEVICES)), np.int64)
    for scene, _, _, device in {clip.recording for clip in clips}:
        table[SCENES.index(scene), DEVICES.index(device)] += 1
    return table


def _stratified(steps: Mapping[str, Mapping[str, float]]) -> Check:
    holds = all(value <= TOLERANCES[name] for of in steps.values() for name, value in of.items())
    numbers = {step: "/".join(map(str, of.values())) for step, of in steps.items()}
    return Check("6 stratified: cell/scene/device off by segments", holds if steps else None, numbers)
