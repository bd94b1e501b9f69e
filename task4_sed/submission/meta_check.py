"""Checking a meta file: each field that the challenge reads, with the line it stands on."""

import math
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from common.archive import Violation
from common.errors import did_you_mean

LABEL_FORM = "<Author>_<Institute>_task4_<n>"
BASELINE_LABEL = "Cornell_CMU_task4_1"
BASELINE_CODE = "dcase-repo/desed_task"
KNOWN_FEATURES = ("mfcc", "log-mel energies", "log-mel amplitude", "spectrogram", "CQT", "raw waveform")
MISSING = object()
# What PyYAML raises: its own errors, and others for ill-formed tagged values such as `!!bool x`.
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)

Key = tuple[str | int, ...]


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


def _dotted(key: Key) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


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


@dataclass
class _Meta:
    """A parsed meta file that remembers the line of every key."""

    file: str
    root: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    found: list[Violation] = field(default_factory=list)

    def report(
        self, line: int | None, rule: str, message: str, severity: Literal["error", "warning"] = "error"
    ) -> None:
        self.found.append(Violation(self.file, line, rule, message, severity))

    def line(self, key: Key) -> int:
        """The line of a key, or of the nearest key above it that is there."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def get(self, *key: str | int) -> Any:
        """The value at a key, else MISSING."""
        value: Any = self.root
        part: Any
        for part in key:
            if not (isinstance(value, dict) and part in value) and not (
                isinstance(value, list) and isinstance(part, int)
            ):
                return MISSING
            value = value[part]
        return value

    def require(self, key: Key, good: Callable[[object], bool], expected: str) -> Any:
        """The value at a key; a missing or ill-typed one is reported, and MISSING returned."""
        value = self.get(*key)
        if value is MISSING:
            parent = self.get(*key[:-1])
            hint = did_you_mean(str(key[-1]), map(str, parent)) if isinstance(parent, dict) and parent else ""
            self.report(self.line(key), "meta-missing", f"no {_dotted(key)}, expected {expected}{hint}")
        elif not good(value):
            wrong = f"{_dotted(key)} is {_kind(value)}, expected {expected}"
            self.report(self.line(key), "meta-type", wrong)
            return MISSING
        return value


def _walk(node: yaml.Node, key: Key, meta: _Meta, done: set[int]) -> None:
    if id(node) in done:  # an alias; nested ones could make this endless
        return
    done.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            below = (*key, str(name.value))
            line = name.start_mark.line + 1
            if below in meta.lines:
                first = meta.lines[below]
                meta.report(line, "meta-duplicate", f"{_dotted(below)} is there twice (first on line {first})")
            meta.lines[below] = line
            _walk(value, below, meta, done)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            meta.lines[*key, index] = item.start_mark.line + 1
            _walk(item, (*key, index), meta, done)


def _parse(text: str, meta: _Meta) -> bool:
    """Parse the cut text; False where it is no YAML mapping."""
    cut = cut_comments(text)
    try:
        node = yaml.compose(cut, yaml.SafeLoader)
        meta.root = yaml.safe_load(cut)
    except UNREADABLE as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
        hint = ", a tab where blanks are needed" if "'\\t'" in problem else ""
        hint = hint or (", note that lines are cut at '#'" if "#" in text else "")
        meta.report(mark.line + 1 if mark else 1, "meta-syntax", f"not valid YAML: {problem}{hint}")
        return False
    if not isinstance(meta.root, dict) or node is None:
        meta.report(1, "meta-syntax", "no mapping at the top, expected submission, system and results")
        return False
    _walk(node, (), meta, set())
    return True


def _check_cut(text: str, meta: _Meta) -> None:
    """Warn of values that the challenge's script shortens because they contain `#`."""
    for number, line in enumerate(text.split("\n"), 1):
        cut = line.split("#", 1)[0]
        try:
            whole, short = yaml.safe_load(line.strip(" -")), yaml.safe_load(cut.strip(" -"))
        except UNREADABLE:
            continue
        if whole != short:
            meta.report(
                number, "meta-comment", f"the challenge's script cuts this line at '#', to {cut.strip()!r}", "warning"
            )


