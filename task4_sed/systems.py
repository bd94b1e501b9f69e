"""Who does a verb's work: the kinds of systems that recipes are of, each with its functions by name.

A new kind is an entry here; what it has no function for, it refuses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from common.run.errors import UserError


@dataclass(frozen=True)
class System:
    """A kind of system. work: what it does (verbs and their parts) -> module:function of this package."""

    called: str
    work: Mapping[str, str]

    def does(self, what: str) -> Any:
        """The function, imported now. Raises UserError where a system of this kind has none."""
        if what not in self.work:
            others = " or ".join(of.called for of in SYSTEMS.values() if what in of.work)
            raise UserError(f"{what}: the recipe is of {self.called}, expected one of {others}")
        module, _, name = self.work[what].partition(":")
        return getattr(import_module(f"{__package__}.{module}"), name)


FRAMEWISE = {
    "train": "training.train:train_framewise",
    "system": "training.framewise:FramewiseSystem",
    "counts": "evaluation.complexity:framewise_counts",
    "trained": "evaluation.complexity:framewise_parts",
}
# By Config.system.
SYSTEMS = {
    "challenge": System(
        "the challenge",
        {
            "prepare": "data.prepare:prepare_challenge",
            "train": "training.train:train_challenge",
            "predict": "inference.predict:predict_run",
            "predict --logits": "inference.predict:predict_logits",
            "evaluate": "evaluation.report:evaluate_runs",
            "evaluate --ensemble": "inference.ensemble:join",
            "ensembled": "inference.ensemble:ensembled",
            "compare": "evaluation.report:compare_challenge",
            "compare --runs-of": "evaluation.runs:challenge_parts",
            "package": "submission.package:package_runs",
            "benchmark": "evaluation.benchmark:benchmark",
            "counts": "evaluation.complexity:challenge_counts",
            "trained": "evaluation.complexity:challenge_parts",
        },
    ),
    "audioset": System(
        "frame-level pre-training",
        FRAMEWISE
        | {
            "prepare": "data.prepare_audioset:prepare_audioset",
            "classes": "data.own:framewise_classes",
            "data": "training.data:FramewiseData",
            "set": "data.own:framewise_set",
            "predict": "inference.framewise:predict_framewise",
            "predict --logits": "inference.framewise:predict_framewise_logits",
            "evaluate": "evaluation.framewise:evaluate_framewise",
            "evaluate --ensemble": "inference.ensemble:join",
            "ensembled": "inference.framewise:ensembled",
            "compare": "evaluation.framewise:compare_framewise",
        },
    ),
    "audioset_weak": System(
        "pre-training on clip labels",
        FRAMEWISE
        | {
            "prepare": "data.prepare_audioset:prepare_audioset",
            "classes": "data.weak:weak_classes",
            "data": "training.tagging:TaggingData",
            "system": "training.tagging:TaggingSystem",
            "predict": "inference.tagging:predict_tags",
            "predict --logits": "inference.tagging:predict_tag_logits",
            "evaluate": "evaluation.tagging:evaluate_tags",
        },
    ),
    "hear": System(
        "fine-tuning on a data set of HEAR",
        FRAMEWISE
        | {
            "prepare": "data.hear:prepare_hear",
            "classes": "data.hear:hear_classes",
            "data": "training.downstream:HearData",
            "predict": "inference.hear:predict_hear",
            "evaluate": "evaluation.downstream:evaluate_hear",
            "compare": "evaluation.downstream:compare_downstream",
            "compare --runs-of": "evaluation.downstream:hear_parts",
        },
    ),
    "desed": System(
        "fine-tuning on DESED",
        FRAMEWISE
        | {
            "prepare": "data.prepare:prepare_challenge",
            "classes": "data.desed:desed_classes",
            "data": "training.downstream:DesedData",
            "system": "training.downstream:DesedSystem",
            "set": "data.desed:desed_set",
            "predict": "inference.framewise:predict_framewise",
            "evaluate": "evaluation.framewise:evaluate_framewise",
            "compare": "evaluation.downstream:compare_downstream",
        },
    ),
}
