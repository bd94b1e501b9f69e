"""Results on disk, intervals, tables, comparison with published figures."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.run.errors import UserError
from common.run.results.comparison import (
    TOY,
    Baseline,
    Cell,
    MetricColumn,
    OwnValue,
    compare,
    difference,
    read_baselines,
)
from common.run.results.environment import ROOT, environment
from common.run.results.intervals import MIN_UNITS, bootstrap_interval, interval_of, mean_spread
from common.run.results.store import read_results, record
from common.run.results.tables import format_value, print_table, write_table


def git_that(folder: Path, top: Path, status: str) -> None:
    """A `git` in `folder` that knows one revision of the checkout `top`."""
    folder.mkdir(exist_ok=True)
    script = f'#!/bin/sh\ncase "$*" in *rev-parse*) printf "{top}\\nabc123\\n";; *) printf "{status}";; esac\n'
    (folder / "git").write_text(script)
    (folder / "git").chmod(0o755)


@pytest.fixture(autouse=True)
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    git_that(folder, ROOT, "")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("DCASE_REVISION", raising=False)
    return folder


# ---------------------------------------------------------------- environment


def test_environment_is_json_with_versions_and_hardware() -> None:
    found = json.loads(json.dumps(environment()))
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found["packages"]["numpy"] == np.__version__
    assert found["cores"] >= 1
    assert found["ram_gib"] > 0
    assert isinstance(found["gpus"], list)
    assert os.uname().nodename not in json.dumps(found["os"])


@pytest.mark.parametrize(("status", "dirty"), [("", False), (" M common/run/files.py", True)])
def test_code_revision_and_dirty_flag(git: Path, status: str, dirty: bool) -> None:
    git_that(git, ROOT, status)
    assert environment()["code"] == {"revision": "abc123", "dirty": dirty}


def test_a_copy_inside_another_repository_has_no_revision(git: Path, tmp_path: Path) -> None:
    git_that(git, tmp_path, "")
    assert environment()["code"] is None


def test_failing_git_means_no_revision(git: Path) -> None:
    (git / "git").write_text("#!/bin/sh\nexit 128\n")
    assert environment()["code"] is None


def test_a_container_is_told_its_revision(git: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git knows better it counts."""
    monkeypatch.setenv("DCASE_REVISION", "def456")
    assert environment()["code"] == {"revision": "abc123", "dirty": False}
    git_that(git, tmp_path, "")
    assert environment()["code"] == {"revision": "def456", "dirty": None}
    (git / "git").write_text("#!/bin/sh\nexit 128\n")
    assert environment()["code"] == {"revision": "def456", "dirty": None}


def test_importing_results_stays_light() -> None:
    heavy = ("torch", "matplotlib", "rich", "pandas")
    code = f"import sys, common.run.results, common.run.plots; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- results.json


def test_record_keeps_other_sections_and_replaces_its_own(tmp_path: Path) -> None:
    record(tmp_path, "train", {"epochs": 3, "best": np.float32(0.5), "losses": np.array([1.0, np.nan])})
    record(tmp_path, "test", {"psds1": 0.25, "old": 1})
    record(tmp_path, "test", {"psds1": 0.5, "checkpoint": Path("a/b.ckpt"), "own": OwnValue(0.5, 0.4, 0.6)})
    results = read_results(tmp_path)
    assert list(results) == ["train", "test"]
    assert results["train"]["values"] == {"epochs": 3, "best": 0.5, "losses": [1.0, None]}
    assert results["test"]["values"]["own"]["high"] == 0.6
    assert "old" not in results["test"]["values"]
    assert results["test"]["environment"]["code"]["revision"] == "abc123"
    assert results["test"]["recorded"].endswith("+00:00")


def test_a_refused_value_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    record(tmp_path, "train", {"loss": 1.0})
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ValueError):
        record(tmp_path, "test", {"loss": math.inf})
    with pytest.raises(TypeError, match="object"):
        record(tmp_path, "test", {"loss": object()})
    assert (tmp_path / "results.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["results.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", r"results\.json:1: not valid JSON"), ("[]", "list, expected"), ('{"test": {"value": 1}}', "'test' has no")],
)
def test_broken_results_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path)
    with pytest.raises(UserError, match=message):
        record(tmp_path, "train", {})


