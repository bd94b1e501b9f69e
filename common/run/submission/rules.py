"""Rules of challenges: tables of them over meta files, and what several challenges want alike.

A challenge's rules are tuples of `Rule`; `check_rules` walks them over a meta file. Labels, folders and technical
reports are checked by functions.
"""

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from common.run.folders import below, entries
from common.run.marked_yaml import MISSING, Key, MarkedYaml, dotted
from common.run.submission.archive import Budget, Limits, open_archive
from common.run.submission.meta import MetaForm
from common.run.submission.tables import some
from common.run.submission.violations import Findings, Severity, Violation

MAX_ABBREVIATION = 10  # characters
REPORT = ".technical_report.pdf"
PLACEHOLDER = "placeholder for the technical report"
META_BYTES = 4 << 20  # no meta file is longer
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


class Rule(NamedTuple):
    """What a meta file must have at a key.

    key: dotted, `[]` stands for every item of a list ("authors[].email"); or the parts of a key as they are. expected:
    what `good` wants. Without a name the rule is about presence and type: "no <key>, expected ...", "<key> is text
    'x', expected ...". With one it is about a value that is there, and `expected` is the whole message, in which
    {key}, {value} and {length} may stand.
    """

    key: str | Key
    good: Callable[[Any], bool]
    expected: str
    name: str | None = None
    severity: Severity = "error"


def check_rules(meta: MarkedYaml, rules: Iterable[Rule]) -> None:
    """Report what breaks the rules: the first one of every key, and nothing below a key that breaks one."""
    broken: set[Key] = set()
    for rule in rules:
        for key in list(_places(meta, rule.key)):
            if any(key[:depth] in broken for depth in range(1, len(key) + 1)):
                continue
            if rule.name is None:
                if meta.require(key, rule.good, rule.expected) is MISSING:
                    broken.add(key)
            elif (value := meta.get(*key)) is not MISSING and not rule.good(value):
                length = len(value) if isinstance(value, str | list | dict) else 0
                message = rule.expected.format(key=dotted(key), value=value, length=length)
                meta.report(key, rule.name, message, rule.severity)
                broken.add(key)


def _places(meta: MarkedYaml, key: str | Key) -> Iterator[Key]:
    """The keys that a rule is about."""
    if not isinstance(key, str):
        yield key
        return
    places: list[Key] = [()]
    for part in key.replace("[]", ".[]").split("."):
        if part == "[]":
            lists = [(place, meta.get(*place)) for place in places]
            places = [(*place, i) for place, of in lists if isinstance(of, list) for i in range(len(of))]
        else:
            places = [(*place, part) for place in places]
    yield from places


# ------------------------------------------------------------------------------------------- what is good for a rule


def is_number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """A whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_text(value: Any) -> bool:
    """Text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def is_email(value: Any) -> bool:
    """The form of an e-mail address."""
    return EMAIL.fullmatch(value) is not None


def is_address(value: Any) -> bool:
    """Text with a scheme, as https://..."""
    return "://" in value


def is_words(value: Any) -> bool:
    """Null, text or a list of texts."""
    return value is None or is_text(value) or (isinstance(value, list) and bool(value) and all(map(is_text, value)))


def is_mapping(value: Any) -> bool:
    """Keys with values."""
    return isinstance(value, dict)


