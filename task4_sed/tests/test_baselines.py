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
# Of frame-level pre-training; the specification has them in per cent.
PRETRAINING = {
    "audioset_eval": {"psds1_macro"},
    "devtest": {"psds1"},  # beside DCASE 2023's baseline
    "desed_simplified": {"psds1_frozen", "psds1_finetuned"},
    "dcase2016_task2": {"onset_f1_frozen", "onset_f1_finetuned"},
    "maestro_5h": {"onset_f1_frozen", "onset_f1_finetuned"},
}
BESIDE = "CRNN of 2023 beside it"
RATIOS = METRICS - {"kwh_train", "kwh_test", "parameters", "ranking"}
PAPERS_SYSTEM = "CP-JKU 2024 ensemble of 3"


@pytest.fixture(scope="module")
def published() -> list[Baseline]:
    return read_baselines(Path(task4_sed.__file__).parent / "baselines.csv")


@pytest.fixture(scope="module")
def baselines(published: list[Baseline]) -> list[Baseline]:
    return [entry for entry in published if not of_pretraining(entry)]


def of_pretraining(entry: Baseline) -> bool:
    return entry.system.endswith(BESIDE) if entry.set == "devtest" else entry.set in PRETRAINING


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


def test_figures_of_pretraining(published: list[Baseline], shared: Path) -> None:
    """Every figure of the tables 1.1 to 1.5 of the specification stands there, and no other."""
    specification = shared / "specs" / "task4_sed_pretraining.md"
    if not specification.is_file():
        pytest.skip(f"no {specification}")
    entries = [entry for entry in published if of_pretraining(entry)]
    assert {of: {entry.metric for entry in entries if entry.set == of} for of in PRETRAINING} == PRETRAINING
    text = specification.read_text(encoding="utf-8")
    tables = text[text.index("### 1.1") : text.index("## 2 ")] + text[text.index("## 9 ") : text.index("## 10 ")]
    numbers = {float(number) for number in re.findall(r"\d+\.\d+", tables)}
    found = {round(100 * (entry.value or 0), 2) for entry in entries}
    assert found <= numbers
    rows = [line.split("|")[2:] for line in tables.splitlines() if line.startswith("|")]
    cells = {float(cell) for row in rows for cell in re.findall(r"(?<!\d)\d+\.\d+", " ".join(row))}
    assert cells - found <= {3.83, 1.62}  # million parameters


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
