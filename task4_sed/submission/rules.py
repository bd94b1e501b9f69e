"""The challenge's rules of a meta file: each field that it reads, with the line it stands on."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from common.run.marked_yaml import MarkedYaml, read_marked
from common.run.submission import rules as submission
from common.run.submission.rules import Rule, is_number, is_text, is_words, or_null
from common.run.submission.violations import Violation, in_order
from common.run.yaml_lines import NotYamlError, read_yaml
from task4_sed.submission.meta import FORM

TASK = "task4"
LABEL_FORM = submission.label_form(TASK)
BASELINE_LABEL = "Cornell_CMU_task4_1"
BASELINE_CODE = "dcase-repo/desed_task"
KNOWN_FEATURES = ("mfcc", "log-mel energies", "log-mel amplitude", "spectrogram", "CQT", "raw waveform")
ORGANISERS = "contains 'baseline', which is the organisers'"


def label_problem(label: str) -> str | None:
    """What is wrong with a system's label, or None."""
    wrong = submission.label_problem(label, TASK)
    return wrong or (None if _is_own(label) else f"{label!r} {ORGANISERS}")


def _is_own(text: str) -> bool:
    return "baseline" not in text.lower()


def _is_own_code(address: str) -> bool:
    return BASELINE_CODE not in address.lower()


def _is_share(value: float) -> bool:
    return 0 <= value <= 1


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _are_known(value: Any) -> bool:
    known = {name.lower() for name in KNOWN_FEATURES}
    return value is None or {name.lower() for name in ([value] if isinstance(value, str) else value)} <= known


USUAL = ", ".join(KNOWN_FEATURES)
NAMES = ("label", "name", "abbreviation")
CODE, FEATURES, RATE = "system.source_code", "system.description.acoustic_features", "input_sampling_rate"
METRICS = ("results.devtest.desed.PSDS1", "results.devtest.maestro.mPAUC")
RULES = (
    Rule("submission.label", BASELINE_LABEL.__ne__, "{value} is the baseline's label, expected your own", "meta-label"),
    *(Rule(f"submission.{key}", _is_own, f"{{key}} {{value!r}} {ORGANISERS}", "meta-baseline") for key in NAMES),
    *submission.author_rules(FORM),
    Rule(f"system.description.{RATE}", is_number, "a number (Hz)"),
    Rule(FEATURES, is_words, "null, text or a list of texts"),
    Rule(FEATURES, _are_known, f"unusual feature in {{value!r}}; usual: {USUAL}", "meta-features", "warning"),
    Rule("system.complexity.total_parameters", _is_integer, "an integer"),
    Rule(CODE, or_null(is_text), "an address, or !!null if closed"),
    Rule(CODE, or_null(_is_own_code), "{value} is the baseline's code, expected yours or !!null", "meta-source"),
    *submission.SOURCE_RULES[1:],
    *(Rule(key, _is_float, "a number with a decimal point, e.g. 0.49 or 1.0e-3") for key in METRICS),
    *(Rule(key, _is_share, "{key} is {value:g}, expected 0 to 1", "meta-range", "warning") for key in METRICS),
)


def cut_comments(text: str) -> str:
    """The text as the challenge's script parses it: every line cut at its first `#`, even inside quotes."""
    return "\n".join(line.split("#", 1)[0] for line in text.split("\n"))


def _parse(text: str, file: str) -> MarkedYaml:
    """The cut text, parsed; `root` is None where it is no YAML mapping."""
    meta = read_marked(cut_comments(text), file)
    if meta.root is None and "#" in text:
        first = meta.found[0]
        meta.found[0] = replace(first, message=f"{first.message}, note that lines are cut at '#'")
    return meta


def _cut_values(text: str, file: str) -> Iterator[Violation]:
    """Warnings of values that the challenge's script shortens because they contain `#`."""
    for number, line in enumerate(text.split("\n"), 1):
        if "#" not in line:
            continue
        cut = line.split("#", 1)[0]
        try:
            (whole, _), (short, _) = read_yaml(line.strip(" -")), read_yaml(cut.strip(" -"))
        except NotYamlError:
            continue
        if whole != short:
            message = f"the challenge's script cuts this line at '#', to {cut.strip()!r}"
            yield Violation(file, number, "meta-comment", message, "warning")


def check_meta(text: str, label: str, file: str) -> list[Violation]:
    """All violations in the text of a meta file. `label` is the folder's name, `file` is for the messages.

    Like the challenge's script it cuts each line at `#` before parsing.
    """
    meta = _parse(text, file)
    if meta.root is not None:
        meta.found.extend(_cut_values(text, file))
        submission.check_rules(meta, (*submission.naming_rules(label, None), *RULES))
        submission.check_corresponding(meta, FORM)
    return in_order(meta.found)
