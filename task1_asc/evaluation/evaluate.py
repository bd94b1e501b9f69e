"""Scoring output files, own or anybody's, against a ground truth.

    read_truth(path) -> Truth(names, labels, devices, segments)
    evaluate_outputs(outputs, truth, draws=1000, seed=0, allow_missing=False) -> dict
    evaluate_files(files, ground_truth, out=None, draws=1000, allow_missing=False, note=None) -> dict
        prints the tables; with `out` writes results.json and the plots there; this is `evaluate --scores FILE ...`

The uncertainty of a figure is that of its clips: 95 % intervals by bootstrap over segments, because the ten clips of
a segment are cut from one recording and are not independent.
"""

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file, read_rows, write_json
from common.run.results.intervals import bootstrap_interval
from common.run.results.tables import format_value, print_table
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICE_GROUPS, DEVICES, SCENES
from task1_asc.data.layout import ClipName, parse_name
from task1_asc.inference.scores import Outputs, clip_file, read_outputs, scene_index
from task1_asc.metrics import Parts, clip_losses, clip_sums, confusion, figures, flat, rank_score, scene_metrics, tree

DRAWS = 1000
PARTS = Parts(SCENES, DEVICES, DEVICE_GROUPS)
DEVICE_COLUMNS = ("source_label", "device_id")  # of the development set and of the evaluation set of 2025
SHOWN_SCENES = {"macro accuracy": "macro_accuracy", **{scene: f"classes/{scene}/accuracy" for scene in SCENES}}
SHOWN_DEVICES = {
    **{device: f"devices/{device}/accuracy" for device in DEVICES},
    **{f"{group} ({', '.join(of)})": f"groups/{group}/accuracy" for group, of in DEVICE_GROUPS.items()},
}


@dataclass(frozen=True)
class Truth:
    """Annotated clips: file names without folder, labels (clips,) indices into SCENES, devices (clips,) indices into
    DEVICES or -1, segments (clips,) numbers of the recordings that the clips are cut from."""

    names: tuple[str, ...]
    labels: np.ndarray
    devices: np.ndarray
    segments: np.ndarray


def read_truth(path: str | Path) -> Truth:
    """Ground truth from a meta.csv, a test.csv, or any table with columns filename and scene_label.

    Separated by tabs or, where the header has none, by commas. The device is a column source_label or device_id, else
    part of an official file name, as the segment is; clips with other names are segments of their own. Raises UserError
    (`file:line: ...`) for a missing column, an unknown scene, a file named twice, or no row at all.
    """
    path = existing_file(path, "ground truth")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        delimiter = "\t" if b"\t" in file.readline() else ","
    rows = read_rows(path, ("filename", "scene_label"), delimiter)
    if not rows:
        raise UserError(f"{path}: no rows below the header, expected one per clip")
    column = next((name for name in DEVICE_COLUMNS if name in rows[0]), None)
    seen: dict[str, str] = {}
    labels, devices, segments = [], [], []
    for row in rows:
        labels.append(scene_index(row))
        name = clip_file(row["filename"])
        if name in seen:
            raise UserError(f"{row.at}: {name} already stands at {seen[name]}")
        seen[name] = row.at
        clip = _official(name)
        device = row[column] if column else clip.device if clip else ""
        devices.append(DEVICES.index(device) if device in DEVICES else -1)
        segments.append("-".join(clip.recording) if clip else name)
    numbers = np.unique(segments, return_inverse=True)[1]
    return Truth(tuple(seen), np.array(labels), np.array(devices), numbers)


def _official(name: str) -> ClipName | None:
    """A file name of the data set's own form, taken apart."""
    try:
        return parse_name(f"audio/{name}")
    except UserError:
        return None


