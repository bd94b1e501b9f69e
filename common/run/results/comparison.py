"""Own results beside published ones: one table, ranked, with differences to a reference system."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from common.run.energy import energy_text
from common.run.errors import UserError, did_you_mean
from common.run.files import Row, read_rows, write_rows
from common.run.results.tables import format_value, print_table, write_table

MIN_RUNS = 3  # of two, the deviation itself is hardly known
NORMAL_95 = 1.959964  # a spread becomes a 95 % interval of +- this many standard deviations


class Caveat(NamedTuple):
    """Why own figures must not be compared: `mark` stands beside every number, `text` in title and note.

    They have no rank and no difference to published ones.
    """

    mark: str
    text: str


TOY = Caveat("toy", "toy data, not comparable")
OWN = Caveat("own data", "own data set, not comparable")
# By what the data set is made of (`common.audio.coverage.made_of`).
CAVEATS = {"toy": TOY, "recordings": OWN, "official": None}


def caveat_of(recorded: Iterable[Mapping[str, Any]]) -> Caveat | None:
    """Why recorded figures (with "toy" and "own": what their data were) must not be compared with published ones."""
    recorded = list(recorded)
    return TOY if any(of["toy"] for of in recorded) else OWN if any(of.get("own") for of in recorded) else None


@dataclass(frozen=True)
class Baseline:
    """One published figure: `value` None where it is not available, `spread` the standard deviation over runs."""

    system: str
    set: str
    metric: str
    value: float | None
    spread: float | None
    source: str


@dataclass(frozen=True)
class OwnValue:
    """One own figure with its 95 % interval (e.g. `bootstrap_interval`) or its spread over `runs` (`mean_spread`)."""

    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    runs: int = 1

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval needs both ends")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"interval [{self.low}, {self.high}] is upside down")


@dataclass(frozen=True)
class MetricColumn:
    """A column of the comparison: a metric on a set, under a title with its unit; `key` is "<set>/<metric>"."""

    metric: str
    set: str
    title: str
    higher_is_better: bool = True
    decimals: int = 3
    unit: str = "share"  # in the picture, columns of one unit share their axis; of kWh tables show Wh where that suits
    chance: float | None = None  # what guessing gives
    axis: str = ""  # its name in the picture (default: the title)

    @property
    def key(self) -> str:
        return f"{self.set}/{self.metric}"

    @property
    def label(self) -> str:
        """Its name in the picture."""
        return self.axis or (f"{self.title} (kWh)" if self.unit == "kWh" else self.title)


@dataclass(frozen=True)
class Difference:
    """A figure minus the reference's, with a 95 % interval where the uncertainty of one of them is known."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Cell:
    """A figure of one system in one column."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    runs: int | None = None
    source: str = ""
    difference: Difference | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """A system: its rank by the main metric (None without a value), published or own, cells {column key: cell}."""

    system: str
    kind: Literal["published", "own"]
    cells: Mapping[str, Cell]
    rank: int | None = None

    def sources(self) -> set[str]:
        """Where the row's available figures come from."""
        return {cell.source for cell in self.cells.values() if cell.source and cell.value is not None}


