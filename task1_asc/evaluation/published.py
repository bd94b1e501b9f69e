"""The published figures of baselines.csv: accuracies in per cent, log losses in nats, MACs for one clip.

`set` is development-test, evaluation (2024) or the evaluation set of another year; `split` is empty for figures over
all splits. `metric` is a path of `metrics.flat` or rank_score, team_rank. An empty value is not available.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.run.errors import UserError
from common.run.files import Row, read_rows
from common.run.results.comparison import Baseline
from task1_asc.data.classes import SPLITS

BASELINE = "Baseline 2024"
DEVELOPMENT = "development-test"
EVALUATION = "evaluation"
COLUMNS = ("system", "set", "split", "metric", "value", "spread", "parameters", "macs", "source")


@dataclass(frozen=True)
class Published:
    """One published figure; None: not available."""

    system: str
    set: str
    split: int | None
    metric: str
    value: float | None
    spread: float | None
    parameters: int | None
    macs: int | None
    source: str


def read_published(path: Path = Path(__file__).parents[1] / "baselines.csv") -> list[Published]:
    """All figures. UserError for an empty name, an unknown split, a figure that is no number, or the same one twice."""
    entries: list[Published] = []
    seen: dict[tuple[object, ...], str] = {}
    for row in read_rows(path, COLUMNS):
        for column in ("system", "set", "metric", "source"):
            if not row[column]:
                raise UserError(f"{row.at}: {column} is empty")
        split, parameters, macs = _whole(row, "split"), _whole(row, "parameters"), _whole(row, "macs")
        if split is not None and split not in SPLITS:
            raise UserError(f"{row.at}: split {split}, expected one of {', '.join(map(str, SPLITS))} or nothing")
        value, spread = (row.number(column) if row[column] else None for column in ("value", "spread"))
        key = (row["system"], row["set"], split, row["metric"])
        if key in seen:
            raise UserError(f"{row.at}: the same figure already stands at {seen[key]}")
        seen[key] = row.at
        names = row["system"], row["set"]
        entries.append(Published(*names, split, row["metric"], value, spread, parameters, macs, row["source"]))
    return entries


def metric_key(metric: str, split: int | None) -> str:
    """The name of a metric of one split in a comparison: `macro_accuracy@25`."""
    return metric if split is None else f"{metric}@{split}"


def as_baselines(entries: Sequence[Published]) -> list[Baseline]:
    """The figures as `common.run.results.compare` takes them."""
    return [Baseline(e.system, e.set, metric_key(e.metric, e.split), e.value, e.spread, e.source) for e in entries]


def figures_of(entries: Sequence[Published], system: str, of_set: str, split: int | None) -> dict[str, Published]:
    """{metric: figure} of a system on a set, for one split; only those with a value."""
    chosen = (e for e in entries if (e.system, e.set, e.split) == (system, of_set, split))
    return {entry.metric: entry for entry in chosen if entry.value is not None}


def _whole(row: Row, column: str) -> int | None:
    if not row[column]:
        return None
    if not row[column].isdecimal():
        raise UserError(f"{row.at}: {column} is {row[column]!r}, expected a whole number")
    return int(row[column])
