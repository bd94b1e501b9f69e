"""The first-shot editions (2023 on): source and target domain, harmonic means, decisions; the official result files.

Metrics: DCASE 2023 to 2025 Task 2. The AUC of a domain compares its normals with the anomalies of BOTH domains,
because one threshold has to serve both; precision, recall and F1 take only the clips of the domain.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_folder, write_text
from task2_anomaly.evaluation.truth import Section
from task2_anomaly.inference.scores import read_flags, read_scores
from task2_anomaly.metrics import arithmetic_mean, auc, harmonic_mean, partial_auc, precision_recall_f1

DOMAINS = ("source", "target")
MEANS = ("arithmetic mean", "harmonic mean", "source harmonic mean", "target harmonic mean")
# The order of the columns of the official summary of 2024; machine types of other editions follow alphabetically.
SUMMARY_ORDER = (
    *("3DPrinter", "AirCompressor", "Scanner", "ToyCircuit", "HoveringDrone"),
    *("HairDryer", "ToothBrush", "RoboticArm", "BrushlessMotor"),
)


class Values(NamedTuple):
    """What a section is scored by; `per_domain`: precision, recall, F1 of source and target."""

    type: str
    section: str
    auc: float
    auc_domain: tuple[float, float]
    pauc: float
    per_domain: tuple[tuple[float, float, float], tuple[float, float, float]]


# What systems are ranked by.
RANKED: dict[str, Callable[[Values], float]] = {
    "auc_source": lambda v: v.auc_domain[0],
    "auc_target": lambda v: v.auc_domain[1],
    "pauc": lambda v: v.pauc,
}


class Result(NamedTuple):
    """A system's values, its official score, and the 95 % interval of that (see `confidence`)."""

    system: str
    sections: list[Values]
    score: float
    interval: float


def _file(folder: Path, kind: str, of: Section) -> Path:
    """The score or decision file of a section, under the challenge's name or under that of the official baseline."""
    plain = folder / f"{kind}_{of.type}_section_{of.section}_test.csv"
    if plain.is_file():
        return plain
    others = sorted(folder.glob(f"{kind}_DCASE*T2{of.type}_section_{of.section}_test_seed*_Eval.csv"))
    if len(others) > 1:
        raise UserError(f"{folder}: {len(others)} files of {kind} for {of.type}, e.g. {others[0].name}; keep one")
    if not others:
        raise UserError(f"{plain}: {kind} file not found")
    return others[0]


def _aligned(path: Path, values: Mapping[str, float], of: Section) -> np.ndarray:
    """In the order of the ground truth. Names may be anonymous or descriptive. Raises UserError."""
    named: dict[str, float] = {}
    for given, value in values.items():
        name = of.descriptive.get(given.removesuffix(".wav"), given)
        if name in named:
            raise UserError(f"{path}: {name} for the second time, as {given}")
        named[name] = value
    for what, names in (("misses", of.labels.keys() - named.keys()), ("has foreign", named.keys() - of.labels.keys())):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{path}: {what} {min(names)}{more} ({of.type}, section {of.section})")
    return np.array([named[name] for name in of.labels], dtype=np.float64)


def _defined(value: float | None, what: str, of: Section) -> float:
    if value is None:
        raise UserError(f"{of.type}, section {of.section}: {what} is not defined, a class or a domain has no clips")
    return value


def section_values(of: Section, scores: np.ndarray, decisions: np.ndarray) -> Values:
    """Metrics of one section from aligned scores and decisions (clips,)."""
    labels = np.array(list(of.labels.values()))
    domains = np.array([of.domains[name] for name in of.labels])

    def within(domain: int) -> float:
        chosen = (labels == 1) | (domains == domain)
        return _defined(auc(labels[chosen], scores[chosen]), f"the AUC of the {DOMAINS[domain]} domain", of)

    def decided(domain: int) -> tuple[float, float, float]:
        return precision_recall_f1(labels[domains == domain], decisions[domains == domain])

    return Values(
        of.type,
        of.section,
        _defined(auc(labels, scores), "the AUC", of),
        (within(0), within(1)),
        _defined(partial_auc(labels, scores), "the pAUC", of),
        (decided(0), decided(1)),
    )


def evaluate(folder: Path, truth: Sequence[Section]) -> Result:
    """Score a system's folder. Raises UserError where a file or a row is missing, foreign or malformed."""
    existing_folder(folder, "scores")
    values, everything = [], []
    for of in truth:
        paths = [_file(folder, kind, of) for kind in ("anomaly_score", "decision_result")]
        scores = _aligned(paths[0], read_scores(paths[0]), of)
        decisions = _aligned(paths[1], read_flags(paths[1], "decision"), of)
        values.append(section_values(of, scores, decisions))
        everything.append((of, scores))
    return Result(folder.name, values, official_score(values), confidence(everything))