@dataclass(frozen=True)
class Comparison:
    """Ranked rows of published and own systems; `columns[0]` is the main metric."""

    title: str
    columns: tuple[MetricColumn, ...]
    rows: tuple[ComparisonRow, ...]
    reference: str | None
    caveat: Caveat | None
    note: str = field(default="")

    def print(self, file: IO[str] | None = None, whole: Path | None = None) -> None:
        """Print the table with rich (default: standard output); own rows are bold. whole: file that has all of it."""
        header, cells = self._table(line_break="\n")
        own = [row.kind == "own" for row in self.rows]
        print_table(self.title, header, cells, self.note, file, emphasis=own, whole=whole)

    def save(self, folder: str | Path, pictured: int | None = None) -> list[Path]:
        """Write comparison.md (the table), comparison.csv (every figure on a line) and comparison.png (bars).

        pictured: how many columns, from the first, the picture shows; None: all.
        """
        from common.run import plots

        folder = Path(folder)
        paths = [folder / f"comparison.{suffix}" for suffix in ("csv", "md", "png")]
        write_rows(paths[0], CSV_COLUMNS, self._csv_rows())
        header, cells = self._table(line_break=" ")
        sources = ["; ".join(sorted(row.sources())) for row in self.rows]
        sourced = [[*row, source] for row, source in zip(cells, sources, strict=True)]
        write_table(paths[1], [*header, "source"], sourced, self.title, self.note)
        main = " ".join(self.columns[0].label.split())
        figure = plots.comparison_bars(
            [row.system for row in self.rows],
            [row.kind == "own" for row in self.rows],
            {column.label: [bar(row.cells.get(column.key)) for row in self.rows] for column in self.columns[:pictured]},
            title=f"{self.title}\nown and published systems, in the order of: {main}",
            note=self.caveat.text if self.caveat else None,
            panels={c.label: plots.Panel(c.set, c.unit, c.chance) for c in self.columns[:pictured]},
        )
        plots.save(figure, paths[2])
        return paths

    def _table(self, line_break: str) -> tuple[list[str], list[list[str]]]:
        main = self.columns[0]
        header = ["rank", "system", "result", *(column.title for column in self.columns)]
        if self.reference is not None:
            header.append(f"difference to{line_break}{self.reference}")
        table = []
        for row in self.rows:
            mark = f" ({self.caveat.mark})" if self.caveat and row.kind == "own" else ""
            texts = [_text(row.cells.get(column.key), column) for column in self.columns]
            if self.reference is not None:
                of = row.cells[main.key].difference if main.key in row.cells else None
                is_reference = row.system == self.reference
                texts.append("0 (reference)" if is_reference else _difference_text(of, main.decimals))
            texts = [text + mark if text[0] in "+-0123456789" else text for text in texts]
            table.append([str(row.rank or "–"), row.system, row.kind, *texts])
        return header, table

    def _csv_rows(self) -> list[list[object]]:
        lines: list[list[object]] = []
        for row in self.rows:
            for column in self.columns:
                cell = row.cells.get(column.key, Cell())
                caveat = self.caveat.text if self.caveat and row.kind == "own" else ""
                d = cell.difference or Difference(math.nan, None, None)
                figures = [cell.value, cell.low, cell.high, cell.spread, cell.runs]
                differences = [None if math.isnan(d.value) else d.value, d.low, d.high]
                lead = [row.rank, row.system, row.kind, column.set, column.metric]
                lines.append([*lead, *figures, *differences, cell.source, caveat])
        return lines


CSV_COLUMNS = (
    *("rank", "system", "result", "set", "metric", "value", "low", "high", "spread", "runs"),
    *("difference", "difference_low", "difference_high", "source", "note"),
)


def read_figures(path: str | Path, more: Sequence[str] = ()) -> Iterator[tuple[Row, Baseline]]:
    """Rows and figures of a .csv with the columns system, set, metric, value, spread, source and `more`.

    An empty value means that the figure is not available. Raises UserError for a missing name or source, a figure
    that is no number, a negative spread or one without value.
    """
    for row in read_rows(path, ("system", "set", "metric", "value", "spread", "source", *more)):
        for column in ("system", "set", "metric", "source"):
            if not row[column].strip():
                raise UserError(f"{row.at}: {column} is empty")
        value = row.number("value") if row["value"] else None
        spread = row.number("spread") if row["spread"] else None
        if spread is not None and (value is None or spread < 0):
            raise UserError(f"{row.at}: spread is {row['spread']!r}, expected 0 or more beside a value")
        yield row, Baseline(row["system"], row["set"], row["metric"], value, spread, row["source"])


def read_baselines(path: str | Path) -> list[Baseline]:
    """Published figures, see `read_figures`. Raises UserError also for the same figure twice."""
    seen: dict[tuple[str, str, str], str] = {}
    baselines = []
    for row, figure in read_figures(path):
        key = (figure.system, figure.set, figure.metric)
        if key in seen:
            raise UserError(f"{row.at}: {key[2]} of {key[0]} on {key[1]} already stands at {seen[key]}")
        seen[key] = row.at
        baselines.append(figure)
    return baselines


def compare(
    own: Mapping[str, Mapping[str, OwnValue]],
    baselines: Sequence[Baseline],
    metrics: Sequence[MetricColumn],
    caveat: Caveat | None = None,
    reference: str | None = None,
    title: str = "Own results beside published ones",
) -> Comparison:
    """Rank own and published systems by `metrics[0]`, the main metric; systems without its value come last.

    `own` is {system: {"<set>/<metric>": value}}. A published system has a row where it has an entry, also an empty
    one, in a column. `reference` names the system, published or own, to which differences are given; their 95 %
    interval combines both systems' uncertainty as if they were independent (`difference`).
    `caveat` (e.g. TOY): why the own figures must not be compared with the published ones: everything says so, and
    they have neither rank nor difference.
    Raises UserError for an own figure that has no column, a name that is both own and published, an unknown reference.
    """
    if not metrics:
        raise ValueError("a comparison needs a metric")
    by_key = {column.key: column for column in metrics}
    published: dict[str, dict[str, Cell]] = {}
    for entry in baselines:
        key = f"{entry.set}/{entry.metric}"
        if key in by_key:
            cell = Cell(entry.value, spread=entry.spread, source=entry.source)
            published.setdefault(entry.system, {})[key] = cell
    ours = {system: _own_cells(system, values, by_key) for system, values in own.items()}
    if both := sorted(ours.keys() & published.keys()):
        raise UserError(f"own system {both[0]!r} has the name of a published one; name it differently")

    cells = published | ours
    if reference is not None and reference not in cells:
        raise UserError(f"unknown reference system {reference!r}{did_you_mean(reference, cells)}")
    if reference is not None:
        against = cells[reference]
        cells = {
            system: of
            if system == reference or (caveat and (system in ours or reference in ours))
            else {key: replace(cell, difference=difference(cell, against.get(key))) for key, cell in of.items()}
            for system, of in cells.items()
        }
    rows = [ComparisonRow(system, "own" if system in ours else "published", of) for system, of in cells.items()]
    title = f"{title} ({caveat.text})" if caveat else title
    ranked = _ranked([row for row in rows if not (caveat and row.kind == "own")], metrics[0])
    apart = tuple(sorted((row for row in rows if caveat and row.kind == "own"), key=lambda row: row.system))
    note = _note(metrics[0].title, reference, caveat)
    return Comparison(title, tuple(metrics), (*ranked, *apart), reference, caveat, note)


