"""Results of a run on disk, intervals, tables, and own results beside published ones. No torch in here."""

from common.results.comparison import (
    TOY,
    Baseline,
    Caveat,
    Comparison,
    Difference,
    MetricColumn,
    OwnValue,
    compare,
    read_baselines,
)
from common.results.environment import environment
from common.results.intervals import MeanSpread, bootstrap_interval, mean_spread
from common.results.store import read_results, record
from common.results.tables import format_value, print_table, write_table

__all__ = [
    "TOY",
    "Baseline",
    "Caveat",
    "Comparison",
    "Difference",
    "MeanSpread",
    "MetricColumn",
    "OwnValue",
    "bootstrap_interval",
    "compare",
    "environment",
    "format_value",
    "mean_spread",
    "print_table",
    "read_baselines",
    "read_results",
    "record",
    "write_table",
]