def test_missing_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json: file not found"):
        read_results(tmp_path)


# ---------------------------------------------------------------- intervals


def test_bootstrap_of_a_mean_matches_theory_and_repeats() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    low, high = bootstrap_interval(lambda w: float(w @ values / w.sum()), len(values), draws=2000)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)
    assert (low, high) == bootstrap_interval(lambda w: float(w @ values / w.sum()), len(values), draws=2000)
    assert (low, high) != bootstrap_interval(lambda w: float(w @ values / w.sum()), len(values), draws=2000, seed=1)


def test_bootstrap_of_clusters_draws_whole_groups() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b", *"defghijk"])
    seen = []

    def statistic(weights: np.ndarray) -> float:
        assert weights[0] == weights[2] == weights[5]
        assert weights[1] == weights[4]
        assert weights[0] + weights[1] + weights[3] + weights[6:].sum() == 11
        seen.append(weights)
        return float(weights[0])

    low, high = bootstrap_interval(statistic, 14, draws=300, groups=groups)
    assert (seen[0] == 1).all()  # the sample itself
    drawn = [weights[0] for weights in seen[1:]]
    assert len(drawn) == 300
    half = stats.t.ppf(0.975, 10) * np.std(drawn)
    assert (low, high) == pytest.approx((1 - half, 1 + half))


def test_identical_items_of_a_group_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    repeated, groups = np.repeat(values, 10), np.repeat(np.arange(50), 10)
    once = bootstrap_interval(lambda w: float(w @ values / w.sum()), 50)
    clustered = bootstrap_interval(lambda w: float(w @ repeated / w.sum()), 500, groups=groups)
    naive = bootstrap_interval(lambda w: float(w @ repeated / w.sum()), 500)
    assert clustered == pytest.approx(once)
    assert naive[1] - naive[0] < 0.5 * (clustered[1] - clustered[0])


def test_bootstrap_of_arrays_leaves_undefined_draws_out() -> None:
    values = np.arange(12.0)
    # (classes, items): everything, an item that is in 1 - (11/12)^12 = 65 % of the draws, and nothing.
    members = np.array([np.ones(12), np.arange(12) == 3, np.zeros(12)])

    def product(weights: np.ndarray) -> np.ndarray:
        there = members @ weights
        return np.where(there > 0, there * (values @ weights), np.nan)

    low, high = bootstrap_interval(product, 12, draws=400)
    assert np.array_equal(np.isnan(low), [False, False, True])
    assert np.array_equal(np.isnan(high), [False, False, True])
    assert low[1] < 66 < high[1]


def test_intervals_by_hand() -> None:
    """Draws 0.6, 0.7, 0.8, 0.9 about 0.8: a deviation of 0.111803; t of 9 degrees of freedom 2.262157."""
    drawn = np.array([0.6, 0.7, 0.8, 0.9])
    plain = interval_of(0.8, drawn, 10)
    assert plain == pytest.approx((0.8 - 0.252917, 0.8 + 0.252917), abs=1e-6)
    # Logit of 0.8: ln 4 = 1.386294, its standard error 0.111803 / (0.8 * 0.2) = 0.698771, times t: 1.580730.
    share = interval_of(0.8, drawn, 10, share=True)
    assert share == pytest.approx((0.451544, 0.951062), abs=1e-6)
    assert interval_of(0.8, drawn, 10, share=True, floor=0.5) == pytest.approx((0.5, float(share[1])))
    both = interval_of([0.8, 0.8], np.stack([drawn, drawn], axis=1), np.array([10, 10]), np.array([False, True]))
    np.testing.assert_allclose(np.transpose(both), [plain, share])


@pytest.mark.filterwarnings("error")
def test_interval_of_a_share_near_its_end_is_all_of_it() -> None:
    assert interval_of(1e-6, np.array([0.0, 0.01]), 20, share=True) == pytest.approx((0.0, 1.0))


