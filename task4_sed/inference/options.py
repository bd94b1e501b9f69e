"""What a person may ask of `detect`: checked before any network is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.run.errors import UserError, did_you_mean
from task4_sed.config import Format, check_threshold
from task4_sed.inference.events import Rule

HOP_SECONDS, LONGEST_HOP = 5.0, 10.0
FORMATS: tuple[Format, ...] = ("tsv", "json", "audacity", "png")


@dataclass(frozen=True)
class Options:
    """As the verb `detect` explains them; None: what suits the network. Raises UserError where they make no sense."""

    formats: tuple[Format, ...] = FORMATS
    merged: Path | None = None
    threshold: float | None = None
    low: float | None = None
    median: float | None = None
    min_duration: float | None = None
    gap: float | None = None
    per_class: Path | None = None
    csebbs: str | None = None
    top: int | None = None
    labels: tuple[str, ...] | None = None
    groups: Path | None = None
    hop: float = HOP_SECONDS
    parity: bool = False
    page: float | None = None
    zoom: tuple[float, ...] | None = None
    rows: int | None = None
    truth: Path | None = None
    resume: bool = False
    start: float = 0.0
    end: float | None = None
    channels: bool = False
    mend: bool = True  # samples that are not finite are heard as 0 and said; else such a file cannot be read

    def __post_init__(self) -> None:
        if self.threshold is not None:
            check_threshold(self.threshold)
        if self.merged is not None and self.merged.suffix not in (".tsv", ".csv"):
            raise UserError(f"--merged is {self.merged}, expected a .tsv or .csv file")
        if not 0 < self.hop <= LONGEST_HOP:
            raise UserError(f"--hop is {self.hop:g}, expected more than 0 s and at most {LONGEST_HOP:g} s, a window")
        for name in ("top", "rows", "page"):
            if (value := getattr(self, name)) is not None and not 0 < value < float("inf"):
                raise UserError(f"--{name} is {value:g}, expected more than 0")
        if self.zoom is not None and not (len(self.zoom) == 2 and 0 <= self.zoom[0] < self.zoom[1]):
            raise UserError(f"--zoom is {' '.join(f'{x:g}' for x in self.zoom)}, expected its begin and end in seconds")
        if not 0 <= self.start < float("inf"):
            raise UserError(f"--start is {self.start:g}, expected seconds of at least 0")
        if self.end is not None and not self.end > self.start:
            raise UserError(f"--end is {self.end:g}, expected seconds after {self.start:g}, where it starts")
        if self.zoom is not None and self.page is not None:
            raise UserError("--zoom or --page, not both")
        self._check_ways()
        _ = self.rule

    def _check_ways(self) -> None:
        """One way to make events out of scores."""
        if self.csebbs is not None and self.by_threshold:
            raise UserError(f"--csebbs goes without --{self.by_threshold[0].replace('_', '-')}")
        others = {"csebbs", *self.by_threshold} - {"median"} if self.csebbs else {*self.by_threshold} - {"median"}
        others |= {"hop"} if self.hop != HOP_SECONDS else set()
        if self.parity and others:
            raise UserError(f"--parity goes without --{min(others).replace('_', '-')}")

    @property
    def by_threshold(self) -> list[str]:
        """What is given of thresholds and lengths, which boxes do not have."""
        return [n for n in ("low", "median", "min_duration", "gap", "per_class") if getattr(self, n) is not None]

    @property
    def rule(self) -> Rule:
        """Of every class that the table per class does not have."""
        names = ("threshold", "low", "median", "min_duration", "gap")
        return Rule(**{name: value for name in names if (value := getattr(self, name)) is not None})


IN_PYTHON = (
    *("threshold", "low", "median", "min_duration", "gap", "per_class", "csebbs", "top", "labels", "groups", "hop"),
    *("parity", "start", "end"),
)
LOADING = ("weights", "mean", "precision", "threads")  # options of how networks are loaded


def options_of(given: Mapping[str, Any]) -> Options:
    """Those that make events of scores, by name. Raises UserError for others, too."""
    for name in given:
        if name not in IN_PYTHON:
            raise UserError(f"detect: no option {name!r}{did_you_mean(name, (*IN_PYTHON, *LOADING))}")
    paths = {name: Path(value) for name in ("per_class", "groups") if (value := given.get(name)) is not None}
    labels = {"labels": tuple(given["labels"])} if given.get("labels") is not None else {}
    return Options(**{**given, **paths, **labels})
