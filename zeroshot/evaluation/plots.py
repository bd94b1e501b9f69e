"""Plots: confusion, figures by class, quality against distance, a recording with its ranked classes.

Numbers in, matplotlib Figure out; write one with `common.run.plots.save`. `draw` and `draw_run` write those of results.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.run.folders import printable
from common.run.plots import COLOURS, TEXT_GREY, class_bars, kilohertz, new_figure, save, style, title_and_legend
from zeroshot.metrics import by_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 60  # in a picture
MOST_PICTURES = 5  # splits with a confusion matrix
PICTURE_RATE, PICTURE_MELS, PICTURE_SECONDS = 32000, 128, 120


class Point(NamedTuple):
    """A test class of a split; quality: its figure minus chance; edges None where there is no ontology."""

    recipe: str
    split: str
    name: str
    semantic: float
    edges: float | None
    chance: float
    quality: float


def draw(folder: Path, name: str, of: Mapping[str, Any], note: str | None = None, system: str = "") -> None:
    """Write <name>.png: bars by class; of single labels also confusion_<name>.png. system: for the titles."""
    classes = dict(sorted(by_class(of).items(), key=lambda pair: -pair[1])[:MOST_CLASSES])
    bars = {of["kind"]: [(value, None, None) for value in classes.values()]}
    label = "recall" if of["kind"] == "accuracy" else "AP"
    title = ", ".join(filter(None, (f"{label} of unseen classes", system, name)))
    save(class_bars(list(classes), bars, label, title, note), folder / f"{name}.png")
    if of["kind"] == "accuracy" and len(of["classes"]) <= MOST_CLASSES:
        title = ", ".join(filter(None, ("confusion of unseen classes", system, name)))
        save(confusion(np.array(of["confusion"]), list(of["classes"]), title, note), folder / f"confusion_{name}.png")


def draw_run(folder: Path, splits: Mapping[str, Mapping[str, Any]], note: str, system: str) -> None:
    """Pictures of the first splits of a run; system: for the titles."""
    for name in list(splits)[:MOST_PICTURES]:
        draw(folder, name, splits[name], note, system)


def confusion(counts: np.ndarray, names: Sequence[str], title: str, note: str | None) -> "Figure":
    """Of the clips of each class, the share (%) taken for each class; counts (classes, classes), rows are true."""
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with style():
        side = 1.6 + 0.34 * max(len(names), 6) + 0.05 * max(map(len, names))
        figure = new_figure(side + 0.8, side, note)
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        if len(names) <= 12:
            for (row, column), share in np.ndenumerate(shares):
                colour = "white" if share > 60 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, size=7)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("taken for")
        axes.set_ylabel("true class, unseen in training")
        figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02).set_label("share of the class's clips (%)")
        title_and_legend(figure, title)
    return figure


def distance_scatter(points: Sequence[Point], correlations: Mapping[str, Any], kind: str, note: str) -> "Figure":
    """Quality of every test class against its distance, a panel for each measure, a colour for each recipe."""
    from matplotlib.lines import Line2D

    recipes = list(dict.fromkeys(p.recipe for p in points))
    with style():
        figure = new_figure(4.6 * len(correlations), 3.8, note)
        grid = figure.subplots(1, len(correlations), squeeze=False, sharey=True)[0]
        for axes, (key, of) in zip(grid, correlations.items(), strict=True):
            for index, recipe in enumerate(recipes):
                inside = [p for p in points if p.recipe == recipe]
                x, y = [getattr(p, key) for p in inside], [100 * p.quality for p in inside]
                axes.plot(x, y, "o", color=COLOURS[index % len(COLOURS)], alpha=0.6)
            axes.axhline(0, color=TEXT_GREY, linewidth=0.8, linestyle=":")
            rho = "n/a" if of["rho"] is None else f"{of['rho']:+.2f}"
            axes.set_title(f"Spearman's rho {rho}", loc="left")
            axes.set_xlabel(
                {"semantic": "semantic distance to the nearest training class"}.get(key, "edges in the ontology")
            )
            axes.grid(True)
        grid[0].set_ylabel(f"{'recall' if kind == 'accuracy' else 'AP'} minus chance (points)")
        marks = [
            Line2D([], [], color=COLOURS[index % len(COLOURS)], marker="o", linestyle="none", label=recipe)
            for index, recipe in enumerate(recipes)
        ]
        title_and_legend(figure, "Unseen classes: quality against distance", marks)
    return figure


def draw_ranking(path: Path, recording: Path, ranking: Mapping[str, float], note: str | None) -> None:
    """Write a picture of a recording: its spectrogram, and its classes with their scores, the best on top."""
    import librosa.display

    from common.audio.recordings import Recording, beginning

    blocks = beginning(Recording(recording, PICTURE_RATE), PICTURE_SECONDS * PICTURE_RATE)
    waveform = np.concatenate(list(blocks))
    mel = librosa.feature.melspectrogram(y=waveform, sr=PICTURE_RATE, n_mels=PICTURE_MELS, n_fft=2048, hop_length=640)
    shown = dict(list(ranking.items())[:20])
    with style():
        figure = new_figure(9.0, max(3.0, 1.4 + 0.22 * len(shown)), note)
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        levels = librosa.power_to_db(mel, ref=np.max)
        image = librosa.display.specshow(
            levels, sr=PICTURE_RATE, hop_length=640, x_axis="time", y_axis="mel", ax=left, cmap="magma", vmin=-80
        )
        kilohertz(left, 0, PICTURE_RATE / 2)
        figure.colorbar(image, ax=left, label="level (dB)")
        left.set_xlabel("time (s)")
        right.barh(range(len(shown)), list(shown.values()), color=COLOURS[0])
        right.set_yticks(range(len(shown)), list(shown))
        right.invert_yaxis()
        right.set_xlabel("score")
        title_and_legend(figure, printable(recording.name))
    save(figure, path)