def or_null(good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Null, or what `good` wants."""
    return lambda value: value is None or good(value)


# ------------------------------------------------------------------------------------- rules that all challenges have


def naming_rules(label: str, max_abbreviation: int | None = MAX_ABBREVIATION) -> list[Rule]:
    """Label, name and abbreviation of a system in the folder `label`."""
    own = label.replace("{", "{{").replace("}", "}}")
    rules = [
        Rule("submission.label", is_text, "the name of the system's folder"),
        Rule("submission.label", label.__eq__, f"{{key}} is {{value!r}}, expected {own!r} as the folder", "meta-label"),
        Rule("submission.name", is_text, "text"),
        Rule("submission.abbreviation", is_text, "text"),
    ]
    if max_abbreviation is not None:
        wrong = f"abbreviation {{value!r}} has {{length}} characters, expected at most {max_abbreviation}"
        rules.append(
            Rule("submission.abbreviation", lambda value: len(value) <= max_abbreviation, wrong, "meta-abbreviation")
        )
    return rules


def author_rules(form: MetaForm) -> list[Rule]:
    """The list of authors."""
    at = "submission.authors"
    rules = [
        Rule(at, lambda value: isinstance(value, list) and bool(value), "a list of authors"),
        Rule(f"{at}[]", is_mapping, "an author: lastname, firstname, ..."),
        Rule(f"{at}[].lastname", is_text, "text"),
        Rule(f"{at}[].firstname", is_text, "text"),
    ]
    if "email" not in form.optional:
        wrong = "{value!r} is no e-mail address"
        rules += [
            Rule(f"{at}[].email", or_null(is_text), "an address, or null"),
            Rule(f"{at}[].email", or_null(is_email), wrong, "meta-email"),
        ]
    keys = [key for key in form.affiliation.values() if key not in form.optional]
    return rules + [Rule(f"{at}[].affiliation.{key}", or_null(is_text), "text, or null") for key in keys]


def dataset_rules(form: MetaForm) -> list[Rule]:
    """External data sets: null, or a list of them."""
    at = "system.external_datasets"
    of = {"name": Rule(f"{at}[].name", is_text, "text"), "url": Rule(f"{at}[].url", or_null(is_text), "text, or null")}
    of["type"] = Rule(f"{at}[].type", or_null(is_text), "text, or null")
    of["total_audio_length"] = Rule(f"{at}[].total_audio_length", or_null(is_number), "minutes, or null")
    return [
        Rule(at, or_null(lambda value: isinstance(value, list)), "a list, or null"),
        Rule(f"{at}[]", is_mapping, f"a data set: {', '.join(form.datasets)}"),
        *(of[key] for key in form.datasets),
    ]


SOURCE_RULES = (
    Rule("system.source_code", or_null(is_text), "a URL, or null"),
    Rule("system.source_code", or_null(is_address), "{value!r} is no address (https://...)", "meta-source", "warning"),
)


def check_corresponding(meta: MarkedYaml, form: MetaForm) -> Key | None:
    """The corresponding author, or authors; the key of the only one."""
    key: Key = ("submission", "authors")
    authors = meta.get(*key)
    if not isinstance(authors, list) or not authors:
        return None
    flags = [author.get("corresponding") if isinstance(author, dict) else None for author in authors]
    marked: list[Key] = [(*key, index) for index, flag in enumerate(flags) if flag is not None and flag is not False]
    for at in marked:
        meta.require((*at, "corresponding"), lambda value: isinstance(value, bool), "true or false")
        if form.one_corresponding and meta.get(*at, "email") is None:
            meta.report((*at, "email"), "meta-email", "the corresponding author has no e-mail address")
    if not marked or (form.one_corresponding and len(marked) > 1):
        expected = "exactly one" if form.one_corresponding else "at least one"
        wrong = f"{len(marked)} authors have `corresponding: true`, expected {expected}"
        meta.report(key, "meta-corresponding", wrong)
    return marked[0] if len(marked) == 1 else None


# --------------------------------------------------------------------------------------------- labels, folders, files


def label_form(task: str) -> str:
    """The form of a label, for messages."""
    return f"<Lastname>_<Institute>_{task}_<n>"


def label_problem(label: str, task: str, most: int | None = None) -> str | None:
    """What is wrong with a system's label (`task`: "task1", ...; `most`: the highest index), or None."""
    parts = label.split("_")
    if len(parts) != 4:
        return f"{label!r} has {len(parts)} parts, expected the 4 of {label_form(task)}"
    if not all(parts) or parts[2] != task or not re.fullmatch(r"[1-9][0-9]{0,8}", parts[3]):
        return f"{label!r} is not of the form {label_form(task)}"
    if most is not None and int(parts[3]) > most:
        return f"{label!r} has index {parts[3]}, expected 1 to {most}"
    return None


@contextmanager
def opened(path: str | Path, limits: Limits | None, check: Findings) -> Iterator[tuple[Path, Budget | None]]:
    """The content of an archive or folder for its checks, and an archive's budget (for archives in it).

    What an operating system has added is left out, with one warning at the end.
    """
    path, limits = Path(path), limits or Limits()
    budget = Budget(path, limits, check.left_out) if path.is_file() else None
    with open_archive(path, limits, budget) as folder:
        if budget is None:
            deque(below(folder, check.left_out), maxlen=0)
        yield folder, budget
    if count := len(check.left_out):
        names = f"{count} name{'s' if count > 1 else ''}: {some(check.left_out)}"
        check.warn(".", "clutter", f"left out what an operating system adds, {names}")


def team_folder(root: Path, task: str, check: Findings) -> tuple[Path, list[Path]] | None:
    """The folder `task` in an unpacked archive (or `root` itself), and the systems' folders in it."""
    top = root / task
    if not top.is_dir() and root.name == task:  # the folder itself was named
        top = root
    for entry in entries(root) if top != root else ():
        if entry != top:
            check.warn(entry.name, "stray", f"unexpected beside the folder {task!r}")
    if not top.is_dir():
        check.report(".", "layout", f"no folder {task!r} at the top, expected {task}/{label_form(task)}/")
        lower = [path for form in (f"*/{task}", f"*/*/{task}") for path in sorted(root.glob(form)) if path.is_dir()]
        if not lower:
            return None
        top = lower[0]
    systems = [entry for entry in entries(top) if entry.is_dir()]
    if not systems:
        check.report(task, "layout", f"no system in it, expected folders {label_form(task)}")
    return top, systems


def check_meta_file(path: Path, shown: str, check: Findings, rules: Callable[[str, str], list[Violation]]) -> None:
    """The meta file of a system; `rules(text, file)` finds what is wrong in it. shown: the folder, for messages."""
    file = f"{shown}/{path.name}"
    if not path.is_file():
        check.report(file, "meta-file", "missing")
        return
    if (data := check.content(path, file, META_BYTES)) is None:
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        check.report(file, "encoding", "not text in UTF-8")
    else:
        check.found.extend(rules(text, file))


def is_pdf(path: Path) -> bool:
    """Whether a file begins like a PDF."""
    with open(path, "rb") as file:
        return b"%PDF-" in file.read(1024)


def check_reports(top: Path, task: str, systems: Iterable[Path], check: Findings) -> None:
    """One team in the folder `task`, and its technical report."""
    teams = {folder.name.rpartition("_")[0] for folder in systems}
    files = [entry for entry in entries(top) if entry.is_file()]
    reports = [entry for entry in files if entry.name.endswith(REPORT)]
    for entry in files:
        if entry not in reports:
            check.warn(f"{task}/{entry.name}", "stray", "unexpected file")
    if len(teams) > 1:
        check.report(task, "team", f"systems of different teams: {', '.join(sorted(teams))}")
    if not reports:
        check.report(f"{task}/{min(teams, default=f'<Lastname>_<Institute>_{task}')}{REPORT}", "report", "missing")
    for entry in reports:
        shown = f"{task}/{entry.name}"
        if not is_pdf(entry):
            check.report(shown, "report", "not a PDF file")
        elif PLACEHOLDER.encode() in (check.content(entry, shown) or b""):
            check.warn(shown, "report-placeholder", "a placeholder, expected the technical report")
        if entry.name.removesuffix(REPORT) not in teams:
            check.report(shown, "report-name", f"expected {min(teams, default='')}{REPORT}")
