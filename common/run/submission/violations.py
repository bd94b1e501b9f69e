"""Broken rules: collecting them, listing them, and the verdict over whole archives."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.run.errors import UserError
from common.run.folders import printable

Severity = Literal["error", "warning"]
Measure = Literal["challenge", "recipe"]

LONGEST_MESSAGE = 1000  # characters
MOST_BYTES = 256 << 20  # of one file that is read whole; no table of a challenge has a tenth of it


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule: `file` as it is called in the archive, `line` counted from 1 (None: the file as a whole).

    Of a longer message the first and the last characters are kept: it may quote a field of any length.
    """

    file: str
    line: int | None
    rule: str
    message: str
    severity: Severity = "error"

    def __post_init__(self) -> None:
        if len(self.message) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2
            object.__setattr__(self, "message", f"{self.message[:half]} ... {self.message[-half:]}")

    def __str__(self) -> str:
        at = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{at}: {self.severity}: {self.message} [{self.rule}]"


@dataclass
class Findings:
    """What was found in an archive so far, and which names of an operating system were left out.

    A challenge's own adds what its rules need to know.
    """

    found: list[Violation] = field(default_factory=list, kw_only=True)
    left_out: list[str] = field(default_factory=list, kw_only=True)

    def report(self, file: str, rule: str, message: str, line: int | None = None, severity: Severity = "error") -> None:
        self.found.append(Violation(file, line, rule, message, severity))

    def warn(self, file: str, rule: str, message: str, line: int | None = None) -> None:
        self.report(file, rule, message, line, "warning")

    def content(self, path: Path, shown: str, most: int = MOST_BYTES) -> bytes | None:
        """The bytes of a file; None, and reported, where there are more than `most`. shown: its name in the archive."""
        with open(path, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            self.report(shown, "file-size", f"{path.stat().st_size:,} bytes, expected at most {most:,}; not read")
            return None
        return data


def in_order(found: Iterable[Violation]) -> list[Violation]:
    """Violations of one file by line; last what is said of the file as a whole."""
    return sorted(found, key=lambda violation: math.inf if violation.line is None else violation.line)


def listing(violations: Iterable[Violation], per_file: int = 3, per_rule: int = 10) -> list[str]:
    """Lines to print: at most `per_file` of a rule for each file and `per_rule` of it in all, then how many more."""
    of_rule: Counter[str] = Counter()
    of_file: Counter[tuple[str, str]] = Counter()
    hidden: Counter[tuple[str, str]] = Counter()
    lines = []
    for violation in violations:
        file_key, rule = (violation.rule, violation.file), violation.rule
        if of_rule[rule] >= per_rule or of_file[file_key] >= per_file:
            hidden[rule, violation.severity] += 1
            continue
        of_rule[rule] += 1
        of_file[file_key] += 1
        lines.append(str(violation))
    for (rule, severity), count in hidden.items():
        lines.append(f"... and {count:,} more of this kind: {severity} [{rule}]")
    return lines


def verdict(violations: Iterable[Violation]) -> str:
    """One line: `ok`, or the number of errors and warnings."""
    counts = Counter(violation.severity for violation in violations)
    if not counts:
        return "ok: no rule is broken"
    parts = [f"{counts[kind]:,} {kind}{'s' if counts[kind] != 1 else ''}" for kind in ("error", "warning")]
    return ("not valid: " if counts["error"] else "ok: ") + ", ".join(parts)


def has_errors(violations: Iterable[Violation]) -> bool:
    """Whether anything is worse than a warning."""
    return any(violation.severity == "error" for violation in violations)


def judge_archives(
    files: Sequence[Path], find: Callable[[Path], list[Violation]], measured_by: Callable[[Path], str]
) -> Mapping[str, Any]:
    """List every violation of every archive; UserError at the end where there was an error.

    find: path -> violations; measured_by: path -> what it is compared with, which is said first. An archive that cannot
    be opened does not stop the others. Returns {"archives": {path: violations as dicts}, "measured_by": {path: what}}.
    """
    if not files:
        raise UserError("validate: name at least one archive")
    judged: dict[Path, list[Violation]] = {}
    measures, wrong = {}, []
    for path in files:
        try:
            measures[path] = measured_by(path)
            print(f"{printable(path)}: measured by {measures[path]}")
            judged[path] = find(path)
        except UserError as error:
            if len(files) == 1:
                raise
            judged[path] = [Violation(printable(path), None, "archive", str(error))]
            wrong.append(str(error))
        for line in listing(judged[path]):
            print(printable(line))
        print(printable(f"{path}: {verdict(judged[path])}"))
        if has_errors(judged[path]) and len(wrong) < sum(map(has_errors, judged.values())):
            wrong.append(f"{path}: not a valid submission")
    archives = {printable(path): [asdict(violation) for violation in found] for path, found in judged.items()}
    result = {"archives": archives, "measured_by": {printable(path): by for path, by in measures.items()}}
    if wrong:
        raise UserError(wrong[0], result)
    return result
