"""The common plots: what they show, that they are files as they should be, what they refuse."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from common.run import plots
from common.run.errors import UserError
from common.run.results.comparison import Cell, OwnValue, bar
from common.tests.pictures import NOTE, check_bars, check_readable, title_of

CURVES = {
    "train/loss": (np.arange(4.0), np.array([2.0, 1.0, np.nan, 0.4])),
    "val/loss": (np.arange(4.0), np.array([2.1, 1.2, 0.9, 1.0])),
    "val/psds1": (np.arange(4.0), np.array([0.1, np.nan, 0.4, 0.3])),
    "lr-AdamW/pg1": (np.arange(4.0), np.full(4, 1e-3)),
}


def texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def overlaps(figure: Figure) -> list[str]:
    """Legends that lie over an axes' data area."""
    figure.draw_without_rendering()
    areas = [axes.get_window_extent() for axes in figure.axes]
    return [str(legend) for legend in figure.legends for area in areas if legend.get_window_extent().overlaps(area)]


def test_equal_figures_give_equal_files_without_metadata(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plots.save(plots.training_curves(CURVES, title="run", note="toy data"), tmp_path / f"{name}.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert b"tEXt" not in data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_equal_figures_give_equal_drawings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plots.save(plots.training_curves(CURVES, title="run"), tmp_path / f"{name}.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_only_png_and_svg_are_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written as \.png"):
        plots.save(Figure(), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_the_users_settings_come_back() -> None:
    before = dict(matplotlib.rcParams)
    plots.training_curves(CURVES)
    assert dict(matplotlib.rcParams) == before


def test_metrics_are_read_per_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss,val/psds1\n0,0,3.0,\n0,1,1.0,\n0,1,,0.2\n1,2,nan,\n1,3,,0.5\n,4,,0.9\n")
    curves = plots.read_metrics(path)
    assert sorted(curves) == ["train/loss", "val/psds1"]
    np.testing.assert_array_equal(curves["train/loss"], [[0, 1], [2.0, np.nan]])
    np.testing.assert_array_equal(curves["val/psds1"], [[0, 1], [0.2, 0.5]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'epoch'"),
        ("step,loss\n1,2\n", "no column 'epoch'"),
        ("epoch,loss\n0,low\n", ":2: loss is 'low', expected a number"),
        ("epoch,loss\n0,1\n0\n", ":3: another number of fields"),
        ("epoch,loss\n0,1,2\n", ":2: another number of fields"),
    ],
)
def test_mistakes_in_metrics_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        plots.read_metrics(tmp_path / "metrics.csv")


def test_curves_share_panels_and_mark_the_best_epoch() -> None:
    figure = plots.training_curves(CURVES, monitor="val/psds1", title="run 1", note="toy data")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["psds1", "loss", "learning rate"]
    assert {"train", "val", "run 1", "toy data", "best epoch: 2 (val/psds1 0.4)"} <= set(texts(figure))
    for axes in figure.axes:
        assert any(list(line.get_xdata()) == [2.0, 2.0] for line in axes.lines)
    lowest = plots.training_curves(CURVES, monitor="val/loss", mode="min")
    assert "best epoch: 2 (val/loss 0.9)" in texts(lowest)
    assert overlaps(figure) == []


def test_curves_of_a_diverged_or_short_run_are_drawn() -> None:
    one = {"val/loss": (np.array([0.0]), np.array([np.nan]))}
    figure = plots.training_curves(one, monitor="val/loss")
    assert not any("best" in text for text in texts(figure))


def test_curves_refuse_what_is_not_there() -> None:
    with pytest.raises(UserError, match="unknown metric 'val/psds'; did you mean 'val/psds1'"):
        plots.training_curves(CURVES, monitor="val/psds")
    with pytest.raises(UserError, match="no metrics"):
        plots.training_curves({})


def test_class_bars_show_values_intervals_and_gaps() -> None:
    bars = {"raw": [(0.5, 0.4, 0.6), (None, None, None)], "boxes": [(0.25, None, None), (float("nan"), 0.1, 0.2)]}
    figure = plots.class_bars(["Speech", "Cat $"], bars, "F1", title="per class", note="toy data")
    assert {"0.500", "0.250", "Speech", "Cat $", "raw", "boxes", "per class", "toy data"} <= set(texts(figure))
    assert texts(figure).count("n/a") == 2
    (axes,) = figure.axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.4, 0.6]]
    assert sorted(patch.get_width() for patch in axes.patches) == [0.25, 0.5]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # first class on top
    assert overlaps(figure) == []


def test_comparison_bars_tell_own_from_published() -> None:
    metrics = {"PSDS1": [(0.6, None, None), (0.5, 0.45, 0.54)], "parameters": [(1.8e9, None, None), (1e6, None, None)]}
    figure = plots.comparison_bars(["theirs", "ours"], [False, True], metrics, "comparison", "toy data")
    assert {"own", "published", "1.80G", "1.00M", "toy data"} <= set(texts(figure))
    first = figure.axes[0].patches
    assert first[0].get_facecolor() != first[1].get_facecolor()
    assert [label.get_fontweight() for label in figure.axes[0].get_yticklabels()] == ["normal", "bold"]
    assert overlaps(figure) == []


def test_bars_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="raw has 1 values, expected 2"):
        plots.class_bars(["a", "b"], {"raw": [(0.5, None, None)]}, "F1")
    with pytest.raises(ValueError, match="own has 0 values, expected 1"):
        plots.comparison_bars(["a"], [], {"F1": [(0.5, None, None)]})


