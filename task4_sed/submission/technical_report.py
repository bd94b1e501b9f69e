"""A technical report of two pages, made from the meta data, the scores and the energy tables."""

import csv
import dataclasses
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from common.run.numbers import number
from common.run.submission.meta import Author
from task4_sed.metrics.types import ScoreSet
from task4_sed.submission.meta import SubmissionMeta
from task4_sed.submission.tables import RunScores

PAGE = (8.27, 11.69)  # A4 in inches
LEFT, RIGHT = 0.09, 0.91
LINE = 0.0155  # height of a line of text, as a part of the page
WIDTH = 92  # characters of a line at 9 points
TOY_NOTE = "Generated toy data: these scores test the software, they are no result of the challenge."


class _Pages:
    """Pages that are written from the top down, one after another."""

    def __init__(self, toy: bool) -> None:
        self.toy = toy
        self.figures: list[Figure] = []
        self.new_page()

    def new_page(self) -> None:
        self.figure, self.top = Figure(figsize=PAGE), 0.95
        self.figures.append(self.figure)
        if self.toy:
            self.text(TOY_NOTE, weight="bold", color="firebrick")
            self.top -= LINE * 0.5

    def need(self, height: float) -> None:
        """Go on to the next page unless a part of this one of that height is left."""
        if self.top - height < 0.06:
            self.new_page()

    def text(self, text: str, size: float = 9, **style: Any) -> None:
        for line in textwrap.wrap(text, round(WIDTH * 9 / size)):
            self.need(LINE * size / 9)
            self.figure.text(LEFT, self.top, line, size=size, va="top", parse_math=False, **style)
            self.top -= LINE * size / 9

    def heading(self, text: str) -> None:
        self.need(LINE * 5)  # no heading alone at the foot of a page
        self.top -= LINE * 0.8
        self.text(text, size=12, weight="bold")
        self.top -= LINE * 0.3

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float]) -> None:
        """Rows of wrapped cells; `widths` are parts of the width of the text."""
        for row, weight in [(header, "bold"), *((row, "normal") for row in rows)]:
            cells = [
                textwrap.wrap(cell, max(8, int(WIDTH * width) - 1)) for cell, width in zip(row, widths, strict=True)
            ]
            height, left = LINE * max(map(len, cells)), LEFT
            self.need(height)
            for lines, width in zip(cells, widths, strict=True):
                place: dict[str, Any] = {"size": 9, "va": "top", "weight": weight, "parse_math": False}
                self.figure.text(left, self.top, "\n".join(lines), linespacing=1.25, **place)
                left += width * (RIGHT - LEFT)
            self.top -= height
        self.top -= LINE * 0.5

    def axes(self, height: float, left: float = 0.0) -> Any:
        """Axes of a height and with room for labels on the left, as parts of the page."""
        self.need(height + LINE * 3)
        self.top -= height
        axes = self.figure.add_axes((LEFT + left, self.top, RIGHT - LEFT - left, height))
        self.top -= LINE * 3.5
        return axes


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _author(author: Author) -> str:
    name = f"{author.firstname} {author.lastname}"
    place = author.affiliation
    where = [part for part in (place.department, place.institute, place.location) if part]
    contact = [author.email] if author.corresponding and author.email else []
    details = "; ".join([", ".join(where), *contact] if where else contact)
    return f"{name} ({details})" if details else name