def _check_names(meta: _Meta, label: str) -> None:
    given = meta.require(("submission", "label"), _is_text, "the name of the system's folder")
    if isinstance(given, str):
        at = meta.line(("submission", "label"))
        if given != label:
            meta.report(at, "meta-label", f"submission.label is {given!r}, expected {label!r} as the folder")
        if given == BASELINE_LABEL:
            meta.report(at, "meta-label", f"{BASELINE_LABEL} is the baseline's label, expected your own")
    meta.require(("submission", "name"), _is_text, "text")
    meta.require(("submission", "abbreviation"), _is_text, "text")
    for key in ("label", "name", "abbreviation"):
        value = meta.get("submission", key)
        if isinstance(value, str) and "baseline" in value.lower():
            at = meta.line(("submission", key))
            meta.report(
                at, "meta-baseline", f"submission.{key} {value!r} contains 'baseline', which is the organisers'"
            )


def _check_authors(meta: _Meta) -> None:
    key: Key = ("submission", "authors")
    expected = "a list of authors with firstname and lastname"
    authors = meta.require(key, lambda value: isinstance(value, list) and bool(value), expected)
    if not isinstance(authors, list):
        return
    for index, author in enumerate(authors):
        if not isinstance(author, dict):
            wrong = f"{_dotted((*key, index))} is {_kind(author)}, expected firstname and lastname"
            meta.report(meta.line((*key, index)), "meta-type", wrong)
            continue
        for part in ("firstname", "lastname"):
            meta.require((*key, index, part), _is_text, "text")
    if not any(isinstance(author, dict) and author.get("corresponding") is True for author in authors):
        meta.report(meta.line(key), "meta-corresponding", "no author has `corresponding: true`, expected at least one")


def _check_system(meta: _Meta) -> None:
    description: Key = ("system", "description")
    meta.require((*description, "input_sampling_rate"), _is_number, "a number (Hz)")
    key = (*description, "acoustic_features")
    features = meta.require(key, _is_features, "null, text or a list of texts")
    for feature in [features] if isinstance(features, str) else features if isinstance(features, list) else []:
        if feature.lower() not in [known.lower() for known in KNOWN_FEATURES]:
            known = ", ".join(KNOWN_FEATURES)
            meta.report(meta.line(key), "meta-features", f"unusual feature {feature!r}; usual: {known}", "warning")
    meta.require(("system", "complexity", "total_parameters"), _is_integer, "an integer")
    key = ("system", "source_code")
    code = meta.require(key, lambda value: value is None or _is_text(value), "an address, or !!null if closed")
    if isinstance(code, str):
        if BASELINE_CODE in code.lower():
            meta.report(meta.line(key), "meta-source", f"{code} is the baseline's code, expected yours or !!null")
        elif "://" not in code:
            meta.report(meta.line(key), "meta-source", f"{code!r} is no address (https://...)", "warning")


def _check_results(meta: _Meta) -> None:
    for key in (("results", "devtest", "desed", "PSDS1"), ("results", "devtest", "maestro", "mPAUC")):
        value = meta.require(key, _is_float, "a number with a decimal point, e.g. 0.49 or 1.0e-3")
        if isinstance(value, float) and not 0 <= value <= 1:
            meta.report(meta.line(key), "meta-range", f"{_dotted(key)} is {value:g}, expected 0 to 1", "warning")


def check_meta(text: str, label: str, file: str) -> list[Violation]:
    """All violations in the text of a meta file. `label` is the folder's name, `file` is for the messages.

    Like the challenge's script it cuts each line at `#` before parsing.
    """
    meta = _Meta(file)
    if _parse(text, meta):
        _check_cut(text, meta)
        _check_names(meta, label)
        _check_authors(meta)
        _check_system(meta)
        _check_results(meta)
    return sorted(meta.found, key=lambda violation: violation.line or 0)
