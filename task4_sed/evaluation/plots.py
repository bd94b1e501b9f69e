"""Plots of sound event detection: event roll of a clip, PSD-ROC, segment ROC, bars per class.

Arrays in, matplotlib Figure out; write one with `common.run.plots.save`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.run.plots import (
    CHANCE,
    COLOURS,
    TEXT_GREY,
    TRUTH_COLOUR,
    Bar,
    class_bars,
    handle,
    kilohertz,
    new_figure,
    save,
    spread_apart,
    style,
    title_and_legend,
    wrapped,
)
from task4_sed.data.annotations import Event
from task4_sed.metrics.types import ClipScores, ScoreSet

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

    from common.frontends import MelSetting

BOX_COLOUR = "black"
SCORE_COLOURS = "Blues"
# More columns than pixels: without pooling, short peaks of a long recording would fall between the pixels.
MAX_SCORE_COLUMNS = 1200
COLOUR_BAR: dict[str, Any] = {"pad": 0.01, "aspect": 8, "fraction": 0.05}
MAX_ROWS = 15  # classes of a roll
SET_NAMES = {"devtest": "real validation clips of DESED", "maestro_val": "validation clips of MAESTRO Real"}

Curve = tuple[np.ndarray, np.ndarray]


def event_roll(
    log_mel: np.ndarray,
    scores: ClipScores,
    classes: Sequence[str],
    truth: Sequence[Event] | None = None,
    detections: Sequence[Event] = (),
    min_score: float = 0.3,
    band_hz: np.ndarray | None = None,
    title: str = "",
    note: str | None = None,
    rows: int | None = None,
) -> "Figure":
    """One clip of any length: log-mel spectrogram above; below, a row per relevant class on the same time axis.

    log_mel: (mel, frames), dB, spanning the time of the scores; band_hz: (mel,) centre frequencies for the axis.
    scores: columns in the order of `classes`; -inf (no box) is drawn as 0. truth: annotated events, drawn as bars
    whose strength is their confidence; None: unknown. detections: boxes, drawn as outlines from a confidence of
    `min_score` on. A class is relevant with an annotated event or any score above `min_score`; the first MAX_ROWS are
    shown, annotated ones and the loudest scores before others; with `rows` as many, in that order.
    Raises ValueError when shapes do not fit or an event's class is not in `classes`.
    """
    if log_mel.ndim != 2 or scores.scores.shape != (len(scores.edges) - 1, len(classes)):
        raise ValueError(f"log_mel {log_mel.shape}, scores {scores.scores.shape} for {len(classes)} classes")
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    for event in (*(truth or ()), *detections):
        if event.label not in classes:
            raise ValueError(f"an event of class {event.label!r}, which has no scores")
    relevant = relevant_classes(scores, classes, truth, min_score)
    shown = _most_relevant(relevant, scores, classes, truth, rows)
    if len(shown) < len(relevant):
        more = f"{len(relevant) - len(shown)} more classes with scores above {min_score:g}"
        note = "; ".join(filter(None, (more, note)))
    edges, values = _pool(scores.edges, np.nan_to_num(scores.scores, nan=0.0, neginf=0.0))
    duration = float(edges[-1] - edges[0])
    heights = [1.5, max(0.36 * len(shown), 0.9)]
    with style():
        # A minute and more gets a wider page, up to what a screen shows.
        figure = new_figure(float(np.clip(duration / 6, 7.5, 10)), sum(heights) + 1.6, note)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        image = _spectrogram(upper, log_mel, (float(edges[0]), float(edges[-1])), band_hz)
        figure.colorbar(image, ax=upper, label="level (dB)", **COLOUR_BAR)
        _score_rows(lower, edges, values[:, [classes.index(name) for name in shown]], shown)
        _truth_bars(lower, truth or (), shown)
        _boxes(lower, [box for box in detections if box.confidence >= min_score], shown)
        lower.set_xlim(edges[0], edges[-1])
        lower.set_xlabel("time (s)")
        of_scores = ScalarMappable(Normalize(0, 1), SCORE_COLOURS)
        figure.colorbar(of_scores, ax=lower, label="score", ticks=[0, 0.5, 1], **COLOUR_BAR)
        if not shown:
            lower.text(0.5, 0.5, f"no class above {min_score:g}", transform=lower.transAxes, ha="center", va="center")
        title_and_legend(figure, title, _roll_legend(truth is not None, bool(detections)))
    return figure


def draw_events(
    path: Path,
    log_mel: np.ndarray,
    scores: ScoreSet,
    events: Sequence[Event],
    threshold: float,
    truth: Sequence[Event] | None = None,
    title: str = "",
    note: str | None = None,
    setting: "MelSetting | None" = None,
    about: str = "",
    rows: int | None = None,
) -> None:
    """Write the event roll of the first clip of `scores`; truth of classes without scores is left out.

    setting: the front end that made `log_mel`, for an axis in Hz. about: recipe, run, post-processing, for the title.
    """
    title = "\n".join(filter(None, (title, about)))
    clip, classes = next(iter(scores.clips.values())), scores.classes
    known = None if truth is None else [event for event in truth if event.label in classes]
    hz = None if setting is None else band_frequencies(setting)
    figure = event_roll(log_mel, clip, classes, known, events, min(threshold, 0.3), hz, title, note, rows)
    save(figure, path)


def band_frequencies(setting: "MelSetting") -> np.ndarray:
    """Centre frequencies (mel,) of a front end's bands, Hz; Kaldi's mel scale is HTK's."""
    import librosa

    htk = setting.filterbank != "slaney"
    centres: np.ndarray = librosa.mel_frequencies(setting.num_mels + 2, fmin=setting.fmin, fmax=setting.fmax, htk=htk)
    return centres[1:-1]


