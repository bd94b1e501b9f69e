"""Plots of sound event detection: what stands in the picture, for clips of any length, with and without truth."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from common.run.plots import save
from common.tests.pictures import NOTE, check_bars, check_readable
from task4_sed.data.annotations import Event
from task4_sed.evaluation import plots
from task4_sed.inference.detect import boxes_title
from task4_sed.metrics.types import ClipScores, ScoreSet

CLASSES = ("Cat", "Dog", "Electric_shaver_toothbrush", "Speech")


def clip(frames: int = 100, frame_seconds: float = 0.1) -> ClipScores:
    """Dog above 0.8 in one frame, Speech never above 0.2, the others at 0."""
    scores = np.zeros((frames, len(CLASSES)))
    scores[frames // 2, 1] = 0.8
    scores[:, 3] = 0.2
    return ClipScores(np.arange(frames + 1) * frame_seconds, scores)


def mel(frames: int = 200) -> np.ndarray:
    return np.random.default_rng(0).normal(-40.0, 10.0, (64, frames))


def texts(figure: Figure) -> set[str]:
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(Text)}


def rectangles(figure: Figure, filled: bool) -> list[tuple[float, float]]:
    """(start, end) of truth bars (filled) or detection boxes (outlines), in the order drawn."""
    patches = [patch for patch in figure.axes[1].patches if patch.get_fill() == filled]
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in patches]


def test_event_roll_shows_relevant_classes_truth_and_boxes(tmp_path: Path) -> None:
    truth = [Event(1.0, 2.5, "Speech"), Event(4.0, 4.5, "Dog", confidence=0.5)]
    boxes = [Event(5.0, 5.2, "Dog", confidence=0.7), Event(0.0, 9.0, "Cat", confidence=0.1)]
    figure = plots.event_roll(mel(), clip(), CLASSES, truth, boxes, title="clip 1", note="toy data")
    rows = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert rows == ["Dog", "Speech"]  # the cat's box has too little confidence, the shaver no score
    assert rectangles(figure, filled=True) == [(1.0, 2.5), (4.0, 4.5)]
    assert rectangles(figure, filled=False) == [(5.0, pytest.approx(5.2))]
    weak = [patch for patch in figure.axes[1].patches if patch.get_fill()][1]
    assert weak.get_facecolor() == to_rgba(plots.TRUTH_COLOUR, 0.5)
    assert {"clip 1", "toy data", "annotated", "detected"} <= texts(figure)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim() == (0.0, 10.0)
    save(figure, tmp_path / "roll.png")
    assert (tmp_path / "roll.png").stat().st_size > 10_000


def test_event_roll_without_truth_has_no_truth_in_its_legend() -> None:
    found = texts(plots.event_roll(mel(), clip(), CLASSES, None, [Event(5.0, 5.2, "Dog")]))
    assert "annotated" not in found
    assert "detected" in found


def test_event_roll_of_silence_says_so() -> None:
    silent = ClipScores(np.array([0.0, 1.0]), np.full((1, 4), -np.inf))
    figure = plots.event_roll(np.zeros((64, 10)), silent, CLASSES, truth=[])
    assert "no class above 0.3" in texts(figure)


def test_a_short_peak_survives_in_a_long_recording() -> None:
    figure = plots.event_roll(mel(5000), clip(frames=36_000), CLASSES)  # an hour
    (strip,) = [mesh for mesh in figure.axes[1].collections if isinstance(mesh, QuadMesh)]
    shown = np.asarray(strip.get_array())
    assert shown.max() == 0.8
    assert shown.size <= plots.MAX_SCORE_COLUMNS
    assert figure.axes[1].get_xlim() == (0.0, 3600.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5000), st.integers(0, 2**31))
def test_pooling_keeps_span_peaks_and_order(frames: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges, scores = np.concatenate([[0.0], rng.uniform(0.01, 1, frames).cumsum()]), rng.uniform(size=(frames, 2))
    pooled_edges, pooled = plots._pool(edges, scores)
    assert len(pooled_edges) == len(pooled) + 1 <= plots.MAX_SCORE_COLUMNS + 1
    assert (pooled_edges[0], pooled_edges[-1]) == (edges[0], edges[-1])
    assert (np.diff(pooled_edges) > 0).all()
    np.testing.assert_array_equal(pooled.max(axis=0), scores.max(axis=0))


def test_the_frequency_axis_is_in_kilohertz_where_bands_are_known() -> None:
    figure = plots.event_roll(mel(), clip(), CLASSES, band_hz=np.geomspace(50, 7900, 64))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["0.5", "1", "2", "4", "8"]


def test_the_picture_of_a_front_end_has_its_frequencies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Against the peaks of the filters themselves: librosa's centres are those of the bank."""
    from common.frontends import SETTINGS, mel_bank

    for name in ("task4_crnn", "atst"):
        setting = SETTINGS[name]
        bank = mel_bank(setting).numpy()
        wide = np.flatnonzero((bank > 0).sum(axis=1) > 8)  # narrow ones have their peak between two bins
        peaks = bank.argmax(axis=1) * setting.sample_rate / setting.fft
        np.testing.assert_allclose(
            plots.band_frequencies(setting)[wide], peaks[wide], atol=setting.sample_rate / setting.fft
        )
    kept: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.append(figure))
    scores = ScoreSet(CLASSES, {"clip": clip()})
    seen = np.random.default_rng(0).normal(size=(128, 200))
    plots.draw_events(tmp_path / "a.png", seen, scores, [], 0.5, setting=SETTINGS["task4_crnn"])
    axes = kept[0].axes[0]
    assert axes.get_ylabel() == "frequency (kHz)"
    assert [float(tick) for tick in axes.get_yticks()] == [500, 1000, 2000, 4000, 8000]  # positions in Hz
    assert axes.get_yscale() == "symlog"  # librosa's mel axis


