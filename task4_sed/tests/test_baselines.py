"""The published figures that are shipped with the task."""

import re
from pathlib import Path

import pytest

import task4_sed
from common.run.results.comparison import Baseline, MetricColumn, OwnValue, compare, read_baselines

METRICS = {
    *("psds1_psds_eval", "psds1", "psds1_csebbs", "psds1_csebbs_tuned_on_test", "psds2", "mpauc"),
    *("kwh_train", "kwh_test", "parameters", "ranking"),
}
RATIOS = METRICS - {"kwh_train", "kwh_test", "parameters", "ranking"}
PAPERS_SYSTEM = "CP-JKU 2024 ensemble of 3"


@pytest.fixture(scope="module")
def baselines() -> list[Baseline]:
    return read_baselines(Path(task4_sed.__file__).parent / "baselines.csv")


def test_figures_are_possible(baselines: list[Baseline]) -> None:
    for entry in baselines:
        assert entry.metric in METRICS, entry
        assert entry.set in {"devtest", "eval_public", "eval2024", "eval2023", "devtest2023"}, entry
        assert (entry.value is None) == (entry.source == "not available"), entry
        if entry.value is not None:
            assert 0 < entry.value < (1 if entry.metric in RATIOS else float("inf")), entry
        if entry.metric == "parameters":
            assert entry.value == int(entry.value or 0.5), entry


def test_every_set_is_there(baselines: list[Baseline]) -> None:
    of_2023 = [entry for entry in baselines if entry.set == "eval2023"]
    assert len({entry.system for entry in of_2023}) == 10
    assert len(of_2023) == 10 * 6  # ranking, psds1, psds2, two energies, parameters
    assert len([entry for entry in baselines if entry.set == "devtest2023"]) == 10 * 2
    assert {entry.metric for entry in baselines if entry.set == "devtest"} == METRICS - {"parameters", "ranking"}


def test_figures_are_those_of_the_specification(baselines: list[Baseline], shared: Path) -> None:
    specification = shared / "specs" / "task4_sed_finetuning.md"
    if not specification.is_file():
        pytest.skip(f"no {specification}")
    text = specification.read_text(encoding="utf-8")
    numbers = {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}
    for entry in baselines:
        assert entry.value is None or entry.value in numbers, entry
        assert entry.spread is None or entry.spread in numbers, entry


def test_own_figures_compare_with_them(baselines: list[Baseline]) -> None:
    columns = [MetricColumn("psds1_csebbs", "eval_public", "PSDS1"), MetricColumn("psds1", "eval_public", "PSDS1 raw")]
    own = {"own": {"eval_public/psds1_csebbs": OwnValue(0.7, 0.68, 0.72)}}
    rows = compare(own, baselines, columns, reference=PAPERS_SYSTEM).rows
    ranked = [row.system for row in rows if row.rank is not None]
    assert ranked == [PAPERS_SYSTEM, "own", "CP-JKU 2024 single model", "Best system of 2023"]
    assert rows[-1].rank is None
