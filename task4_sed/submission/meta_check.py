"""Checking a meta file: each field that the challenge reads, with the line it stands on."""

import math
import re
import reprlib
from dataclasses import replace

from common.run.marked_yaml import MarkedYaml, read_marked
from common.run.submission.archive import Violation
from common.run.yaml_lines import Key, NotYamlError, dotted, read_yaml

LABEL_FORM = "<Author>_<Institute>_task4_<n>"
BASELINE_LABEL = "Cornell_CMU_task4_1"
BASELINE_CODE = "dcase-repo/desed_task"
KNOWN_FEATURES = ("mfcc", "log-mel energies", "log-mel amplitude", "spectrogram", "CQT", "raw waveform")


def cut_comments(text: str) -> str:
    """The text as the challenge's script parses it: every line cut at its first `#`, even inside quotes."""
    return "\n".join(line.split("#", 1)[0] for line in text.split("\n"))


def label_problem(label: str) -> str | None:
    """What is wrong with a system's label, or None."""
    parts = label.split("_")
    if len(parts) != 4:
        return f"{label!r} has {len(parts)} parts, expected the 4 of {LABEL_FORM}"
    if not re.fullmatch(r"[^/\\]+_[^/\\]+_task4_[1-9][0-9]*", label):
        return f"{label!r} is not of the form {LABEL_FORM}"
    return f"{label!r} contains 'baseline', which is the organisers'" if "baseline" in label.lower() else None


def _kind(value: object) -> str:
    return "null" if value is None else f"{type(value).__name__} {reprlib.repr(value)}"


def _is_float(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_float(value) or _is_integer(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_features(value: object) -> bool:
    return value is None or _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))


def _parse(text: str, file: str) -> MarkedYaml:
    """The cut text, parsed; `root` is None where it is no YAML mapping."""
    meta = read_marked(cut_comments(text), file)
    if meta.root is None and "#" in text:
        first = meta.found[0]
        meta.found[0] = replace(first, message=f"{first.message}, note that lines are cut at '#'")
    return meta


def _check_cut(text: str, meta: MarkedYaml) -> None:
    """Warn of values that the challenge's script shortens because they contain `#`."""
    for number, line in enumerate(text.split("\n"), 1):
        cut = line.split("#", 1)[0]
        try:
            (whole, _), (short, _) = read_yaml(line.strip(" -")), read_yaml(cut.strip(" -"))
        except NotYamlError:
            continue
        if whole != short:
            message = f"the challenge's script cuts this line at '#', to {cut.strip()!r}"
            meta.found.append(Violation(meta.file, number, "meta-comment", message, "warning"))


def _check_names(meta: MarkedYaml, label: str) -> None:
    given = meta.require(("submission", "label"), _is_text, "the name of the system's folder")
    if isinstance(given, str):
        at: Key = ("submission", "label")
        if given != label:
            meta.report(at, "meta-label", f"submission.label is {given!r}, expected {label!r} as the folder")
        if given == BASELINE_LABEL:
            meta.report(at, "meta-label", f"{BASELINE_LABEL} is the baseline's label, expected your own")
    meta.require(("submission", "name"), _is_text, "text")
    meta.require(("submission", "abbreviation"), _is_text, "text")
    for key in ("label", "name", "abbreviation"):
        value = meta.get("submission", key)
        if isinstance(value, str) and "baseline" in value.lower():
            message = f"submission.{key} {value!r} contains 'baseline', which is the organisers'"
            meta.report(("submission", key), "meta-baseline", message)


def _check_authors(meta: MarkedYaml) -> None:
    key: Key = ("submission", "authors")
    expected = "a list of authors with firstname and lastname"
    authors = meta.require(key, lambda value: isinstance(value, list) and bool(value), expected)
    if not isinstance(authors, list):
        return
    for index, author in enumerate(authors):
        if not isinstance(author, dict):
            wrong = f"{dotted((*key, index))} is {_kind(author)}, expected firstname and lastname"
            meta.report((*key, index), "meta-type", wrong)
            continue
        for part in ("firstname", "lastname"):
            meta.require((*key, index, part), _is_text, "text")
    if not any(isinstance(author, dict) and author.get("corresponding") is True for author in authors):
        meta.report(key, "meta-corresponding", "no author has `corresponding: true`, expected at least one")


def _check_system(meta: MarkedYaml) -> None:
    description: Key = ("system", "description")
    meta.require((*description, "input_sampling_rate"), _is_number, "a number (Hz)")
    key = (*description, "acoustic_features")
    features = meta.require(key, _is_features, "null, text or a list of texts")
    for feature in [features] if isinstance(features, str) else features if isinstance(features, list) else []:
        if feature.lower() not in [known.lower() for known in KNOWN_FEATURES]:
            known = ", ".join(KNOWN_FEATURES)
            meta.report(key, "meta-features", f"unusual feature {feature!r}; usual: {known}", "warning")
    meta.require(("system", "complexity", "total_parameters"), _is_integer, "an integer")
    key = ("system", "source_code")
    code = meta.require(key, lambda value: value is None or _is_text(value), "an address, or !!null if closed")
    if isinstance(code, str):
        if BASELINE_CODE in code.lower():
            meta.report(key, "meta-source", f"{code} is the baseline's code, expected yours or !!null")
        elif "://" not in code:
            meta.report(key, "meta-source", f"{code!r} is no address (https://...)", "warning")


def _check_results(meta: MarkedYaml) -> None:
    for key in (("results", "devtest", "desed", "PSDS1"), ("results", "devtest", "maestro", "mPAUC")):
        value = meta.require(key, _is_float, "a number with a decimal point, e.g. 0.49 or 1.0e-3")
        if isinstance(value, float) and not 0 <= value <= 1:
            meta.report(key, "meta-range", f"{dotted(key)} is {value:g}, expected 0 to 1", "warning")


def check_meta(text: str, label: str, file: str) -> list[Violation]:
    """All violations in the text of a meta file. `label` is the folder's name, `file` is for the messages.

    Like the challenge's script it cuts each line at `#` before parsing.
    """
    meta = _parse(text, file)
    if meta.root is not None:
        _check_cut(text, meta)
        _check_names(meta, label)
        _check_authors(meta)
        _check_system(meta)
        _check_results(meta)
    return sorted(meta.found, key=lambda violation: violation.line or 0)
