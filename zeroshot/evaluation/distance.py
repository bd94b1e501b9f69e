"""How quality falls with the semantic distance between test and training classes: the paper's second finding.

    distance_runs(runs, also=(), texts=None) -> dict
        distance.csv (a line for each test class of each split), distance.png beside the runs' folders

Distance of a test class: 1 - its largest cosine to a training class, uncentred; edges: in the ontology, to the nearest
training class. Quality: the class's recall or AP minus chance. No network, no data set: stored results are read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.files import write_rows
from common.run.plots import save
from common.run.results.runs import section_of
from common.run.results.tables import format_value, print_table
from common.run.verbs import Run
from zeroshot.data.texts import Texts
from zeroshot.evaluation.evaluate import percent
from zeroshot.evaluation.plots import Point, distance_scatter
from zeroshot.evaluation.report import NO_TEST, note_of
from zeroshot.inference.scores import read_split
from zeroshot.metrics import by_class, rank_correlation

MEASURES = {"semantic": "semantic distance", "edges": "edges in the ontology"}
MOST_SHOWN = 12
COLUMNS = ("recipe", "split", "class", "semantic", "edges", "chance", "quality")


def distance_runs(runs: Sequence[Run], also: Sequence[str] = (), texts: Texts | None = None) -> dict[str, Any]:
    """Points, rank correlations and picture of the first run of the recipe, and of those of other recipes.

    texts: a person's own classes, whose distances and expected quality are printed too.
    """
    run = runs[0]
    own = section_of(run.folder, "test", NO_TEST)
    folders = {run.recipe: run.folder} | {name: run.folder.parent.parent / name / run.folder.name for name in also}
    points = [point for name, folder in folders.items() for point in points_of(name, folder)]
    qualities, names = [p.quality for p in points], [p.name for p in points]
    found = {}
    for key in MEASURES:
        distances = [getattr(p, key) for p in points]
        if None not in distances:
            found[key] = rank_correlation(distances, qualities, names)
    out, note = run.folder.parent, note_of(own)
    write_rows(
        out / "distance.csv", COLUMNS, [[getattr(p, "name" if c == "class" else c) for c in COLUMNS] for p in points]
    )
    _show(points, found, own["kind"], note)
    save(distance_scatter(points, found, own["kind"], note), out / "distance.png")
    result: dict[str, Any] = {"correlations": found, "points": len(points), "note": note}
    if texts is not None:
        result["classes"] = _expected(run, texts, points)
    return result


def points_of(recipe: str, folder: Path) -> list[Point]:
    """The test classes of an evaluated run."""
    points = []
    for split in section_of(folder, "test", NO_TEST)["splits"]:
        of = section_of(folder / split, "test", NO_TEST)
        edges = of["distances"]["edges"] or {}
        for name, quality in by_class(of).items():
            chance = of["chance"] if of["kind"] == "accuracy" else of["classes"][name]["prevalence"]
            semantic = of["distances"]["semantic"][name]
            points.append(Point(recipe, split, name, semantic, edges.get(name), chance, quality - chance))
    return points


def _show(points: Sequence[Point], found: Mapping[str, Any], kind: str, note: str) -> None:
    groups = dict.fromkeys((p.recipe, p.split) for p in points)
    rows = []
    for recipe, split in list(groups)[:MOST_SHOWN]:
        inside = [p for p in points if (p.recipe, p.split) == (recipe, split)]
        quarters = np.quantile([p.semantic for p in inside], (0.25, 0.5, 0.75))
        mean = float(np.mean([p.semantic for p in inside]))
        quality = percent(float(np.mean([p.quality for p in inside])))
        rows.append([recipe, split, f"{mean:.3f}", " ".join(f"{q:.3f}" for q in quarters), quality])
    head = ["recipe", "split", "mean distance", "quartiles", f"{kind} minus chance (points)"]
    more = f"{len(groups) - MOST_SHOWN} more splits. " if len(groups) > MOST_SHOWN else ""
    print_table("distance to the nearest training class", head, rows, f"{more}{note}")
    lines = []
    for key, of in found.items():
        low, high = of["interval"] or (None, None)
        rho = format_value(of["rho"], low, high, decimals=2, signed=True)
        lines.append([MEASURES[key], rho, str(of["points"]), str(of["classes"])])
    title = "Spearman's rank correlation with quality"
    print_table(title, ["measure", "rho", "points", "classes"], lines, "[ ]: 95 %, bootstrap over classes")


def _expected(run: Run, texts: Texts, points: Sequence[Point]) -> dict[str, Any]:
    """For a person's classes: the nearest training class of the first split, distance, quality on the fitted line."""
    from zeroshot.data.vectors import ClassEncoder, attributes_of, of_plain, semantic_distances

    split = points[0].split
    classes = read_split(run.folder / split)
    corpus = of_plain(classes["texts"])
    encoder = ClassEncoder(run.config.texts, corpus, attributes=attributes_of(run.config))
    train = encoder.vectors({name: corpus[name] for name in classes["train"]})
    vectors = encoder.vectors(texts)
    x, y = np.array([(p.semantic, p.quality) for p in points]).T
    if np.ptp(x) == 0:
        raise UserError("distance: all test classes are equally far from training, nothing can be expected of others")
    slope, offset = np.polyfit(x, y, 1)
    found = {}
    for name, vector in zip(texts, vectors, strict=True):
        apart = [float(semantic_distances(row[None], vector[None])[0]) for row in train]
        nearest = int(np.argmin(apart))
        expected = float(slope * apart[nearest] + offset)
        found[name] = {"nearest": classes["train"][nearest], "distance": apart[nearest], "expected": expected}
    rows = [[name, of["nearest"], f"{of['distance']:.3f}", percent(of["expected"])] for name, of in found.items()]
    head = ["class", "nearest training class", "distance", "expected above chance (points)"]
    beyond = f"line through {len(points)} points with distances {x.min():.2f} to {x.max():.2f}; beyond them a guess"
    print_table(f"own classes, training classes of {split}", head, rows, beyond)
    return found