KNOWN = (0.5, 0.4, 0.6)
UNKNOWN = (None, None, None)
NAMES = [
    "ASDKit dis_multispec_scac_trainable",
    "Electric shaver toothbrush of a very long name",
    "toy (own, 3 trainings)",
]
TITLE = "losses of a system whose name is longer than a line of this picture is wide\nrecipe toy, training 1"
PICTURES = {
    "training": lambda: plots.training_curves(CURVES, "val/psds1", title=TITLE, note=NOTE),
    "classes": lambda: plots.class_bars(
        plots.wrapped(NAMES), {"PSDS1": [KNOWN] * 3, "F1": [UNKNOWN] * 3}, "score", TITLE, NOTE
    ),
    "comparison": lambda: plots.comparison_bars(
        *(NAMES, [False, False, True], {f"AUC {n}": [KNOWN, UNKNOWN, KNOWN] for n in range(7)}, TITLE, NOTE),
        panels={f"AUC {n}": plots.Panel("dev", "share", 0.5) for n in range(7)},
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_reads_well(name: str) -> None:
    check_readable(PICTURES[name](), "losses of a system", "recipe toy, training 1")


@pytest.mark.parametrize("name", ["classes", "comparison"])
def test_bars_begin_at_zero(name: str) -> None:
    check_bars(PICTURES[name]())


def test_panels_of_one_unit_share_their_axis_and_one_group_a_row() -> None:
    metrics = {
        "dev": [(0.9, None, None), (0.5, 0.4, 0.95)],
        "eval": [(None, None, None), (0.2, None, None)],
        "kWh": [(1.7, None, None), (0.1, None, None)],
    }
    of = {
        "dev": plots.Panel("dev", "share", 0.5),
        "eval": plots.Panel("eval", "share"),
        "kWh": plots.Panel("dev", "kWh"),
    }
    figure = plots.comparison_bars(["theirs", "ours"], [False, True], metrics, panels=of)
    figure.draw_without_rendering()
    dev, evaluation, kwh = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["dev", "eval", "kWh"]
    assert dev.get_xlim() == evaluation.get_xlim() == (0, pytest.approx(1.25 * 0.95))
    assert kwh.get_xlim() == (0, pytest.approx(1.25 * 1.7))
    assert len({axes.get_position().y0 for axes in figure.axes}) == 3
    assert [len(axes.get_yticks()) for axes in figure.axes] == [2, 1, 2]  # no row for a system without any figure
    assert [line.get_xdata()[0] for line in dev.lines if line.get_linestyle() != "-"] == [0.5]
    assert "chance" in texts(figure)


def test_many_published_systems_are_counted_not_drawn() -> None:
    systems = [f"system {n}" for n in range(40)]
    figure = plots.comparison_bars(systems, [n == 39 for n in range(40)], {"AUC": [KNOWN] * 40}, note=NOTE)
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == [*systems[: plots.MAX_PUBLISHED], "system 39"]
    assert f"{39 - plots.MAX_PUBLISHED} more systems in comparison.csv; {NOTE}" in texts(figure)


def test_a_long_title_is_wrapped_not_cut() -> None:
    figure = plots.new_figure(4.0, 3.0)
    with plots.style():
        plots.title_and_legend(figure, "of accuracy " * 20)
    assert title_of(figure) == ("of accuracy " * 20).strip()
    check = figure.findobj(lambda artist: artist is figure._suptitle)[0]
    figure.draw_without_rendering()
    assert check.get_window_extent().x1 <= figure.bbox.x1


def test_the_deviation_of_two_trainings_is_no_interval() -> None:
    assert bar(OwnValue(0.5, spread=0.1, runs=2)) == (0.5, None, None)
    assert bar(OwnValue(0.5, spread=0.1, runs=3)) == (0.5, 0.4, 0.6)
    assert bar(Cell(0.5, spread=0.1)) == (0.5, 0.4, 0.6)  # published: over as many as they are