@pytest.mark.parametrize("share", [False, True])
def test_no_interval_where_the_sample_says_nothing(share: bool) -> None:
    drawn = np.random.default_rng(0).uniform(0.4, 0.6, 50)
    assert np.isfinite(interval_of(0.5, drawn, MIN_UNITS, share)).all()
    assert np.isnan(interval_of(0.5, drawn, MIN_UNITS - 1, share)).all()  # too few
    assert np.isnan(interval_of(0.5, np.full(50, 0.5), 1000, share)).all()  # of no width
    assert np.isnan(interval_of(np.nan, drawn, 1000, share)).all()
    assert np.isnan(interval_of(1.0, drawn, 1000, share)).all() == share  # a share of 1 has no logit
    three = bootstrap_interval(lambda w: float(w @ np.array([1.0, 1.0, 1.0]) / w.sum()), 3, share=share)
    assert np.isnan(three).all()


@pytest.mark.parametrize(("n", "chance"), [(12, 0.5), (30, 0.8), (100, 0.95)])
def test_intervals_of_shares_cover_the_truth(n: int, chance: float) -> None:
    """About 95 % of 400 samples' intervals hold it (a sample of ones or zeros alone has none), and all of them the
    sample's own share."""
    random = np.random.default_rng(n)
    covered = []
    for number in range(400):
        hits = random.random(n) < chance
        low, high = bootstrap_interval(lambda w, h=hits: float(w @ h / w.sum()), n, 200, number, share=True)
        if not math.isnan(low):
            assert 0 < low < hits.mean() < high < 1
            covered.append(low <= chance <= high)
    assert len(covered) > 350
    assert 0.92 < np.mean(covered) < 0.995


@pytest.mark.parametrize(
    "arguments", [{"n": 0}, {"n": 3, "draws": 0}, {"n": 3, "level": 1.0}, {"n": 3, "groups": np.zeros(2)}]
)
def test_bootstrap_refuses_impossible_arguments(arguments: dict) -> None:
    with pytest.raises(ValueError):
        bootstrap_interval(lambda w: 0.0, **arguments)


def test_mean_and_spread_over_runs() -> None:
    assert mean_spread([0.1, 0.2, 0.3]) == (pytest.approx(0.2), pytest.approx(0.1), 3)
    assert mean_spread([0.4]) == (0.4, None, 1)
    with pytest.raises(ValueError, match="one value per run"):
        mean_spread([])


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"value": 0.5123, "low": 0.484, "high": 0.55}, "0.512 [0.48, 0.55]"),
        ({"value": 0.5123, "low": 0.5114, "high": 0.5132}, "0.512 [0.511, 0.513]"),
        ({"value": 0.49, "spread": 0.004}, "0.490 ± 0.004"),
        ({"value": -0.031, "low": -0.071, "high": -0.0006, "signed": True}, "-0.031 [-0.071, -0.001]"),
        ({"value": 0.02, "signed": True}, "+0.020"),
        ({"value": 1804800000.0, "decimals": 0}, "1,804,800,000"),
        ({"value": None, "low": 0.1, "high": 0.2}, "n/a"),
        ({"value": math.nan}, "n/a"),
        ({"value": 0.5, "low": math.nan, "high": math.nan}, "0.500"),
    ],
)
def test_figures_read_with_their_uncertainty(arguments: dict, text: str) -> None:
    assert format_value(**arguments) == text


def test_a_table_is_printed_whole_and_saved(tmp_path: Path) -> None:
    rows = [["a|b [bold]", "0.512 [0.48, 0.55]"], ["long name " * 20, "n/a"]]
    out = io.StringIO()
    print_table("Title", ["system", "PSDS1"], rows, "a note", out, save=[tmp_path / "t.csv", tmp_path / "t.md"])
    text = out.getvalue()
    assert "a|b [bold]" in text  # no markup, no cut
    assert ("long name " * 20).strip() in text
    assert text.startswith("Title\n")
    assert text.endswith("a note\n")
    with open(tmp_path / "t.csv", newline="") as file:
        assert list(csv.reader(file)) == [["system", "PSDS1"], *rows]
    lines = (tmp_path / "t.md").read_text().splitlines()
    assert lines[:5] == [
        "### Title",
        "",
        "| system | PSDS1 |",
        "| --- | ---: |",
        r"| a\|b [bold] | 0.512 [0.48, 0.55] |",
    ]


def test_bad_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 0 has 1 cells, expected 2"):
        print_table("T", ["a", "b"], [["1"]], file=io.StringIO())
    with pytest.raises(UserError, match=r"'\.txt' is no kind of table"):
        write_table(tmp_path / "t.txt", ["a"], [["1"]])