@pytest.mark.parametrize("band_hz", [None, np.geomspace(50, 7900, 64)])
def test_the_axes_of_a_roll_have_numbers(band_hz: np.ndarray | None) -> None:
    figure = plots.event_roll(mel(), clip(), CLASSES, band_hz=band_hz)
    figure.draw_without_rendering()
    assert {"0", "2", "4", "6", "8", "10"} <= {label.get_text() for label in figure.axes[1].get_xticklabels()}
    assert len([label for label in figure.axes[0].get_yticklabels() if label.get_text()]) >= 3


def test_a_spectrogram_of_an_hour_is_pooled() -> None:
    figure = plots.event_roll(np.zeros((64, 225_000), np.float32), clip(), CLASSES)
    (image,) = [mesh for mesh in figure.axes[0].collections if isinstance(mesh, QuadMesh)]
    assert np.asarray(image.get_array()).shape == (64, plots.MAX_SCORE_COLUMNS - 3)


def test_event_roll_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="for 3 classes"):
        plots.event_roll(mel(), clip(), CLASSES[:3])
    with pytest.raises(ValueError, match="'Doge', which has no scores"):
        plots.event_roll(mel(), clip(), CLASSES, [Event(0, 1, "Doge")])


def test_psd_roc_holds_the_last_value_and_names_the_area() -> None:
    curve = (np.array([0.0, 20.0, 150.0]), np.array([0.2, 0.6, 0.9]))
    figure = plots.psd_roc(curve, 0.52, {"Cat": curve, "Dog": (np.empty(0), np.empty(0))}, name="PSDS1", note="toy")
    (axes,) = figure.axes
    thick = max(axes.lines, key=lambda line: line.get_linewidth())
    assert list(thick.get_xdata()) == [0, 20, 100]  # beyond 100 per hour nothing counts
    assert list(thick.get_ydata()) == [0.2, 0.6, 0.6]
    assert {"effective (PSDS1 0.520)", "Cat", "Dog", "toy"} <= texts(figure)


def test_segment_roc_names_areas_and_their_mean() -> None:
    curve = (np.linspace(0, 1, 50), np.linspace(0, 1, 50) ** 0.2)
    figure = plots.segment_roc({"car": curve, "metro_leaving": curve}, {"car": 0.5, "metro_leaving": 0.7})
    assert {"car 0.500", "metro leaving 0.700", "mean partial area: 0.600"} <= texts(figure)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=12).map(sorted), st.floats(0.001, 0.2))
