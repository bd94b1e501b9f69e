"""Check a data set against the official layout, say exactly what is missing, and pack its audio."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.coverage import Coverage, cover, made_of, pack, root_of, write_embedded
from common.audio.coverage import verify as verify_packs
from common.audio.packs import open_pack
from common.run.errors import UserError
from common.run.files import remove_partials, write_json
from common.run.results.tables import print_table
from task1_asc.config import SPLITS, Config, DataConfig
from task1_asc.data.layout import (
    Split,
    find_evaluation,
    find_split,
    read_evaluation,
    read_list,
    read_meta,
    split_file,
)
from task1_asc.data.sets import packs_of
from task1_asc.data.splits import SplitReport, check_splits

CLIPS_WORTH_A_PROCESS = 2000  # starting a process costs about as much as packing so many clips


def write_toy_data(data: DataConfig) -> None:
    """The embedded data set, where the recipe asks for it."""
    from task1_asc.data.toy.write import write_toy

    write_embedded(data, write_toy)


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
    rate = config.data.sample_rate
    sets = {
        name: pack(cover((clip, folder / clip) for clip in clips), packs / name, rate, workers, CLIPS_WORTH_A_PROCESS)
        for name, (folder, clips) in sources.items()
    }
    odd = {name: _not_a_second(packs / name, rate) if of.packed else 0 for name, of in sets.items()}
    states = {name: _state(coverage, odd[name]) for name, coverage in sets.items()}
    _show(root, sets, states, evaluation is not None, report)
    summary = {
        "root": str(root),
        "made_of": made_of(root),
        "sample_rate": rate,
        "meta": len(meta) if meta is not None else None,
        "splits": report.as_dict(),
        "sets": {name: {**c.counts(), "not_a_second": odd[name], "state": states[name]} for name, c in sets.items()},
    }
    write_json(packs / "coverage.json", summary)
    if verify:
        verify_packs([packs / name for name, coverage in sets.items() if coverage.packed])
    _check_needed(config, root, names, sets.values())
    return summary


def _show(
    root: Path, sets: Mapping[str, Coverage], states: Mapping[str, str], evaluation: bool, report: SplitReport
) -> None:
    rows = [[name, *map(str, coverage.counts().values()), states[name]] for name, coverage in sets.items()]
    if not evaluation:
        rows.append(["evaluation", "-", "-", "-", "-", "not there"])
    whole = set(states.values()) == {"ok"}
    note = None if whole else "missing and broken clips are listed beside the packs"
    print_table(f"data set {root}", ["pack", "listed", "missing", "broken", "packed", "state"], rows, note=note)
    print_table("split lists", ["property", "verdict", "violations"], report.rows())


def _not_a_second(pack: Path, sample_rate: int) -> int:
    """Clips of a pack that have another length."""
    return int(np.count_nonzero(open_pack(pack).lengths != sample_rate))


def _state(coverage: Coverage, odd: int) -> str:
    if not coverage.listed:
        return "not there"
    counts = ((len(coverage.missing), "missing"), (len(coverage.broken), "broken"), (odd, "not 1 s long"))
    return ", ".join(f"{count} {what}" for count, what in counts if count) or "ok"


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