# ---------------------------------------------------------------- baselines and comparison

HEADER = "system,set,metric,value,spread,source\n"
PSDS = MetricColumn("psds", "dev", "PSDS")
KWH = MetricColumn("kwh", "dev", "energy (kWh)", higher_is_better=False, decimals=2)
PUBLISHED = [
    Baseline("base", "dev", "psds", 0.4, 0.01, "paper A"),
    Baseline("base", "dev", "kwh", 2.0, None, "paper A"),
    Baseline("best", "dev", "psds", 0.6, None, "paper B"),
    Baseline("unknown", "dev", "psds", None, None, "not available"),
    Baseline("elsewhere", "other set", "psds", 0.9, None, "paper C"),
]
OWN = {"ours": {"dev/psds": OwnValue(0.5, 0.45, 0.54), "dev/kwh": OwnValue(1.0)}}


def test_baselines_are_read(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(HEADER + "base,dev,psds,0.4,0.01,paper\nbase,dev,kwh,,,not available\n")
    assert read_baselines(tmp_path / "b.csv") == [
        Baseline("base", "dev", "psds", 0.4, 0.01, "paper"),
        Baseline("base", "dev", "kwh", None, None, "not available"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",dev,psds,0.4,,paper", r":2: system is empty"),
        ("base,dev,psds,0.4,,", r":2: source is empty"),
        ("base,dev,psds,0;4,,paper", r":2: value is '0;4', expected a number"),
        ("base,dev,psds,nan,,paper", r":2: value is 'nan', expected a finite number"),
        ("base,dev,psds,,0.1,paper", r":2: spread is '0.1', expected 0 or more beside a value"),
        ("base,dev,psds,0.4,-1,paper", r":2: spread is '-1'"),
        ("base,dev,psds,0.4,,a\nbase,dev,psds,0.5,,b", r":3: psds of base on dev already stands at .*:2"),
    ],
)
def test_mistakes_in_baselines_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "b.csv").write_text(HEADER + line + "\n")
    with pytest.raises(UserError, match=message):
        read_baselines(tmp_path / "b.csv")


def test_own_rows_stand_at_their_rank() -> None:
    rows = compare(OWN, PUBLISHED, [PSDS, KWH]).rows
    assert [(row.rank, row.system, row.kind) for row in rows] == [
        (1, "best", "published"),
        (2, "ours", "own"),
        (3, "base", "published"),
        (None, "unknown", "published"),
    ]
    by_energy = compare(OWN, PUBLISHED, [KWH, PSDS]).rows
    assert [row.system for row in by_energy][:2] == ["ours", "base"]


def test_equal_figures_share_a_rank_and_nan_has_none() -> None:
    own = {"twin": {"dev/psds": OwnValue(0.6)}, "failed": {"dev/psds": OwnValue(math.nan)}}
    ranks = {row.system: row.rank for row in compare(own, PUBLISHED, [PSDS]).rows}
    assert ranks == {"best": 1, "twin": 1, "base": 3, "unknown": None, "failed": None}


def test_difference_combines_both_uncertainties() -> None:
    # The own interval reaches 0.03 down and 0.04 up, the reference's 0.03 and 0.04 too: below, 0.03 meets 0.04.
    own = Cell(0.5, 0.47, 0.54)
    found = difference(own, Cell(0.4, 0.37, 0.44))
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.05, 0.15))
    spread = difference(Cell(0.5), Cell(0.4, spread=0.01))
    assert (spread.low, spread.high) == pytest.approx((0.1 - 0.0196, 0.1 + 0.0196), abs=1e-6)
    bare = difference(Cell(0.5), Cell(0.4))
    assert bare.low is None
    assert difference(Cell(), own) is None
    assert difference(own, None) is None


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=2), st.lists(st.floats(0, 0.5), min_size=4, max_size=4))
def test_difference_is_antisymmetric_and_never_narrower_than_its_parts(values: list[float], reach: list[float]) -> None:
    (a, b), (a_low, a_high, b_low, b_high) = values, reach
    one, two = Cell(a, a - a_low, a + a_high), Cell(b, b - b_low, b + b_high)
    there, back = difference(one, two), difference(two, one)
    assert there.value == -back.value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.high - there.low >= max(a_low + a_high, b_low + b_high) - 1e-9


