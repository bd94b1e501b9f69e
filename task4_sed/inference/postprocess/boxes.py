"""The cSEBBs argument of an evaluation: fixed settings, a table of parameters, or tuning."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.numbers import number
from task4_sed.inference.postprocess.csebbs import Boxes, CsebbsParameters, boxes_to_scores, csebbs, read_parameters
from task4_sed.inference.postprocess.tuning import describe, grid, tune_csebbs
from task4_sed.metrics.truth import Truth
from task4_sed.metrics.types import ScoreSet

_KEYS = {"filter": "filter_seconds", "abs": "merge_abs", "rel": "merge_rel"}


def parse_csebbs(text: str) -> CsebbsParameters | Mapping[str, CsebbsParameters]:
    """Parameters from "default", "filter=0.64,abs=0.2,rel=inf" (what isn't named: default), or a table's path."""
    if text == "default":
        return CsebbsParameters()
    if text.endswith(".tsv"):
        return read_parameters(text)
    values: dict[str, float] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key not in _KEYS:
            raise UserError(
                f"csebbs {text!r}: expected default, tune[:default|:organisers|:winner], filter=F,abs=A,rel=R or a .tsv"
                f"{did_you_mean(key, _KEYS) if equals else ''}"
            )
        try:
            values[_KEYS[key]] = number(value)
        except ValueError:
            raise UserError(f"csebbs {text!r}: {key} is {value!r}, expected a number or inf") from None
    return CsebbsParameters(**values)


def make_boxes(
    scores: ScoreSet, truth: Truth, text: str, show_progress: bool
) -> tuple[dict[str, Boxes], dict[str, Any], float | None]:
    """Boxes of the classes of `truth`, a description of the setting, and the cross-validated PSDS1 if it was tuned."""
    mode, _, name = text.partition(":")
    if mode == "tune":
        tuned = tune_csebbs(scores, truth, grid(name or "default"), show_progress)
        described = {"setting": text, "parameters": describe(tuned.parameters), "tuned_on_the_same_clips": True}
        return tuned.boxes, described, tuned.cross_validated
    parameters = parse_csebbs(text)
    in_order = ScoreSet(scores.classes, {clip: scores.clips[clip] for clip in truth.clips})
    boxes = csebbs(in_order, parameters, truth.classes)
    if isinstance(parameters, CsebbsParameters):
        parameters = dict.fromkeys(truth.classes, parameters)
    return boxes, {"setting": text, "parameters": describe({c: parameters[c] for c in truth.classes})}, None


def box_scores(boxes: Mapping[str, Boxes], truth: Truth) -> ScoreSet:
    """Boxes as scores, -inf outside, up to the end of each clip (or of its last box)."""
    ends = truth.durations.copy()
    for of_class in boxes.values():
        np.maximum.at(ends, of_class.clip, of_class.offset)
    return boxes_to_scores(boxes, dict(zip(truth.clips, ends.tolist(), strict=True)))


def number_of_boxes(boxes: Sequence[Boxes]) -> int:
    """Boxes of all classes and clips."""
    return sum(len(of_class.clip) for of_class in boxes)
