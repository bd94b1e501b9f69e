"""Checking a meta file: each field that the challenge reads, with the line it stands on."""

import math
import re
from collections.abc import Mapping

from common.run.marked_yaml import MISSING, MarkedYaml, read_marked
from common.run.submission import rules as submission
from common.run.submission.archive import Violation
from common.run.submission.rules import check_names, is_count, is_number, is_text, is_words
from common.run.yaml_lines import Key, dotted
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICES, MAX_BYTES, MAX_MACS, SCENES

TASK = "task1"
LABEL_FORM = submission.label_form(TASK)
LAST_INDEX, USUAL_INDEX = 4, 3  # the challenge's script takes four systems, its template speaks of three
MEAN_TOLERANCE = 0.05  # per cent, of the overall accuracy against the mean of the scenes'
DESCRIPTION = (
    *("input_sampling_rate", "acoustic_features", "data_augmentation", "machine_learning_method"),
    *("external_data_usage", "complexity_management", "pipeline", "framework"),
    *("split_adaptations", "system_adaptations"),
)
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def label_problem(label: str) -> str | None:
    """What is wrong with a system's label, or None."""
    return submission.label_problem(label, TASK, LAST_INDEX)


def _check_authors(meta: MarkedYaml) -> None:
    key: Key = ("submission", "authors")
    authors = meta.require(key, lambda value: isinstance(value, list) and bool(value), "a list of authors")
    if authors is MISSING:
        return
    corresponding = 0
    for index in range(len(authors)):
        at = (*key, index)
        if meta.require(at, lambda value: isinstance(value, dict), "an author: lastname, firstname, ...") is MISSING:
            continue
        for part in ("lastname", "firstname"):
            meta.require((*at, part), is_text, "text")
        email = meta.require((*at, "email"), lambda value: value is None or is_text(value), "an address, or null")
        if isinstance(email, str) and not EMAIL.fullmatch(email):
            meta.report((*at, "email"), "meta-email", f"{email!r} is no e-mail address")
        flag = meta.get(*at, "corresponding")
        if flag not in (MISSING, None, True, False):
            meta.require((*at, "corresponding"), lambda value: isinstance(value, bool), "true or false")
            corresponding += 1  # said to be one, in the wrong way
        elif flag is True:
            corresponding += 1
            if email is None:
                meta.report((*at, "email"), "meta-email", "the corresponding author has no e-mail address")
        for part in ("abbreviation", "institute", "location"):
            meta.require((*at, "affiliation", part), lambda value: value is None or is_text(value), "text, or null")
    if corresponding != 1:
        wrong = f"{corresponding} authors have `corresponding: true`, expected exactly one"
        meta.report(key, "meta-corresponding", wrong)


def _check_system(meta: MarkedYaml, counted: Mapping[str, int] | None) -> None:
    for name in DESCRIPTION:
        good = (lambda value: is_words(value) or is_number(value)) if name == "input_sampling_rate" else is_words
        meta.require(("system", "description", name), good, "text, a list of texts, or null")
    complexity: Key = ("system", "complexity")
    size = meta.require((*complexity, "total_model_size"), is_count, "a whole number of bytes")
    parameters = meta.require((*complexity, "total_parameters"), is_count, "a whole number")
    macs = meta.require((*complexity, "macs"), is_count, "a whole number")
    for name, value, limit in (("total_model_size", size, MAX_BYTES), ("macs", macs, MAX_MACS)):
        if value is not MISSING and value > limit:
            meta.report((*complexity, name), "meta-limit", f"{name} is {value:,}, expected at most {limit:,}")
    if MISSING not in (size, parameters) and size < parameters:
        wrong = f"total_model_size is {size:,} bytes for {parameters:,} parameters, expected one byte each or more"
        meta.report((*complexity, "total_model_size"), "meta-size", wrong)
    names = {"total_model_size": "bytes", "total_parameters": "parameters", "macs": "macs"}
    for (name, of), value in zip(names.items(), (size, parameters, macs), strict=True):
        if counted is not None and value is not MISSING and value != counted[of]:
            wrong = f"{name} is {value:,}, but the model has {counted[of]:,}"
            meta.report((*complexity, name), "meta-complexity", wrong, "warning")
    _check_datasets(meta)
    code = meta.require(("system", "source_code"), lambda value: value is None or is_text(value), "a URL, or null")
    if isinstance(code, str) and "://" not in code:
        meta.report(("system", "source_code"), "meta-source", f"{code!r} is no address (https://...)", "warning")


def _check_datasets(meta: MarkedYaml) -> None:
    key: Key = ("system", "external_datasets")
    datasets = meta.require(key, lambda value: value is None or isinstance(value, list), "a list, or null")
    for index in range(len(datasets) if isinstance(datasets, list) else 0):
        at = (*key, index)
        if meta.require(at, lambda value: isinstance(value, dict), "a data set: name, url, ...") is MISSING:
            continue
        meta.require((*at, "name"), is_text, "text")
        meta.require((*at, "url"), lambda value: value is None or is_text(value), "text, or null")
        meta.require((*at, "total_audio_length"), lambda value: value is None or is_number(value), "minutes, or null")


def _check_results(meta: MarkedYaml) -> None:
    for split in SPLITS:
        key: Key = ("results", "development_dataset", f"split_{split}")
        if meta.require(key, lambda value: isinstance(value, dict), "results of that split") is MISSING:
            continue
        overall = _check_pair(meta, (*key, "overall"))
        scenes = [_check_pair(meta, (*key, "class_wise", scene)) for scene in SCENES]
        for device in DEVICES:
            _check_pair(meta, (*key, "device_wise", device))
        known = [value for value in scenes if value is not None]
        if overall is not None and len(known) == len(SCENES):
            mean = sum(known) / len(known)
            if abs(mean - overall) > MEAN_TOLERANCE:
                wrong = f"overall accuracy of split_{split} is {overall:g}, but the mean of class_wise is {mean:.2f}"
                meta.report((*key, "overall", "accuracy"), "meta-mean", wrong)
            if 0 < max(known) <= 1:
                meta.report((*key, "class_wise"), "meta-percent", "accuracies expected in per cent", "warning")


def _check_pair(meta: MarkedYaml, key: Key) -> float | None:
    """A log loss and an accuracy; the accuracy where it is a number."""
    accuracy = None
    for name, highest in (("logloss", math.inf), ("accuracy", 100.0)):
        value = meta.require((*key, name), lambda v: v is None or is_number(v), "a number, or null")
        if value is MISSING or value is None:
            continue
        if not 0 <= value <= highest:
            limits = "0 to 100" if name == "accuracy" else "0 or more"
            meta.report((*key, name), "meta-range", f"{dotted((*key, name))} is {value:g}, expected {limits}")
        elif name == "accuracy":
            accuracy = float(value)
    return accuracy


def check_meta(text: str, label: str, file: str, counted: Mapping[str, int] | None = None) -> list[Violation]:
    """All violations in the text of a meta file. `label` is the folder's name, `file` is for the messages.

    counted: {"parameters", "bytes", "macs"} of the model, where it is at hand.
    """
    meta = read_marked(text, file)
    if meta.root is not None:
        check_names(meta, label)
        _check_authors(meta)
        _check_system(meta, counted)
        _check_results(meta)
    return sorted(meta.found, key=lambda violation: violation.line or 0)
