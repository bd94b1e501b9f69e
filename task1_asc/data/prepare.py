"""Check a data set against the official layout, say exactly what is missing, and pack its audio."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.packing import write_pack
from common.audio.packs import open_pack
from common.run.errors import UserError
from common.run.files import read_json, remove_partials, write_json, write_rows
from common.run.progress import progress
from common.run.results.tables import print_table
from task1_asc.config import SPLITS, Config
from task1_asc.data.layout import (
    Split,
    find_evaluation,
    find_split,
    missing_audio,
    read_evaluation,
    read_list,
    read_meta,
    split_file,
)
from task1_asc.data.sets import packs_of, root_of
from task1_asc.data.splits import SplitReport, check_splits

CLIPS_WORTH_A_PROCESS = 2000  # starting a process costs about as much as packing so many clips


@dataclass(frozen=True)
class Coverage:
    """What of one pack is there: clips that its lists name, those without a file, broken ones, packed ones."""

    listed: int
    missing: tuple[str, ...]
    broken: tuple[str, ...]
    packed: int
    not_a_second: int

    @property
    def state(self) -> str:
        if not self.listed:
            return "not there"
        absent = [f"{len(n)} {what}" for n, what in ((self.missing, "missing"), (self.broken, "broken")) if n]
        odd = [f"{self.not_a_second} not 1 s long"] if self.not_a_second else []
        return ", ".join([*absent, *odd]) or "ok"

    def summary(self) -> dict[str, Any]:
        """Numbers instead of names."""
        counts = {"missing": len(self.missing), "broken": len(self.broken)}
        return {**asdict(self), **counts, "state": self.state}


def prepare(config: Config, workers: int, verify: bool = False) -> dict[str, Any]:
    """Report what of the data set is there and pack it at `data.sample_rate`; returns the report as a mapping.

    Three packs: the clips of all training lists, of the test list, and the evaluation set where there is one. Clips
    without a file are listed in <packs>/<pack>.missing.tsv, broken ones in <pack>.broken.tsv. May be stopped and goes
    on. Raises UserError for malformed tables, and at the end where a list of the recipe or a clip of it is not there.
    """
    root, packs = root_of(config.data), packs_of(config.data)
    remove_partials(packs)
    meta = read_meta(root) if (root / "meta.csv").is_file() else None
    report = check_splits(root, meta)
    order: tuple[Split, ...] = (*SPLITS, "test")
    paths = {split: path for split in order if (path := find_split(root, split))}
    names = {split: [clip.filename for clip in read_list(path)] for split, path in paths.items()}
    # The largest list first: the pack stays the same when smaller lists are added or drawn anew.
    training = dict.fromkeys(name for split in reversed(SPLITS) for name in names.get(split, ()))
    sources = {"train": (root, list(training)), "test": (root, names.get("test", []))}
    evaluation = find_evaluation(root, config.data.evaluation, config.data.edition)
    if evaluation:
        sources[evaluation.name] = (evaluation, list(read_evaluation(evaluation).names))
    sets = {name: _pack(packs / name, *of, config.data.sample_rate, workers) for name, of in sources.items()}
    _show(root, sets, evaluation is not None, report)
    summary = {
        "root": str(root),
        "made_of": made_of(root),
        "sample_rate": config.data.sample_rate,
        "meta": len(meta) if meta is not None else None,
        "splits": report.as_dict(),
        "sets": {name: coverage.summary() for name, coverage in sets.items()},
    }
    write_json(packs / "coverage.json", summary)
    if verify:
        _verify([packs / name for name, coverage in sets.items() if coverage.packed])
    _check_needed(config, root, names, sets.values())
    return summary


def _show(root: Path, sets: Mapping[str, Coverage], evaluation: bool, report: SplitReport) -> None:
    rows = [[n, *map(str, (c.listed, len(c.missing), len(c.broken), c.packed)), c.state] for n, c in sets.items()]
    if not evaluation:
        rows.append(["evaluation", "-", "-", "-", "-", "not there"])
    whole = all(coverage.state == "ok" for coverage in sets.values())
    note = None if whole else "missing and broken clips are listed beside the packs"
    print_table(f"data set {root}", ["pack", "listed", "missing", "broken", "packed", "state"], rows, note=note)
    print_table("split lists", ["property", "verdict", "violations"], report.rows())


def _pack(folder: Path, root: Path, names: Sequence[str], sample_rate: int, workers: int) -> Coverage:
    """Pack those of the clips whose files are there."""
    missing = missing_audio(root, names)
    absent = set(missing)
    sources = [(name, root / name) for name in names if name not in absent]
    broken: tuple[tuple[str, str], ...] = ()
    packed = odd = 0
    if sources:
        processes = min(workers, 1 + len(sources) // CLIPS_WORTH_A_PROCESS)
        with progress(f"pack {folder.name}", len(sources)) as advance:
            report = write_pack(folder, sources, sample_rate, workers=processes, progress=advance.to, on_error="skip")
        broken, packed = report.skipped, report.clips
        odd = int(np.count_nonzero(open_pack(folder).lengths != sample_rate))
    _list_clips(folder.with_name(f"{folder.name}.missing.tsv"), ("filename",), [(name,) for name in missing])
    _list_clips(folder.with_name(f"{folder.name}.broken.tsv"), ("filename", "reason"), broken)
    return Coverage(len(names), tuple(missing), tuple(name for name, _ in broken), packed, odd)


def _list_clips(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        write_rows(path, columns, rows)
    else:
        path.unlink(missing_ok=True)


def _verify(packs: Sequence[Path]) -> None:
    damaged = [problem for pack in packs for problem in open_pack(pack).verify()]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise UserError(f"{damaged[0]}{more}; prepare again after removing it")


def made_of(root: Path) -> str:
    """ "toy" or "official"."""
    if (root / "toy.json").is_file():
        read_json(root / "toy.json")
        return "toy"
    return "official"


def _check_needed(config: Config, root: Path, names: Mapping[Split, Sequence[str]], sets: Iterable[Coverage]) -> None:
    """UserError where the recipe needs a list or a clip that is not there."""
    absent = {name for coverage in sets for name in (*coverage.missing, *coverage.broken)}
    needed: tuple[Split, ...] = (*config.data.splits, "test")
    for split in needed:
        path = split_file(root, split)
        gone = [name for name in names[split] if name in absent]
        if gone:
            what = f"{len(gone)} of {len(names[split])} clips have no (readable) file, the first is {gone[0]}"
            raise UserError(f"{path}: {what}; they are listed in {packs_of(config.data)}")
