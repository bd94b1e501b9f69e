"""Checking a meta file: each field that the challenge reads, with the line it stands on."""

import math
import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from common.run.errors import did_you_mean
from common.run.marked_yaml import MISSING, MarkedYaml, read_marked
from common.run.submission import rules as submission
from common.run.submission.archive import Violation
from common.run.submission.rules import check_names, is_count, is_number, is_text, is_words
from common.run.yaml_lines import Key, dotted
from task2_anomaly.submission.editions import Edition
from task2_anomaly.submission.meta import DECIMALS, RESULT_KEYS, percent

TASK = "task2"
LABEL_FORM = submission.label_form(TASK)
SYSTEMS = 4  # of one team at most
LOWEST_PAUC = 100 * 9 / 19  # per cent: the official, standardised pAUC of the worst possible scores
DESCRIPTION = (
    *("input_sampling_rate", "data_augmentation", "front_end", "acoustic_features", "embeddings"),
    *("machine_learning_method", "aggregation_method", "ensemble_method_subsystem_count", "decision_making"),
    *("external_data_usage", "development_data_usage"),
)
NUMBERS = ("input_sampling_rate", "ensemble_method_subsystem_count")  # may be numbers as well
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
# {type: {metric: share}}: own results to compare a meta file with.
Results = Mapping[str, Mapping[str, float | None]]


def label_problem(label: str) -> str | None:
    """What is wrong with a system's label, or None."""
    return submission.label_problem(label, TASK, SYSTEMS)


def _is_text_or_null(value: Any) -> bool:
    return value is None or is_text(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _check_authors(meta: MarkedYaml, label: str) -> None:
    key: Key = ("submission", "authors")
    authors = meta.require(key, lambda value: isinstance(value, list) and bool(value), "a list of authors")
    if authors is MISSING:
        return
    corresponding: list[Key] = []
    for index in range(len(authors)):
        at = (*key, index)
        if meta.require(at, _is_mapping, "an author: lastname, firstname, ...") is MISSING:
            continue
        for part in ("lastname", "firstname"):
            meta.require((*at, part), is_text, "text")
        email = meta.require((*at, "email"), _is_text_or_null, "an address, or null")
        if isinstance(email, str) and not EMAIL.fullmatch(email):
            meta.report((*at, "email"), "meta-email", f"{email!r} is no e-mail address")
        for part in ("institution", "location"):
            meta.require((*at, "affiliation", part), _is_text_or_null, "text, or null")
        flag = meta.get(*at, "corresponding")
        if flag not in (MISSING, None, False):
            meta.require((*at, "corresponding"), lambda value: isinstance(value, bool), "true or false")
            corresponding.append(at)
    if len(corresponding) == 1:
        _check_corresponding(meta, corresponding[0], label)
    else:
        wrong = f"{len(corresponding)} authors have `corresponding: true`, expected exactly one"
        meta.report(key, "meta-corresponding", wrong)


def _check_corresponding(meta: MarkedYaml, at: Key, label: str) -> None:
    if meta.get(*at, "email") is None:
        meta.report((*at, "email"), "meta-email", "the corresponding author has no e-mail address")
    name = meta.get(*at, "lastname")
    if isinstance(name, str) and _letters(name) != _letters(label.split("_")[0]):
        wrong = f"the corresponding author is {name!r}, but the label begins with {label.split('_')[0]!r}"
        meta.report((*at, "lastname"), "meta-label-author", wrong, "warning")


def _letters(text: str) -> str:
    """Without accents, case, blanks and hyphens, as labels are written."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", text).casefold())


def _check_system(meta: MarkedYaml, counted: int | None) -> None:
    for name in DESCRIPTION:
        good = (lambda value: is_words(value) or is_number(value)) if name in NUMBERS else is_words
        expected = "a number, text or null" if name in NUMBERS else "text, a list of texts, or null"
        meta.require(("system", "description", name), good, expected)
    key: Key = ("system", "complexity", "total_parameters")
    parameters = meta.require(key, is_count, "a whole number")
    if counted is not None and parameters is not MISSING and parameters != counted:
        wrong = f"total_parameters is {parameters:,}, but the networks have {counted:,}"
        meta.report(key, "meta-complexity", wrong)
    _check_datasets(meta)
    code = meta.require(("system", "source_code"), _is_text_or_null, "a URL, or null")
    if isinstance(code, str) and "://" not in code:
        meta.report(("system", "source_code"), "meta-source", f"{code!r} is no address (https://...)", "warning")


def _check_datasets(meta: MarkedYaml) -> None:
    key: Key = ("system", "external_datasets")
    datasets = meta.require(key, lambda value: value is None or isinstance(value, list), "a list, or null")
    for index in range(len(datasets) if isinstance(datasets, list) else 0):
        at = (*key, index)
        if meta.require(at, _is_mapping, "a data set: name, url") is MISSING:
            continue
        meta.require((*at, "name"), is_text, "text")
        meta.require((*at, "url"), _is_text_or_null, "text, or null")


def _check_results(meta: MarkedYaml, edition: Edition, types: Collection[str] | None, results: Results | None) -> None:
    key: Key = ("results", "development_dataset")
    found = meta.require(key, lambda value: isinstance(value, dict) and bool(value), "results of each machine type")
    if found is MISSING:
        return
    for kind in found if types is None else sorted({*types, *map(str, found)}, key=str.casefold):
        at: Key = (*key, str(kind))
        if types is not None and kind not in types:
            hint = did_you_mean(str(kind), types)
            meta.report(at, "meta-type-unknown", f"{dotted(at)}: no machine type of this edition{hint}")
        elif kind not in found:  # incomplete results are taken
            meta.report(key, "meta-results", f"no results of {kind}", "warning")
        elif meta.require(at, _is_mapping, "results of that type") is not MISSING:
            for metric, name in RESULT_KEYS[edition].items():
                own = None if results is None else results.get(str(kind), {}).get(metric)
                _check_result(meta, (*at, name), own, lowest=LOWEST_PAUC if metric == "pauc" else 0.0)


def _check_result(meta: MarkedYaml, key: Key, own: float | None, lowest: float) -> None:
    """One figure in per cent, `own`: the share that the stored scores give."""
    value = meta.require(key, lambda v: v is None or is_number(v), "per cent, or null")
    if value is MISSING or value is None:
        return
    shown, expected = f"{dotted(key)} is {value:g}", percent(own)
    if 0 < value <= 1:
        meta.report(key, "meta-percent", f"{shown}, a share; expected per cent")
    elif not 0 <= value <= 100:
        meta.report(key, "meta-range", f"{shown}, expected 0 to 100")
    elif value < math.floor(10 * lowest) / 10:
        meta.report(key, "meta-pauc", f"{shown}, but the official pAUC is never below {lowest:.1f}")
    elif expected is not None and abs(value - expected) > 10**-DECIMALS:
        meta.report(key, "meta-stale", f"{shown}, but the system's development scores give {expected:g}")


def check_meta(
    text: str,
    label: str,
    file: str,
    edition: Edition = "2020",
    types: Collection[str] | None = None,
    counted: int | None = None,
    results: Results | None = None,
) -> list[Violation]:
    """All violations in the text of a meta file. `label` is the folder's name, `file` is for the messages.

    types: development machine types (None: any); counted: parameters of all networks; results: own results.
    """
    meta = read_marked(text, file)
    if meta.root is not None:
        check_names(meta, label)
        _check_authors(meta, label)
        _check_system(meta, counted)
        _check_results(meta, edition, types, results)
    return sorted(meta.found, key=lambda violation: violation.line or 0)