def _field_rows(part: Any, units: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and value of each field of a dataclass that is given."""
    rows = []
    for item in dataclasses.fields(part):
        value = getattr(part, item.name)
        if value is not None:
            figure = f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else None
            unit = units.get(item.name, "")
            rows.append((item.name.replace("_", " "), f"{figure or _listed(value)}{unit}"))
    return rows


def _energy_rows(tables: Sequence[Path]) -> list[tuple[str, str, str]]:
    """File, hours and kWh (last row of CodeCarbon's table, which counts the whole phase)."""
    rows = []
    for path in tables:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
        last = lines[-1] if lines else {}
        try:
            hours, energy = number(last["duration"]) / 3600, number(last["energy_consumed"])
            rows.append((path.name, f"{hours:.3g}", f"{energy:.4g}"))
        except (KeyError, ValueError, TypeError):
            rows.append((path.name, "not readable", "not readable"))
    return rows


def _means(scores: ScoreSet, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Over all clips: mean over time and mean of each clip's highest score, both (classes,)."""
    columns = [scores.classes.index(name) for name in classes]
    total, peaks, seconds = np.zeros(len(classes)), np.zeros(len(classes)), 0.0
    for clip in scores.clips.values():
        values = np.where(np.isneginf(clip.scores), 0.0, clip.scores)[:, columns]
        lengths = np.diff(clip.edges)
        total += lengths @ values
        peaks += values.max(axis=0)
        seconds += lengths.sum()
    return total / seconds, peaks / len(scores.clips)


def _describe(page: _Pages, meta: SubmissionMeta, runs: Sequence[RunScores], energy: Sequence[Path]) -> None:
    page.text(meta.name, size=16, weight="bold")
    page.top -= LINE * 0.5
    for author in meta.authors:
        page.text(_author(author))
    page.text(f"Submission {meta.label} ({meta.abbreviation}) to DCASE 2024 Task 4, sound event detection")
    page.heading("Task")
    page.text(
        "One system detects, with onset and offset, the domestic events of DESED (scored by PSDS1) and the events of "
        "MAESTRO Real (scored by the mean partial area under the ROC curve of one-second segments, up to a false "
        "positive rate of 0.1). It is not told from which of the two data sets a clip comes."
    )
    page.heading("System")
    page.table(("property", "value"), _field_rows(meta.description, {"input_sampling_rate": " Hz"}), (0.4, 0.6))
    for data in meta.external_datasets or []:
        page.text(f"External data: {data.name}" + (f", {data.url}" if data.url else ""))
    page.text(f"Source code: {meta.source_code or 'not published'}")
    page.heading("Complexity and energy")
    units = {"energy_training": " kWh", "energy_test": " kWh", "energy_baseline": " kWh", "macs": " per 10 s"}
    page.table(("property", "value"), _field_rows(meta.complexity, units), (0.4, 0.6))
    if energy:
        page.table(("CodeCarbon table", "hours", "kWh"), _energy_rows(energy), (0.6, 0.2, 0.2))
    page.heading("Results on the development test set")
    results = [("DESED", "PSDS1", f"{meta.results.psds1:.4f}"), ("MAESTRO Real", "mPAUC", f"{meta.results.mpauc:.4f}")]
    page.table(("data", "metric", "value"), results, (0.4, 0.3, 0.3))
    seconds = sum(float(clip.edges[-1]) for clip in runs[0].processed.clips.values())
    page.text(
        f"The submission holds the scores of {len(runs)} independent trainings for {len(runs[0].processed.clips):,} "
        f"clips ({seconds / 3600:.2f} hours), with and without post-processing."
    )


def _show_scores(page: _Pages, runs: Sequence[RunScores], classes: Sequence[str]) -> None:
    page.new_page()
    page.heading("Scores of the evaluation set")
    page.text("Mean of each clip's highest score after post-processing; a dot per run, bars show the mean of the runs.")
    page.top -= LINE
    peaks = np.array([_means(run.processed, classes)[1] for run in runs])
    axes = page.axes(0.31, left=0.2)
    places = np.arange(len(classes))
    axes.barh(places, peaks.mean(axis=0), color="lightsteelblue")
    for run in peaks:
        axes.plot(run, places, ".", color="midnightblue", markersize=4)
    axes.set_yticks(places, [name.replace("_", " ") for name in classes], size=7)
    axes.invert_yaxis()
    axes.set_xlabel("score", size=8)
    processed, unprocessed = (_means(part, classes)[0] for part in (runs[0].processed, runs[0].unprocessed))
    page.text(
        f"Averaged over time and classes, the scores of run 1 are {unprocessed.mean():.4f} before and "
        f"{processed.mean():.4f} after post-processing."
    )
    _show_example(page, runs[0].processed, classes)


def _show_example(page: _Pages, scores: ScoreSet, classes: Sequence[str]) -> None:
    columns = [scores.classes.index(name) for name in classes]
    name = max(sorted(scores.clips), key=lambda clip: float(scores.clips[clip].scores.max()))
    clip = scores.clips[name]
    page.need(0.37)  # heading and figure on one page
    page.heading("Example")
    page.text(f"Scores of clip {name} in run 1, the clip with the highest score.")
    page.top -= LINE
    axes = page.axes(0.25, left=0.2)
    values = np.where(np.isneginf(clip.scores), 0.0, clip.scores)[:, columns]
    image = axes.pcolormesh(clip.edges, np.arange(len(classes) + 1), values.T, cmap="magma_r", rasterized=True)
    axes.set_yticks(np.arange(len(classes)) + 0.5, [name.replace("_", " ") for name in classes], size=7)
    axes.invert_yaxis()
    axes.set_xlabel("time (s)", size=8)
    page.figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)


def report_pages(
    meta: SubmissionMeta, runs: Sequence[RunScores], energy: Sequence[Path], classes: Sequence[str], toy: bool
) -> list[Figure]:
    """The pages: a description (one page, more with many authors), then figures of the scores."""
    pages = _Pages(toy)
    _describe(pages, meta, runs, energy)
    _show_scores(pages, runs, classes)
    return pages.figures


def report_pdf(
    meta: SubmissionMeta, runs: Sequence[RunScores], energy: Sequence[Path], classes: Sequence[str], toy: bool
) -> bytes:
    """The report as bytes of a PDF; the same input gives the same bytes."""
    buffer = io.BytesIO()
    authors = ", ".join(f"{author.firstname} {author.lastname}" for author in meta.authors)
    # No date: equal content, equal bytes.
    with PdfPages(buffer, metadata={"Title": meta.name, "Author": authors, "CreationDate": None}) as pdf:
        for figure in report_pages(meta, runs, energy, classes, toy):
            pdf.savefig(figure)
    return buffer.getvalue()
