"""The challenge's rules of a meta file: each field that it reads, with the line it stands on."""

from collections.abc import Mapping
from dataclasses import fields

from common.run.marked_yaml import MISSING, MarkedYaml, read_marked
from common.run.submission import rules as submission
from common.run.submission.rules import Rule, is_count, is_mapping, is_number, is_words, or_null
from common.run.submission.violations import Violation, in_order
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICES, MAX_BYTES, MAX_MACS, SCENES
from task1_asc.submission.meta import FORM, Description

TASK = "task1"
LAST_INDEX, USUAL_INDEX = 4, 3  # the challenge's script takes four systems, its template speaks of three
MEAN_TOLERANCE = 0.05  # per cent, of the overall accuracy against the mean of the scenes'
WORDS = "text, a list of texts, or null"
SYSTEM_RULES = (
    Rule("system.description.input_sampling_rate", lambda value: is_words(value) or is_number(value), WORDS),
    *(Rule(f"system.description.{field.name}", is_words, WORDS) for field in fields(Description)[1:]),
    Rule("system.complexity.total_model_size", is_count, "a whole number of bytes"),
    Rule("system.complexity.total_parameters", is_count, "a whole number"),
    Rule("system.complexity.macs", is_count, "a whole number"),
    *(
        Rule(
            f"system.complexity.{name}", most.__ge__, f"{name} is {{value:,}}, expected at most {most:,}", "meta-limit"
        )
        for name, most in (("total_model_size", MAX_BYTES), ("macs", MAX_MACS))
    ),
)
# Log loss and accuracy stand overall, by scene and by device.
PARTS = ("overall", *(f"class_wise.{scene}" for scene in SCENES), *(f"device_wise.{device}" for device in DEVICES))


def label_problem(label: str) -> str | None:
    """What is wrong with a system's label, or None."""
    return submission.label_problem(label, TASK, LAST_INDEX)


def _result_rules(split: int) -> list[Rule]:
    at = f"results.development_dataset.split_{split}"
    rules = [Rule(at, is_mapping, "results of that split")]
    for part in PARTS:
        loss, accuracy = f"{at}.{part}.logloss", f"{at}.{part}.accuracy"
        rules += [
            Rule(loss, or_null(is_number), "a number, or null"),
            Rule(loss, or_null(lambda v: v >= 0), "{key} is {value:g}, expected 0 or more", "meta-range"),
            Rule(accuracy, or_null(is_number), "a number, or null"),
            Rule(accuracy, or_null(lambda v: 0 <= v <= 100), "{key} is {value:g}, expected 0 to 100", "meta-range"),
        ]
    return rules


RULES = (
    *SYSTEM_RULES,
    *submission.author_rules(FORM),
    *submission.dataset_rules(FORM),
    *submission.SOURCE_RULES,
    *(rule for split in SPLITS for rule in _result_rules(split)),
)


def _check_complexity(meta: MarkedYaml, counted: Mapping[str, int]) -> None:
    """One byte per parameter or more, and what was counted of the model, where it is at hand."""
    names = {"total_model_size": "bytes", "total_parameters": "parameters", "macs": "macs"}
    given = {name: value for name in names if is_count(value := meta.get("system", "complexity", name))}
    size, parameters = given.get("total_model_size"), given.get("total_parameters")
    if size is not None and parameters is not None and size < parameters:
        wrong = f"total_model_size is {size:,} bytes for {parameters:,} parameters, expected one byte each or more"
        meta.report(("system", "complexity", "total_model_size"), "meta-size", wrong)
    for name, value in given.items():
        if counted and value != counted[names[name]]:
            wrong = f"{name} is {value:,}, but the model has {counted[names[name]]:,}"
            meta.report(("system", "complexity", name), "meta-complexity", wrong, "warning")


def _check_means(meta: MarkedYaml, split: int) -> None:
    """The overall accuracy is the mean of the scenes', and all are in per cent."""
    key = ("results", "development_dataset", f"split_{split}")

    def accuracy(*part: str) -> float | None:
        value = meta.get(*key, *part, "accuracy")
        return value if value is not MISSING and is_number(value) and 0 <= value <= 100 else None

    overall, scenes = accuracy("overall"), [accuracy("class_wise", scene) for scene in SCENES]
    known = [value for value in scenes if value is not None]
    if overall is None or len(known) < len(SCENES):
        return
    mean = sum(known) / len(known)
    if abs(mean - overall) > MEAN_TOLERANCE:
        wrong = f"overall accuracy of split_{split} is {overall:g}, but the mean of class_wise is {mean:.2f}"
        meta.report((*key, "overall", "accuracy"), "meta-mean", wrong)
    if 0 < max(known) <= 1:
        meta.report((*key, "class_wise"), "meta-percent", "accuracies expected in per cent", "warning")


def check_meta(text: str, label: str, file: str, counted: Mapping[str, int] | None = None) -> list[Violation]:
    """All violations in the text of a meta file. `label` is the folder's name, `file` is for the messages.

    counted: {"parameters", "bytes", "macs"} of the model, where it is at hand.
    """
    meta = read_marked(text, file)
    if meta.root is not None:
        submission.check_rules(meta, (*submission.naming_rules(label), *RULES))
        submission.check_corresponding(meta, FORM)
        _check_complexity(meta, counted or {})
        for split in SPLITS:
            _check_means(meta, split)
    return in_order(meta.found)