def evaluate_outputs(
    outputs: Outputs, truth: Truth, draws: int = DRAWS, seed: int = 0, allow_missing: bool = False
) -> dict[str, Any]:
    """`scene_metrics` of a system's labels and probabilities, with intervals.

    Adds {"intervals": the same tree with (low, high), "confusion": (10, 10) counts, "segments": int}. Log losses are
    None where the outputs have no probabilities. `allow_missing`: score only the clips that are there. Raises UserError
    for a clip that has no truth, and for an annotated clip that has no prediction unless `allow_missing`.
    """
    rows, sums = _scored(outputs, truth, allow_missing)
    labels, predicted, losses = _arrays(outputs, truth, rows)
    metrics = scene_metrics(PARTS, labels, predicted, losses, truth.devices[rows])
    by_segment = _by_segment(sums, truth.segments[rows])
    of_parts = (by_segment[..., 0] > 0).sum(axis=0)  # segments
    low, high = bootstrap_interval(
        lambda weights: figures(np.tensordot(weights, by_segment, 1), len(SCENES)),
        *(len(by_segment), draws, seed),
        share=np.arange(1 + 2 * len(of_parts)) <= len(of_parts),  # accuracies; log losses have no upper end
        units=np.concatenate(([len(by_segment)], of_parts, of_parts)),
    )
    ends = [None if np.isnan(a) else (a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    counts = confusion(labels, predicted, len(SCENES)).tolist()
    return metrics | {"intervals": tree(ends, PARTS), "confusion": counts, "segments": len(by_segment)}


def rank_interval(
    outputs: Sequence[Outputs], truth: Truth, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of the mean of several systems' macro accuracies, all drawn on the same segments.

    None unless all of them have the same clips.
    """
    scored = [_scored(of, truth, allow_missing=True) for of in outputs]
    rows = scored[0][0]
    if any(not np.array_equal(rows, other) for other, _ in scored):
        return None
    parts = [_by_segment(sums, truth.segments[rows]) for _, sums in scored]

    def mean_macro(weights: np.ndarray) -> float:
        return float(np.mean([figures(np.tensordot(weights, part, 1), len(SCENES))[0] for part in parts]))

    low, high = bootstrap_interval(mean_macro, len(parts[0]), draws, seed, share=True)
    return None if np.isnan(low) else (low, high)


def _scored(outputs: Outputs, truth: Truth, allow_missing: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the truth that have a prediction (n,), and what each adds to the figures (n, parts, 3)."""
    known = dict(zip(truth.names, range(len(truth.names)), strict=True))
    for name in outputs.names:
        if name not in known:
            raise UserError(f"{name}: predicted, but not in the ground truth{did_you_mean(name, truth.names[:1000])}")
    there = set(outputs.names)
    rows = np.array([row for row, name in enumerate(truth.names) if name in there])
    if len(rows) < len(truth.names) and not allow_missing:
        first = next(name for name in truth.names if name not in there)
        missing = len(truth.names) - len(rows)
        raise UserError(f"{first}: no prediction ({missing:,} of {len(truth.names):,} annotated clips have none)")
    return rows, clip_sums(PARTS, *_arrays(outputs, truth, rows), truth.devices[rows])


def _arrays(outputs: Outputs, truth: Truth, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Labels, predictions and losses (None where not known) of these rows of the truth, each (n,)."""
    place = dict(zip(outputs.names, range(len(outputs.names)), strict=True))
    order = np.array([place[truth.names[row]] for row in rows])
    labels = truth.labels[rows]
    losses = None if outputs.probabilities is None else clip_losses(outputs.probabilities[order], labels)
    return labels, outputs.labels[order], losses


def _by_segment(sums: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Sums over the clips of each segment: (clips, parts, 3), (clips,) -> (segments, parts, 3)."""
    members, inverse = np.unique(segments, return_inverse=True)
    total = np.zeros((len(members), *sums.shape[1:]))
    np.add.at(total, inverse, sums)
    return total


def sums_by_segment(outputs: Outputs, truth: Truth) -> np.ndarray:
    """What the clips of each segment add to the figures: (segments, parts, 3), segments by their number.

    Raises UserError for an annotated clip without prediction, and the other way round.
    """
    rows, sums = _scored(outputs, truth, allow_missing=False)
    return _by_segment(sums, truth.segments[rows])


def evaluate_files(
    files: Sequence[Path],
    ground_truth: Path,
    out: Path | None = None,
    draws: int = DRAWS,
    allow_missing: bool = False,
    note: str | None = None,
) -> dict[str, Any]:
    """Score output files against one ground truth, print tables, and give the rank score where all splits are there.

    A file's split is the number after `split` in its name or one of its folders (`....output.split_5.csv`,
    `split5/predictions/test.csv`).
    Returns {"files": {name: `evaluate_outputs`}, "rank_score": float | None, "rank_interval": (low, high) | None};
    with `out` writes it there as results.json, with the confusion matrix of each file and the accuracy per device.
    `note` stands below tables and plots. Raises UserError as the readers do, and for two files of one split.
    """
    if not files:
        raise UserError("evaluate: name at least one output file")
    truth = read_truth(ground_truth)
    outputs: dict[str, Outputs] = {}
    for path in files:
        name = name_of(path)
        if name in outputs:
            raise UserError(f"{path}: a second file for {name}, expected one per split")
        outputs[name] = read_outputs(path)
    results = {name: evaluate_outputs(of, truth, draws, 0, allow_missing) for name, of in outputs.items()}
    scored = add_rank(results, outputs, truth, draws)
    show(str(ground_truth), results, scored, note)
    if out is not None:
        from task1_asc.evaluation.plots import draw

        write_json(out / "results.json", scored)
        draw(out, results, note)
    return scored


def add_rank(
    results: Mapping[str, Any], outputs: Mapping[str, Outputs], truth: Truth, draws: int = DRAWS
) -> dict[str, Any]:
    """{"files": results, "rank_score": ..., "rank_interval": ...}; None unless all five splits are there."""
    names = [f"split{split}" for split in SPLITS]
    macro = {split: results.get(name, {}).get("macro_accuracy") for split, name in zip(SPLITS, names, strict=True)}
    score = rank_score(macro)
    interval = None if score is None else rank_interval([outputs[name] for name in names], truth, draws)
    return {"files": dict(results), "rank_score": score, "rank_interval": interval}


def name_of(path: Path) -> str:
    """`split5` for a file of that split, else the file's own name."""
    found = re.findall(r"split[_-]?(\d+)", "/".join(path.parts[-3:]))
    return f"split{found[-1]}" if found and int(found[-1]) in SPLITS else path.name


def show(title: str, results: Mapping[str, Any], scored: Mapping[str, Any], note: str | None = None) -> None:
    """Print accuracies (%) by scene and by device, and log losses: a column per system."""
    title = f"{title} ({note})" if note else title
    cells = {name: cells_of(of) for name, of in results.items()}
    for shown, what in ((SHOWN_SCENES, "by scene"), (SHOWN_DEVICES, "by device")):
        rows = [[label, *(percent(of.get(path)) for of in cells.values())] for label, path in shown.items()]
        print_table(f"{title}: accuracy (%) {what}", ["", *cells], [row for row in rows if set(row[1:]) != {"n/a"}])
    losses = [["log loss", *(_loss(of.get("log_loss")) for of in cells.values())]]
    losses.append(["clips", *(f"{of['clips']:,}" for of in results.values())])
    losses.append(["segments", *(f"{of['segments']:,}" for of in results.values())])
    print_table(f"{title}: log loss", ["", *cells], losses, "[ ]: 95 % interval, bootstrap over segments.")
    if scored["rank_score"] is not None:
        score = percent((scored["rank_score"], *(scored["rank_interval"] or (None, None))))
        print(f"rank score (mean of the splits' macro accuracies): {score} %{f' ({note})' if note else ''}")


# A figure and its interval.
Cell = tuple[float, float | None, float | None]


def cells_of(metrics: Mapping[str, Any]) -> dict[str, Cell]:
    """Figures with intervals of one result of `evaluate_outputs`, by path; without those that are not available."""
    ends = flat(metrics["intervals"])
    values = flat({key: value for key, value in metrics.items() if key != "intervals"})
    return {path: (values[path], *(pair or (None, None))) for path, pair in ends.items() if values[path] is not None}


def percent(cell: Cell | None) -> str:
    """`56.99 [55.1, 58.8]`."""
    if cell is None:
        return "n/a"
    value, low, high = (None if x is None else 100 * x for x in cell)
    return format_value(value, low, high, decimals=2)


def _loss(cell: Cell | None) -> str:
    return "n/a" if cell is None else format_value(*cell)