def test_printed_and_saved_comparison(tmp_path: Path) -> None:
    comparison = compare(OWN, PUBLISHED, [PSDS, KWH], reference="base")
    out = io.StringIO()
    comparison.print(out)
    text = out.getvalue()
    assert "0.500 [0.45, 0.54]" in text
    assert "n/a" in text
    assert "toy" not in text
    assert "elsewhere" not in text
    paths = comparison.save(tmp_path)
    assert [path.name for path in paths] == ["comparison.csv", "comparison.md", "comparison.png"]
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    markdown = paths[1].read_text()
    assert "| 3 | base | published | 0.400 ± 0.010 | 2.00 | 0 (reference) | paper A |" in markdown
    with open(paths[0], newline="") as file:
        lines = {(line["system"], line["metric"]): line for line in csv.DictReader(file)}
    ours = lines["ours", "psds"]
    assert ours["result"] == "own"
    assert float(ours["difference"]) == pytest.approx(0.1)
    assert float(ours["difference_low"]) == pytest.approx(0.1 - math.hypot(0.05, 1.959964 * 0.01))
    assert lines["unknown", "psds"]["value"] == ""
    assert float(lines["ours", "kwh"]["difference"]) == -1.0
    assert lines["ours", "kwh"]["difference_low"] == ""


def test_toy_figures_always_say_so(tmp_path: Path) -> None:
    comparison = compare(OWN, PUBLISHED, [PSDS, KWH], caveat=TOY, reference="best")
    assert TOY.text in comparison.title
    _, markdown, _ = comparison.save(tmp_path)
    lines = [line for line in markdown.read_text().splitlines() if line.startswith("|")]
    assert next(line for line in lines if "| own |" in line).count("(toy)") == 2  # both figures; there is no difference
    assert not any("(toy)" in line for line in lines if "| published |" in line)
    with open(tmp_path / "comparison.csv", newline="") as file:
        assert all((line["note"] == TOY.text) == (line["result"] == "own") for line in csv.DictReader(file))
    out = io.StringIO()
    comparison.print(out)
    text = out.getvalue()
    assert TOY.text in text
    assert text.count("(toy)") == 2  # every own figure; there is no difference


@pytest.mark.parametrize("reference", ["best", "base", "ours", None])
def test_toy_figures_have_no_rank_and_no_difference(tmp_path: Path, reference: str | None) -> None:
    comparison = compare(OWN, PUBLISHED, [PSDS, KWH], caveat=TOY, reference=reference)
    official = compare(OWN, PUBLISHED, [PSDS, KWH], reference=reference)
    assert {(row.system, row.rank) for row in comparison.rows} == {
        ("best", 1),
        ("base", 2),  # as if the own figures were not there
        ("unknown", None),
        ("ours", None),
    }
    assert comparison.rows[-1].system == "ours"
    ours = comparison.rows[-1].cells.values()
    assert [cell.value for cell in ours] == [0.5, 1.0]
    assert all(cell.difference is None for cell in ours)
    of_base = {row.system: row.cells["dev/psds"].difference for row in comparison.rows}["base"]
    same = {row.system: row.cells["dev/psds"].difference for row in official.rows}["base"]
    assert of_base == (None if reference == "ours" else same)
    comparison.save(tmp_path)
    with open(tmp_path / "comparison.csv", newline="") as file:
        own = [line for line in csv.DictReader(file) if line["result"] == "own"]
    assert {(line["rank"], line["difference"]) for line in own} == {("", "")}


@pytest.mark.parametrize(
    ("own", "reference", "message"),
    [
        ({"ours": {"dev/psd": OwnValue(0.5)}}, None, "no column for 'dev/psd'; did you mean 'dev/psds'"),
        ({"base": {"dev/psds": OwnValue(0.5)}}, None, "'base' has the name of a published one"),
        ({}, "bast", "unknown reference system 'bast'; did you mean"),
    ],
)
def test_mistakes_in_a_comparison_are_named(own: dict, reference: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare(own, PUBLISHED, [PSDS], reference=reference)


def test_an_interval_needs_two_ordered_ends() -> None:
    with pytest.raises(ValueError, match="both ends"):
        OwnValue(0.5, low=0.4)
    with pytest.raises(ValueError, match="upside down"):
        OwnValue(0.5, 0.6, 0.4)
