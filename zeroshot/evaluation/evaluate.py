"""Scoring files of clip, class, score, own or anybody's, against a ground truth.

read_truth(path) -> Truth(clips, classes, labels, judged, single)
figures(scores, truth, source="scores") -> dict      `classification` or `tagging`, with intervals over classes
evaluate_files(files, ground_truth, out=None, note=None) -> dict      this is `evaluate --scores FILE ...`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError
from common.run.files import existing_file, write_json
from common.run.results.tables import format_value, print_table
from zeroshot.inference.scores import Scores, read_pairs, read_scores
from zeroshot.metrics import by_class, class_interval, classification, tagging

ESC_COLUMNS, COLUMNS = ("filename", "category"), ("clip", "class")
NOTE = "[ ]: 95 % interval, bootstrap over test classes; none for fewer than ten."


@dataclass(frozen=True)
class Truth:
    """Clips and their classes: labels, judged (clips, classes) bool; single: one class each, all pairs judged."""

    clips: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    single: bool


def read_truth(path: Path) -> Truth:
    """A table of filename and category (ESC-50's meta file), or of clip and class, where a clip may stand often.

    With a column value (1 or 0) pairs that are not listed are not judged, as in OpenMIC; without one they are negative.
    Raises UserError for a missing column, a pair that stands twice, another value, or no rows.
    """
    with open(existing_file(path, "ground truth"), encoding="utf-8", errors="replace") as file:
        names = ESC_COLUMNS if "filename" in file.readline() else COLUMNS
    pairs = read_pairs(path, names)
    labels, masked = np.zeros((len(pairs.clips), len(pairs.classes)), bool), "value" in pairs.table
    judged = np.full(labels.shape, not masked)
    judged[pairs.rows, pairs.columns] = True
    value = pairs.table["value"].to_numpy() if masked else np.full(len(pairs.table), "1")
    if not (known := np.isin(value.astype(str), ("0", "1"))).all():
        row = int(known.argmin())
        raise UserError(f"{path}:{row + 2}: value is {value[row]!r}, expected 1 or 0")
    labels[pairs.rows, pairs.columns] = value == "1"
    single = bool((labels.sum(axis=1) == 1).all() and judged.all())
    return Truth(pairs.clips, pairs.classes, labels, judged, single)


def figures(scores: Scores, truth: Truth, source: str = "scores") -> dict[str, Any]:
    """Metrics of scores on the classes that they are for, with "kind" and "interval" of the main figure.

    Of single-label truth the clips of other classes are left out; of tags they stay, as negatives. Raises UserError
    for clips without scores, and for classes that are not in the truth.
    """
    place = {name: i for i, name in enumerate(truth.classes)}
    if unknown := [name for name in scores.classes if name not in place]:
        raise UserError(f"{source}: class {unknown[0]!r} is not in the ground truth")
    columns = [place[name] for name in scores.classes]
    labels, judged = truth.labels[:, columns], truth.judged[:, columns]
    rows = np.flatnonzero(labels.any(axis=1)) if truth.single else np.arange(len(labels))
    if not len(rows):
        raise UserError(f"{source}: no clip of its classes in the ground truth")
    values = scores.of(tuple(truth.clips[row] for row in rows), scores.classes, source)
    if truth.single:
        found = classification(scores.classes, values, labels[rows].argmax(axis=1))
    else:
        found = tagging(scores.classes, values, labels, judged)
    kind = "accuracy" if truth.single else "mAP"
    return {"kind": kind, **found, "interval": class_interval([by_class({"kind": kind, **found})])}


def evaluate_files(
    files: Sequence[Path], ground_truth: Path, out: Path | None = None, note: str | None = None
) -> dict[str, Any]:
    """Score files against one ground truth, print the table; with `out` write results.json and plots there."""
    if not files:
        raise UserError("evaluate: name at least one file of scores")
    truth = read_truth(ground_truth)
    results = {str(path): figures(read_scores(path), truth, str(path)) for path in files}
    show(str(ground_truth), results, note)
    if out is not None:
        from zeroshot.evaluation.plots import draw

        write_json(out / "results.json", results)
        for index, of in enumerate(results.values()):
            draw(out, f"scores{index + 1}" if len(results) > 1 else "scores", of, note)
    return results


def show(title: str, results: Mapping[str, Mapping[str, Any]], note: str | None = None) -> None:
    """Print a row for each result: the main figure with its interval, chance, the second figure."""
    kind = next(iter(results.values()))["kind"]
    head = ["", kind, "chance", "top-3" if kind == "accuracy" else "ROC-AUC", "classes", "clips"]
    rows = [[name, *cells(of)] for name, of in results.items()]
    print_table(f"{title}: {kind} (%)", head, rows, f"{NOTE} {note or ''}".strip())


def cells(of: Mapping[str, Any]) -> list[str]:
    """Main figure, chance, second figure (per cent), classes and clips of one result."""
    second, chance = ("top-3", "chance") if of["kind"] == "accuracy" else ("ROC-AUC", "prevalence")
    return [
        percent(of[of["kind"]], of["interval"]),
        percent(of[chance]),
        percent(of[second]),
        f"{len(of['classes']):,}",
        f"{of['clips']:,}",
    ]


def percent(value: float | None, interval: Sequence[float] | None = None) -> str:
    """`82.4 [76, 88]`."""
    ends = interval or (None, None)
    value, low, high = (None if of is None else 100 * of for of in (value, *ends))
    return format_value(value, low, high, decimals=1)