def official_score(values: Sequence[Values]) -> float:
    """Harmonic mean over the AUC of each domain and the pAUC of all sections: DCASE 2023 to 2025 Task 2."""
    return harmonic_mean([x for v in values for x in (*v.auc_domain, v.pauc)])


def confidence(everything: Sequence[tuple[Section, np.ndarray]]) -> float:
    """Half-width of the jackknife's 95 % interval of the official score, leaving out one clip at a time.

    The organisers' evaluator pools the scores of all machines and takes the spread of the leave-one-out values for
    that of the pseudo-values, so its figure is smaller by about the number of clips; it is not repeated here.
    """
    left_out = _leaving_one_out(everything)
    pseudo = (len(left_out) - 1) * left_out
    return float(1.96 * np.std(pseudo, ddof=1) / math.sqrt(len(pseudo)))


def _leaving_one_out(everything: Sequence[tuple[Section, np.ndarray]]) -> np.ndarray:
    parts = [_three(*_arrays(of), scores) for of, scores in everything]
    found = []
    for index, (of, scores) in enumerate(everything):
        labels, domains = _arrays(of)
        for clip in range(len(labels)):
            kept = np.arange(len(labels)) != clip
            three = _three(labels[kept], domains[kept], scores[kept])
            found.append(harmonic_mean([x for other in (*parts[:index], three, *parts[index + 1 :]) for x in other]))
    return np.array(found)


def _arrays(of: Section) -> tuple[np.ndarray, np.ndarray]:
    return np.array(list(of.labels.values())), np.array([of.domains[name] for name in of.labels])


def _three(labels: np.ndarray, domains: np.ndarray, scores: np.ndarray) -> list[float]:
    """AUC of source and target, pAUC; what leaving out a clip makes undefined counts as chance."""
    chosen = [(labels == 1) | (domains == domain) for domain in (0, 1)]
    values = [*(auc(labels[of], scores[of]) for of in chosen), partial_auc(labels, scores)]
    return [0.5 if value is None else value for value in values]


def mean_rows(values: Sequence[Values]) -> dict[str, list[float]]:
    """{name of the mean: AUC, pAUC, precision, recall, F1} over the sections and domains given."""
    pauc = [v.pauc for v in values]

    def row(mean: str, domains: Sequence[int]) -> list[float]:
        average = arithmetic_mean if mean == "arithmetic mean" else harmonic_mean
        aucs = [v.auc_domain[d] for v in values for d in domains]
        decided = [[v.per_domain[d][column] for v in values for d in domains] for column in range(3)]
        return [average(aucs), average(pauc), *map(average, decided)]

    return {mean: row(mean, domains) for mean, domains in zip(MEANS, ((0, 1), (0, 1), (0,), (1,)), strict=True)}


def write_result(path: Path, result: Result) -> None:
    """The official `<system>_result.csv`."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    columns = ["AUC", "pAUC", "precision", "recall", "F1 score"]
    for kind in sorted({v.type for v in result.sections}):
        values = [v for v in result.sections if v.type == kind]
        out.writerow([kind])
        decided = [f"{name} ({domain})" for name in columns[2:] for domain in DOMAINS]
        out.writerow(["section", "AUC (all)", *(f"AUC ({domain})" for domain in DOMAINS), "pAUC", *decided])
        for v in values:
            figures = [v.per_domain[d][column] for column in range(3) for d in (0, 1)]
            out.writerow([v.section, v.auc, *v.auc_domain, v.pauc, *figures])
        out.writerow(["", "", *columns])
        out.writerows([mean, "", *row] for mean, row in mean_rows(values).items())
        out.writerow([])
    out.writerow(["", "", *columns])
    over = "over all machine types, sections, and domains"
    out.writerows([f"{mean} {over}", "", *row] for mean, row in mean_rows(result.sections).items())
    out.writerow([])
    out.writerow(["official score", "", result.score])
    out.writerow(["official score ci95", "", result.interval])
    out.writerow([])
    write_text(path, text.getvalue())


def write_summary(path: Path, results: Sequence[Result]) -> None:
    """The official table of several systems, `teams_official_score_paper.csv`."""
    types = {v.type for result in results for v in result.sections}
    order = [kind for kind in SUMMARY_ORDER if kind in types] + sorted(types - set(SUMMARY_ORDER))
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["System", "metric", "h-mean", "a-mean", *order])
    for result in results:
        names = ("AUC (source)", "AUC (target)", "pAUC (source, target)")
        for name, of in zip(names, RANKED.values(), strict=True):
            every = [of(v) for v in result.sections]
            by_type = [harmonic_mean([of(v) for v in result.sections if v.type == kind]) for kind in order]
            out.writerow([result.system, name, harmonic_mean(every), arithmetic_mean(every), *by_type])
        every = [x for v in result.sections for x in (*v.auc_domain, v.pauc)]
        out.writerow([result.system, "TOTAL score", result.score, arithmetic_mean(every), *[""] * len(order)])
    write_text(path, text.getvalue())