def relevant_classes(
    scores: ClipScores, classes: Sequence[str], truth: Sequence[Event] | None, min_score: float
) -> list[str]:
    """The classes, in their order, with an annotated event or any score above `min_score`."""
    annotated = {event.label for event in truth or ()}
    peaks = np.nan_to_num(scores.scores, nan=-np.inf, neginf=-np.inf).max(axis=0)
    return [name for name, peak in zip(classes, peaks, strict=True) if name in annotated or peak > min_score]


def _most_relevant(
    relevant: Sequence[str],
    scores: ClipScores,
    classes: Sequence[str],
    truth: Sequence[Event] | None,
    rows: int | None,
) -> list[str]:
    """At most MAX_ROWS of the relevant classes, in their order; or `rows`, annotated and loud ones first."""
    annotated = {event.label for event in truth or ()}
    peaks = dict(zip(classes, np.nan_to_num(scores.scores, nan=0.0, neginf=0.0).max(axis=0), strict=True))
    kept = sorted(relevant, key=lambda name: (name not in annotated, -peaks[name]))[: rows or MAX_ROWS]
    return kept if rows else [name for name in relevant if name in kept]


def _pool(edges: np.ndarray, scores: np.ndarray) -> Curve:
    """Neighbouring frames joined by their maximum until at most MAX_SCORE_COLUMNS are left."""
    step = -(-len(scores) // MAX_SCORE_COLUMNS)
    starts = np.arange(0, len(scores), step)
    return np.append(edges[starts], edges[-1]), np.maximum.reduceat(scores, starts, axis=0)


def _spectrogram(
    axes: "Axes", log_mel: np.ndarray, span: tuple[float, float], band_hz: np.ndarray | None
) -> "QuadMesh":
    import librosa.display
    from matplotlib.ticker import AutoLocator, ScalarFormatter

    bands, frames = log_mel.shape
    times, shown = _pool(np.linspace(*span, frames + 1), log_mel.T)
    centres = np.arange(bands, dtype=float) if band_hz is None else np.asarray(band_hz, dtype=float)
    middles = (centres[1:] + centres[:-1]) / 2
    edges = np.concatenate((2 * centres[:1] - middles[:1], middles, 2 * centres[-1:] - middles[-1:]))
    # The quietest and loudest per cent would leave little contrast for everything between.
    low, high = np.percentile(log_mel, [2, 99.7])
    colours: Any = {"cmap": "magma", "vmin": low, "vmax": max(high, low + 1e-9)}
    axis = None if band_hz is None else "mel"
    image: QuadMesh = librosa.display.specshow(shown.T, x_coords=times, y_coords=edges, y_axis=axis, ax=axes, **colours)
    for of in (axes.xaxis, axes.yaxis)[: 2 if band_hz is None else 1]:  # librosa leaves an axis without a type bare
        of.set_major_locator(AutoLocator())
        of.set_major_formatter(ScalarFormatter())
    if band_hz is None:
        axes.set_ylabel("mel band")
    else:
        kilohertz(axes, centres[0], edges[-1])
        axes.set_ylim(max(edges[0], 0.0), max(edges[-1], *axes.get_yticks(), 0.0))
    return image


def _score_rows(axes: "Axes", edges: np.ndarray, scores: np.ndarray, shown: Sequence[str]) -> None:
    """A heat strip per class below the place of its truth bar."""
    for row in range(len(shown)):
        border = [row - 0.14, row + 0.38]
        axes.pcolormesh(edges, border, scores[None, :, row], cmap=SCORE_COLOURS, vmin=0, vmax=1)
        axes.hlines(border, edges[0], edges[-1], color="#D0D0D0", linewidth=0.5)
    axes.set_yticks(range(len(shown)), wrapped(name.replace("_", " ") for name in shown))
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")


def _truth_bars(axes: "Axes", truth: Sequence[Event], shown: Sequence[str]) -> None:
    for event in truth:
        row = shown.index(event.label)
        length = event.offset - event.onset
        axes.barh(row - 0.27, length, left=event.onset, height=0.15, color=TRUTH_COLOUR, alpha=event.confidence)


def _boxes(axes: "Axes", boxes: Sequence[Event], shown: Sequence[str]) -> None:
    for box in boxes:
        if box.label in shown:
            row, length = shown.index(box.label), box.offset - box.onset
            outline: Any = {"fill": False, "edgecolor": BOX_COLOUR, "linewidth": 1.2, "zorder": 3}
            axes.barh(row + 0.12, length, left=box.onset, height=0.52, **outline)


def _roll_legend(with_truth: bool, with_boxes: bool) -> "list[Artist]":
    from matplotlib.patches import Patch

    handles: list[Artist] = []
    if with_truth:
        handles.append(Patch(color=TRUTH_COLOUR, label="annotated"))
    if with_boxes:
        handles.append(Patch(facecolor="none", edgecolor=BOX_COLOUR, linewidth=1.2, label="detected"))
    return handles


def psd_roc(
    effective: Curve,
    area: float,
    per_class: Mapping[str, Curve],
    max_efpr: float = 100.0,
    name: str = "PSDS",
    title: str = "",
    note: str | None = None,
) -> "Figure":
    """PSD-ROC: effective true positive ratio over effective false positives per hour, classes as thin lines.

    Curves are (eFPR (points,) per hour, TPR (points,)), increasing, previous-value steps, the last value holds to
    `max_efpr`. area: the `name` (PSDS1, ...) of the effective curve, already normalised. Bilen et al. 2020, fig. 2.
    """
    with style():
        figure = new_figure(6.6, 4.4, note)
        axes = figure.subplots()
        _class_curves(axes, per_class, max_efpr, {})
        x, y = _held(effective, max_efpr)
        axes.fill_between(x, y, step="post", color=COLOURS[0], alpha=0.12, linewidth=0)
        axes.plot(x, y, color="black", drawstyle="steps-post", linewidth=2.2, label=f"effective ({name} {area:.3f})")
        _finish_roc(axes, max_efpr, "effective false positives per hour", "true positive ratio")
        one = handle("a class, named at its end", color=TEXT_GREY, linewidth=0.9)
        title_and_legend(figure, title, [*axes.get_legend_handles_labels()[0], one])
    return figure


def segment_roc(
    per_class: Mapping[str, Curve],
    areas: Mapping[str, float],
    max_fpr: float = 0.1,
    title: str = "",
    note: str | None = None,
) -> "Figure":
    """Segment-based ROC up to `max_fpr`, a line per class (FPR (points,), TPR (points,)), names with their areas.

    areas: partial area of each class of `per_class`, divided by `max_fpr`; the legend gives their mean.
    """
    with style():
        figure = new_figure(6.6, 4.4, note)
        axes = figure.subplots()
        _class_curves(axes, per_class, max_fpr, areas)
        mean = float(np.mean([areas[name] for name in per_class]))
        axes.plot([0, max_fpr], [0, max_fpr], label="chance", **CHANCE)
        axes.plot([], [], color=TEXT_GREY, linewidth=0.9, label="a class, named at its end with its area")
        axes.plot([], [], linestyle="none", label=f"mean partial area: {mean:.3f}")
        _finish_roc(axes, max_fpr, "false positive ratio of 1-s segments", "true positive ratio")
        title_and_legend(figure, title, axes.get_legend_handles_labels()[0])
    return figure


def _held(curve: Curve, end: float) -> Curve:
    """The curve up to `end`, its last value held."""
    x, y = np.asarray(curve[0], dtype=float), np.asarray(curve[1], dtype=float)
    inside = x <= end
    x, y = x[inside], y[inside]
    if len(x) == 0:
        return np.array([0.0, end]), np.zeros(2)
    return np.append(x, end), np.append(y, y[-1])


def _class_curves(axes: "Axes", per_class: Mapping[str, Curve], end: float, areas: Mapping[str, float]) -> None:
    """A thin line per class with its name at the right end, moved apart where they would overlap."""
    styles = ("-", (0, (4, 1.5)), (0, (1, 1)))
    last = []
    for index, (name, curve) in enumerate(per_class.items()):
        x, y = _held(curve, end)
        line = styles[index // len(COLOURS) % len(styles)]
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(x, y, color=colour, linestyle=line, drawstyle="steps-post", linewidth=0.9, alpha=0.9)
        label = name.replace("_", " ") + (f" {areas[name]:.3f}" if name in areas else "")
        last.append((float(y[-1]), label, colour, line))
    last.sort(key=lambda entry: entry[0])
    heights = spread_apart([height for height, *_ in last], 0.047, 0.0, 1.0)
    for (height, label, colour, line), shown in zip(last, heights, strict=True):
        points = ([end, end * 1.035, end * 1.075], [height, shown, shown])
        axes.plot(*points, color=colour, linestyle=line, linewidth=0.9, clip_on=False)
        axes.text(end * 1.085, shown, label, va="center", fontsize=7.5, color="black")


def _finish_roc(axes: "Axes", end: float, xlabel: str, ylabel: str) -> None:
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1.005)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(True)
    axes.spines["bottom"].set_color(TEXT_GREY)


def per_class(
    classes: Sequence[str],
    metrics: Mapping[str, Mapping[str, float | Bar]],
    title: str = "",
    note: str | None = None,
) -> "Figure":
    """Bars per class and metric (PSDS1, collar F1, ...), each in [0, 1], with an interval where (value, low, high).

    metrics: {metric: {class: value}}; a class without value reads n/a. Raises ValueError for an unknown class.
    """
    series: dict[str, list[Bar]] = {}
    for metric, values in metrics.items():
        if unknown := sorted(set(values) - set(classes)):
            raise ValueError(f"{metric} has a value for {unknown[0]!r}, which is not among the classes")
        series[metric] = [_as_bar(values.get(name)) for name in classes]
    return class_bars(wrapped(name.replace("_", " ") for name in classes), series, "score", title, note)


def _as_bar(value: float | Bar | None) -> Bar:
    return value if isinstance(value, tuple) else (value, None, None)