def difference(cell: Cell, reference: Cell | None) -> Difference | None:
    """Difference of two independent figures; its 95 % interval from theirs (Zou & Donner 2008, "MOVER").

    A spread over runs counts as a standard deviation of a normal distribution; a figure without either counts as
    exact. Without any uncertainty the difference has no interval; None when a figure is missing.
    """
    if reference is None or cell.value is None or reference.value is None:
        return None
    value = cell.value - reference.value
    ends, reference_ends = _interval(cell), _interval(reference)
    if ends is None and reference_ends is None:
        return Difference(value, None, None)
    low, high = ends or (cell.value, cell.value)
    reference_low, reference_high = reference_ends or (reference.value, reference.value)
    # A percentile interval may miss its own figure; a distance below zero would then widen the wrong side.
    below = math.hypot(max(cell.value - low, 0), max(reference_high - reference.value, 0))
    above = math.hypot(max(high - cell.value, 0), max(reference.value - reference_low, 0))
    return Difference(value, value - below, value + above)


def _interval(cell: Cell) -> tuple[float, float] | None:
    if cell.low is not None and cell.high is not None:
        return cell.low, cell.high
    if cell.spread is not None and cell.value is not None:
        return cell.value - NORMAL_95 * cell.spread, cell.value + NORMAL_95 * cell.spread
    return None


def _own_cells(system: str, values: Mapping[str, OwnValue], columns: Mapping[str, MetricColumn]) -> dict[str, Cell]:
    cells = {}
    for key, own in values.items():
        if key not in columns:
            raise UserError(f"own system {system!r}: no column for {key!r}{did_you_mean(key, columns)}")
        value = None if math.isnan(own.value) else own.value
        cells[key] = Cell(value, own.low, own.high, own.spread, own.runs)
    return cells


def _ranked(rows: Sequence[ComparisonRow], main: MetricColumn) -> tuple[ComparisonRow, ...]:
    def loss(row: ComparisonRow) -> float:
        value = row.cells.get(main.key, Cell()).value
        if value is None:
            return math.inf
        return -value if main.higher_is_better else value

    losses = [loss(row) for row in rows]
    ranks = [None if own == math.inf else 1 + sum(other < own for other in losses) for own in losses]
    ranked = [replace(row, rank=rank) for row, rank in zip(rows, ranks, strict=True)]
    return tuple(sorted(ranked, key=lambda row: (loss(row), row.system)))


def _note(main: str, reference: str | None, caveat: Caveat | None) -> str:
    parts = ["[ ]: 95 % interval; ±: standard deviation over runs; n/a: not available."]
    if reference is not None:
        parts.append(
            f"Differences ({main}) take the systems as independent; a figure without uncertainty counts as exact."
        )
    if caveat:
        parts.append(f"Own figures: {caveat.text}: they have no rank and no difference.")
    return " ".join(parts)


def _text(cell: Cell | None, column: MetricColumn) -> str:
    if cell is None:
        return format_value(None)
    if column.unit == "kWh" and cell.value is not None:
        return energy_text(cell.value, cell.spread)
    return format_value(cell.value, cell.low, cell.high, cell.spread, column.decimals)


def _difference_text(difference: Difference | None, decimals: int) -> str:
    if difference is None:
        return format_value(None)
    return format_value(difference.value, difference.low, difference.high, decimals=decimals, signed=True)


def bar(cell: Cell | OwnValue | None) -> tuple[float | None, float | None, float | None]:
    """Value and the ends of its error bar: the interval, else one standard deviation, of three runs or more."""
    if cell is None or cell.value is None:
        return None, None, None
    if cell.low is None and cell.spread is not None and (cell.runs is None or cell.runs >= MIN_RUNS):
        return cell.value, cell.value - cell.spread, cell.value + cell.spread
    return cell.value, cell.low, cell.high
