"""Choosing cSEBBs parameters: grid search for the highest PSDS1 of each class, and its cross-validated figure.

Grids: of the package of Ebbers et al. 2024, of the organisers and of the winner of DCASE 2024 Task 4.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.progress import progress
from task4_sed.inference.postprocess.csebbs import Boxes, CsebbsParameters, change_segments, merge_segments, score_grids
from task4_sed.metrics.psds import PSDS1, psds, psds_statistics
from task4_sed.metrics.truth import Truth
from task4_sed.metrics.types import ScoreSet

FOLDS = 5
# A setting must be better by more than rounding errors to replace an earlier one.
_EQUAL = 1e-12


@dataclass(frozen=True)
class CsebbsGrid:
    """Filter lengths (s), combined with each absolute and then each relative merge threshold, never with both.

    class_wise: choose per class, or one setting for all classes.
    """

    filter_seconds: tuple[float, ...]
    merge_abs: tuple[float, ...]
    merge_rel: tuple[float, ...]
    class_wise: bool = True

    def settings(self) -> list[CsebbsParameters]:
        """All settings in the order in which ties are decided: the first one wins."""
        return [
            setting
            for length in self.filter_seconds
            for setting in (
                *(CsebbsParameters(length, value, np.inf) for value in self.merge_abs),
                *(CsebbsParameters(length, np.inf, value) for value in self.merge_rel),
            )
        ]


GRIDS = {
    "default": CsebbsGrid((0.32, 0.48, 0.64), (0.15, 0.2, 0.3), (1.5, 2.0, 3.0)),
    "organisers": CsebbsGrid((0.384, 0.512, 0.64), (0.15, 0.2, 0.3), (1.5, 2.0, 3.0), class_wise=False),
    "winner": CsebbsGrid(
        tuple(round(0.38 + 0.04 * i, 2) for i in range(8)),
        tuple(round(0.15 + 0.025 * i, 3) for i in range(8)),
        tuple(round(1.5 + 0.25 * i, 2) for i in range(8)),
    ),
}


@dataclass(frozen=True)
class Tuning:
    """Result of a grid search.

    parameters: per class; single_class: PSDS1 of each class with them, on the clips they were chosen on (optimistic);
    boxes: the boxes they give; cross_validated: PSDS1 of clips whose parameters were chosen without them.
    """

    parameters: dict[str, CsebbsParameters]
    single_class: dict[str, float]
    boxes: dict[str, Boxes]
    cross_validated: float


def grid(name: str) -> CsebbsGrid:
    """A grid by name: default, organisers, winner; another name is a UserError."""
    if name not in GRIDS:
        raise UserError(f"cSEBBs: no grid {name!r}{did_you_mean(name, GRIDS)}")
    return GRIDS[name]


def fold_of_clips(clips: Sequence[str], folds: int = FOLDS) -> np.ndarray:
    """Fold (clips,) of each clip: name-sorted clips, shuffled with seed 0 and dealt out in turn."""
    order = np.argsort(np.array(clips), kind="stable")
    shuffled = order[np.random.default_rng(0).permutation(len(clips))]
    fold = np.empty(len(clips), dtype=np.int64)
    fold[shuffled] = np.arange(len(clips)) % folds
    return fold


def _all_boxes(
    grids: Sequence[tuple[np.ndarray, ...]], classes: Sequence[str], settings: Sequence[CsebbsParameters]
) -> list[dict[str, Boxes]]:
    """Boxes of each setting; all settings share the length of the filter."""
    segments = {name: change_segments(grids, label, settings[0].filter_seconds) for label, name in enumerate(classes)}
    return [
        {name: merge_segments(segments[name], setting.merge_abs, setting.merge_rel) for name in classes}
        for setting in settings
    ]


def _chosen(values: np.ndarray, class_wise: bool) -> list[int]:
    """Index of the first best setting of each class, from values (settings, classes)."""
    if not class_wise:
        values = np.repeat(values.mean(axis=1, keepdims=True), values.shape[1], axis=1)
    return [int(np.argmax(column >= column.max() - _EQUAL)) for column in values.T]


def tune_csebbs(scores: ScoreSet, truth: Truth, of: CsebbsGrid, show_progress: bool = True) -> Tuning:
    """Choose the parameters with the highest single-class PSDS1 for the classes and clips of `truth`.

    The search is repeated without each of 5 folds of the clips; the boxes of a fold come from the parameters that were
    chosen without it, and the PSDS1 of all these boxes together is the cross-validated figure. Raises UserError for
    scores that are no probabilities and for fewer clips than folds.
    """
    classes, clips = truth.classes, truth.clips
    if len(clips) < FOLDS:
        raise UserError(f"cSEBBs: {len(clips)} clips to tune on, expected at least {FOLDS}")
    grids = score_grids(scores, clips, classes)
    fold = fold_of_clips(clips)
    weights = [None, *((fold != i).astype(np.float64) for i in range(FOLDS))]
    settings = of.settings()
    per_length = len(of.merge_abs) + len(of.merge_rel)
    values = np.empty((len(weights), len(settings), len(classes)))
    kept: list[dict[str, Boxes]] = []
    with progress("cSEBBs", len(settings), "settings") if show_progress else nullcontext(_nothing) as advance:
        for start in range(0, len(settings), per_length):
            for boxes in _all_boxes(grids, classes, settings[start : start + per_length]):
                found = [boxes[name].detections() for name in classes]
                statistics = psds_statistics(found, truth, PSDS1)
                for i, weight in enumerate(weights):
                    values[i, len(kept)] = list(psds(statistics, weight).single_class.values())
                kept.append(boxes)
                advance()
    chosen = [_chosen(of_weights, of.class_wise) for of_weights in values]
    held_out = [
        _of_folds([kept[chosen[i + 1][label]][name] for i in range(FOLDS)], fold) for label, name in enumerate(classes)
    ]
    best = dict(zip(classes, chosen[0], strict=True))
    return Tuning(
        {name: settings[i] for name, i in best.items()},
        {name: float(values[0, i, label]) for label, (name, i) in enumerate(best.items())},
        {name: kept[i][name] for name, i in best.items()},
        psds(psds_statistics([boxes.detections() for boxes in held_out], truth, PSDS1)).value,
    )


def _nothing(*_: object, **__: object) -> None:
    """Progress that isn't shown."""


def _of_folds(candidates: Sequence[Boxes], fold: np.ndarray) -> Boxes:
    """The boxes of each fold's clips from that fold's candidate."""
    parts = []
    for i, boxes in enumerate(candidates):
        own = fold[boxes.clip] == i
        parts.append((boxes.clip[own], boxes.onset[own], boxes.offset[own], boxes.confidence[own]))
    return Boxes(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def describe(parameters: Mapping[str, CsebbsParameters]) -> dict[str, dict[str, float | str]]:
    """Parameters as JSON-able values; infinity as the word "inf"."""

    def shown(value: float) -> float | str:
        return "inf" if value == np.inf else value

    return {
        name: {"filter": p.filter_seconds, "abs": shown(p.merge_abs), "rel": shown(p.merge_rel)}
        for name, p in parameters.items()
    }
