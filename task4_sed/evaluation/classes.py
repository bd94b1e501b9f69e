"""What a run of pre-training leaves beside its table: figures of each class as a table and a picture, its training."""

import math
from collections.abc import Mapping
from pathlib import Path

from common.run.files import write_rows
from common.run.plots import read_metrics, save, training_curves
from common.run.verbs import Run

MOST = 40  # classes in a picture
CLASSES = "classes.csv"


def show_classes(
    run: Run, figures: Mapping[str, Mapping[str, float]], on: str, note: str | None, plots: bool = True
) -> None:
    """<run>/classes.csv, by the first of the figures {figure: {class: value}}, the best class first, and with `plots`
    plots/classes.png, of many classes the best and the worst, and plots/training.png. on: the data set."""
    from task4_sed.evaluation.plots import per_class

    figures = {figure: {name: v for name, v in of.items() if math.isfinite(v)} for figure, of in figures.items()}
    first = next(iter(figures.values()))
    order = sorted(first, key=lambda name: (-first[name], name))
    rows = ([name, *(f"{of[name]:.4f}" if name in of else "" for of in figures.values())] for name in order)
    write_rows(run.folder / CLASSES, ["event_label", *figures], rows)
    if not plots:
        return
    shown = order if len(order) <= MOST else order[: MOST // 2] + order[-MOST // 2 :]
    title = f"figures of each class: {on}\n{run.title}"
    title += "" if shown is order else f"; the {MOST // 2} best and worst of {len(order)} classes"
    values = {figure: {name: of[name] for name in shown if name in of} for figure, of in figures.items()}
    save(per_class(shown, values, title=title, note=note), run.folder / "plots" / "classes.png")
    draw_training(run, note)


def draw_training(run: Run, note: str | None) -> None:
    """<run>/plots/training.png from metrics.csv, where there is one."""
    path: Path = run.folder / "metrics.csv"
    if path.is_file():
        curves = read_metrics(path)
        monitor = "val/objective" if "val/objective" in curves else None
        title = f"losses and validation metrics\n{run.title}"
        save(training_curves(curves, monitor=monitor, title=title, note=note), run.folder / "plots" / "training.png")
