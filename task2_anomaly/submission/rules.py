"""The challenge's rules of a meta file: each field that it reads, with the line it stands on."""

import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from functools import partial

from common.run.errors import did_you_mean
from common.run.marked_yaml import MISSING, Key, MarkedYaml, dotted, read_marked
from common.run.submission import rules as submission
from common.run.submission.rules import Rule, is_count, is_mapping, is_number, is_words, or_null
from common.run.submission.violations import Violation, in_order
from task2_anomaly.submission.editions import Edition
from task2_anomaly.submission.meta import DECIMALS, FORM, RESULT_KEYS, Description, percent

TASK = "task2"
SYSTEMS = 4  # of one team at most
LOWEST_PAUC = 100 * 9 / 19  # per cent: the official, standardised pAUC of the worst possible scores
NUMBERS = ("input_sampling_rate", "ensemble_method_subsystem_count")  # may be numbers as well
WORDS = tuple(f.name for f in fields(Description) if f.name not in (*NUMBERS, "domain_adaptation_method"))
RESULTS = ("results", "development_dataset")
RULES = (
    *submission.author_rules(FORM),
    *(Rule(f"system.description.{name}", is_words, "text, a list of texts, or null") for name in WORDS),
    *(
        Rule(f"system.description.{name}", lambda v: is_words(v) or is_number(v), "a number, text or null")
        for name in NUMBERS
    ),
    Rule("system.complexity.total_parameters", is_count, "a whole number"),
    *submission.dataset_rules(FORM),
    *submission.SOURCE_RULES,
    Rule(RESULTS, lambda value: isinstance(value, dict) and bool(value), "results of each machine type"),
)
# {type: {metric: share}}: own results to compare a meta file with.
Results = Mapping[str, Mapping[str, float | None]]


def label_problem(label: str) -> str | None:
    """What is wrong with a system's label, or None."""
    return submission.label_problem(label, TASK, SYSTEMS)


def _result_rules(kind: str, edition: Edition, own: Mapping[str, float | None]) -> Iterator[Rule]:
    """Figures of a machine type in per cent. own: the shares that the stored scores give."""
    yield Rule((*RESULTS, kind), is_mapping, "results of that type")
    for metric, name in RESULT_KEYS[edition].items():
        key, given = (*RESULTS, kind, name), percent(own.get(metric))
        yield Rule(key, or_null(is_number), "per cent, or null")
        share, range_ = "{key} is {value:g}, a share; expected per cent", "{key} is {value:g}, expected 0 to 100"
        yield Rule(key, or_null(lambda v: not 0 < v <= 1), share, "meta-percent")
        yield Rule(key, or_null(lambda v: 0 <= v <= 100), range_, "meta-range")
        if metric == "pauc":
            wrong = f"{{key}} is {{value:g}}, but the official pAUC is never below {LOWEST_PAUC:.1f}"
            yield Rule(key, or_null(lambda v: v >= math.floor(10 * LOWEST_PAUC) / 10), wrong, "meta-pauc")
        if given is not None:
            wrong = f"{{key}} is {{value:g}}, but the system's development scores give {given:g}"
            yield Rule(key, or_null(partial(_is_near, given)), wrong, "meta-stale")


def _is_near(given: float, value: float) -> bool:
    return abs(value - given) <= 10**-DECIMALS


def _check_label_author(meta: MarkedYaml, at: Key | None, label: str) -> None:
    """Warn where the label doesn't begin with the name of the corresponding author (at `at`)."""
    name, first = meta.get(*at, "lastname") if at else MISSING, label.split("_")[0]
    if at and isinstance(name, str) and _letters(name) != _letters(first):
        wrong = f"the corresponding author is {name!r}, but the label begins with {first!r}"
        meta.report((*at, "lastname"), "meta-label-author", wrong, "warning")


def _letters(text: str) -> str:
    """Without accents, case, blanks and hyphens, as labels are written."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", text).casefold())


def _check_results(meta: MarkedYaml, edition: Edition, types: Collection[str] | None, results: Results) -> None:
    """Results of every machine type. types: those of the edition (None: any)."""
    found = meta.get(*RESULTS)
    for kind in map(str, found if isinstance(found, dict) else ()):
        if types is None or kind in types:
            submission.check_rules(meta, _result_rules(kind, edition, results.get(kind, {})))
        else:
            at = (*RESULTS, kind)
            hint = did_you_mean(kind, types)
            meta.report(at, "meta-type-unknown", f"{dotted(at)}: no machine type of this edition{hint}")
    for kind in sorted(set(types or ()) - set(found), key=str.casefold) if isinstance(found, dict) and found else ():
        meta.report(RESULTS, "meta-results", f"no results of {kind}", "warning")  # incomplete results are taken


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
    if meta.root is None:
        return meta.found
    submission.check_rules(meta, (*submission.naming_rules(label), *RULES))
    _check_label_author(meta, submission.check_corresponding(meta, FORM), label)
    key = ("system", "complexity", "total_parameters")
    parameters = meta.get(*key)
    if counted is not None and is_count(parameters) and parameters != counted:
        wrong = f"total_parameters is {parameters:,}, but the networks have {counted:,}"
        meta.report(key, "meta-complexity", wrong)
    _check_results(meta, edition, types, results or {})
    return in_order(meta.found)