def test_names_are_spread_apart(positions: list[float], gap: float) -> None:
    spread = plots.spread_apart(positions, gap)
    assert len(spread) == len(positions)
    assert (np.diff(spread) >= gap - 1e-9).all()
    assert np.sum(spread) == pytest.approx(np.sum(positions))
    if len(positions) < 2 or np.diff(positions).min() > gap:
        assert spread == pytest.approx(positions)


def test_per_class_bars_say_what_is_missing() -> None:
    metrics = {"PSDS1": {"Cat": (0.5, 0.4, 0.6), "Speech": 0.7}, "collar F1": {"Cat": 0.3}}
    found = texts(plots.per_class(("Cat", "Speech"), metrics))
    assert {"PSDS1", "collar F1", "0.500", "0.700", "n/a"} <= found
    with pytest.raises(ValueError, match="PSDS1 has a value for 'Dog'"):
        plots.per_class(("Cat",), {"PSDS1": {"Dog": 0.5}})


CURVE = (np.array([0.0, 20.0, 100.0]), np.array([0.2, 0.6, 0.9]))
ABOUT = "recipe toy, training 1, student"
BANDS = np.geomspace(50, 7900, 64)
PICTURES = {
    "roll": lambda: plots.event_roll(
        mel(), clip(), CLASSES, [Event(1, 2, "Speech")], [Event(5.0, 5.2, "Dog")], 0.3, BANDS, f"a.wav\n{ABOUT}", NOTE
    ),
    "long roll": lambda: plots.event_roll(
        mel(9000), clip(3600), CLASSES, band_hz=BANDS, title=f"a.wav\n{ABOUT}", note=NOTE
    ),
    "psd_roc": lambda: plots.psd_roc(CURVE, 0.5, dict.fromkeys(CLASSES, CURVE), title=f"PSD-ROC\n{ABOUT}", note=NOTE),
    "maestro_roc": lambda: plots.segment_roc(
        dict.fromkeys(CLASSES, (CURVE[0] / 1000, CURVE[1])),
        dict.fromkeys(CLASSES, 0.5),
        title=f"ROC\n{ABOUT}",
        note=NOTE,
    ),
    "classes": lambda: plots.per_class(
        CLASSES, {"PSDS1": dict.fromkeys(CLASSES, 0.5), "F1": {"Cat": (0.5, 0.4, 0.6)}}, f"figures\n{ABOUT}", NOTE
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_reads_well(name: str) -> None:
    check_readable(PICTURES[name](), ABOUT, lines=name != "long roll")


def test_bars_per_class_begin_at_zero() -> None:
    check_bars(PICTURES["classes"]())


def test_a_roll_has_seconds_kilohertz_decibels_and_scores() -> None:
    figure = PICTURES["roll"]()
    spectrogram, roll, level, scores = figure.axes
    assert (spectrogram.get_ylabel(), roll.get_xlabel()) == ("frequency (kHz)", "time (s)")
    assert (level.get_ylabel(), scores.get_ylabel()) == ("level (dB)", "score")
    figure.draw_without_rendering()
    assert spectrogram.get_position().x1 == pytest.approx(roll.get_position().x1)


def test_of_many_classes_the_annotated_and_the_loudest_are_shown() -> None:
    names = [f"class {n:02d}" for n in range(27)]
    scores = ClipScores(np.array([0.0, 1.0]), np.linspace(0.4, 0.9, 27)[None])
    figure = plots.event_roll(mel(), scores, names, [Event(0, 1, "class 00")])
    rows = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert rows == ["class 00", *names[-plots.MAX_ROWS + 1 :]]
    assert "12 more classes with scores above 0.3" in texts(figure)


def test_the_title_of_a_file_says_how_it_was_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: kept.append(figure))
    scores = ScoreSet(CLASSES, {"clip": clip()})
    about = f"{ABOUT}\n{boxes_title('runs/csebbs.tsv', 0.5)}"
    plots.draw_events(tmp_path / "a.png", mel(), scores, [], 0.5, title="a.wav", note=NOTE, about=about)
    check_readable(kept[0], "a.wav", ABOUT, "cSEBBs (csebbs.tsv) with a confidence of 0.5 or more", lines=False)
