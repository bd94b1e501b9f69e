"""Check a recipe's data sets against their layouts, say exactly what is missing, pack their audio, list the splits."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from common.audio.coverage import Coverage, cover, made_of, pack, root_of, write_embedded
from common.audio.coverage import verify as verify_packs
from common.run.errors import UserError
from common.run.files import remove_partials, write_json
from common.run.results.tables import print_table
from zeroshot.config import Config, DataConfig, TrainingDataConfig
from zeroshot.data.layout import Listed, read_listed
from zeroshot.data.sets import PACK, DataSets, packs_of
from zeroshot.data.splits import class_splits
from zeroshot.data.texts import class_texts

CLIPS_WORTH_A_PROCESS = 400  # starting a process costs about as much as packing so many clips
SHOWN = 10  # splits in the table


def write_toy_data(data: DataConfig) -> None:
    """The embedded data set, where the recipe asks for it."""
    from zeroshot.data.toy.write import write_toy

    write_embedded(data, write_toy)


def prepare(config: Config, workers: int, verify: bool = False) -> dict[str, Any]:
    """Report what of the data sets is there and pack it at `data.sample_rate`; returns the report as a mapping.

    Clips without a file are listed in <packs>/clips.missing.tsv, broken ones in clips.broken.tsv. May be stopped and
    goes on. Raises UserError for malformed tables, texts and splits, and at the end where a class of a split has no
    clip.
    """
    texts = class_texts(config)  # before the long work
    splits = class_splits(config)
    places: dict[str, DataConfig | TrainingDataConfig] = {"test": config.data}
    if config.data.training is not None:
        places["training"] = config.data.training
    sets = {name: _pack(place, config.data.sample_rate, workers) for name, place in places.items()}
    if verify:
        verify_packs(packs_of(place, config.data.sample_rate) / PACK for place in places.values())
    data = DataSets(config)
    shown = {split.name: _describe(data.parts(split)) for split in splits}
    _show_splits(shown)
    summary = {
        "root": str(root_of(config.data)),
        "made_of": made_of(root_of(config.data)),
        "sample_rate": config.data.sample_rate,
        "classes": len(texts),
        "sets": sets,
        "splits": shown,
    }
    write_json(packs_of(config.data, config.data.sample_rate) / "coverage.json", summary)
    return summary


def _pack(place: DataConfig | TrainingDataConfig, rate: int, workers: int) -> dict[str, Any]:
    """Pack a data set; its numbers by clip fold and by class."""
    root, packs = root_of(place), packs_of(place, rate)
    remove_partials(packs)
    listed = read_listed(root, place.layout)
    found = pack(
        cover(zip(listed.names, listed.files, strict=True)), packs / PACK, rate, workers, CLIPS_WORTH_A_PROCESS
    )
    if not found.packed:
        raise UserError(f"{root}: none of its {found.listed} listed clips has a readable file, e.g. {listed.files[0]}")
    absent = {*found.missing, *found.broken}
    by_fold = _by_fold(listed, absent)
    rows = [["all", *map(str, found.counts().values())]]
    rows += [[f"fold {fold}", str(n), "", "", str(there)] for fold, (n, there) in by_fold.items()]
    note = f"missing and broken clips are listed in {packs}" if absent else None
    print_table(f"{place.layout} {root}", ["clips", "listed", "missing", "broken", "packed"], rows, note=note)
    return {"layout": place.layout, **found.counts(), **_by_class(listed, absent), "state": _state(found)}


def _by_fold(listed: Listed, absent: set[str]) -> dict[int, tuple[int, int]]:
    """{clip fold: clips listed, clips there}."""
    there = Counter(int(f) for f, name in zip(listed.folds, listed.names, strict=True) if name not in absent)
    return {fold: (count, there[fold]) for fold, count in sorted(Counter(listed.folds.tolist()).items())}


def _by_class(listed: Listed, absent: set[str]) -> dict[str, Any]:
    """Positive clips of each class that are there, and judged ones where labels are partial."""
    kept = [number for number, name in enumerate(listed.names) if name not in absent]
    found = {"positive": dict(zip(listed.classes, listed.labels[kept].sum(axis=0).tolist(), strict=True))}
    if not listed.judged.all():
        found["judged"] = dict(zip(listed.classes, listed.judged[kept].sum(axis=0).tolist(), strict=True))
    return found


def _state(coverage: Coverage) -> str:
    counts = ((len(coverage.missing), "missing"), (len(coverage.broken), "broken"))
    return ", ".join(f"{count} {what}" for count, what in counts if count) or "ok"


def _describe(parts: Any) -> dict[str, int]:
    of = parts.split
    return {
        "training classes": len(of.train),
        "validation classes": len(of.val),
        "test classes": len(of.test),
        "training clips": len(parts.train),
        "test clips": len(parts.test),
        "barred by labels": parts.barred["labels"],
        "barred by relatives": parts.barred["relatives"],
    }


def _show_splits(shown: Mapping[str, Mapping[str, int]]) -> None:
    first = list(shown.items())[:SHOWN]
    note = f"the first {SHOWN} of {len(shown)} splits" if len(shown) > SHOWN else None
    columns = [column.replace(" classes", "\nclasses").replace(" clips", "\nclips") for column in first[0][1]]
    rows = [[name, *map(str, of.values())] for name, of in first]
    print_table("class splits", ["split", *columns], rows, note=note)
