"""The editions with two domains (2021 on): harmonic means, decisions; the official result files of 2022 on.

Metrics: DCASE 2022 to 2025 Task 2. The AUC of a domain compares its normals with the anomalies of BOTH domains,
because one threshold has to serve both; precision, recall and F1 take only the clips of the domain. DCASE 2021 Task 2
(`Section.apart`): AUC and pAUC of each domain within its own clips.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_folder, write_rows, write_text
from common.run.results.intervals import MIN_UNITS
from task2_anomaly.data.layout import DOMAINS
from task2_anomaly.evaluation.truth import Section
from task2_anomaly.inference.scores import read_flags, read_scores
from task2_anomaly.metrics import arithmetic_mean, auc, harmonic_mean, partial_auc, precision_recall_f1, weighted_areas

MEANS = ("arithmetic mean", "harmonic mean", "source harmonic mean", "target harmonic mean")
# The order of the columns of the official summary of 2024; machine types of other editions follow alphabetically.
SUMMARY_ORDER = (
    *("3DPrinter", "AirCompressor", "Scanner", "ToyCircuit", "HoveringDrone"),
    *("HairDryer", "ToothBrush", "RoboticArm", "BrushlessMotor"),
)

SUMMARY_TITLES = {
    "auc_source": "AUC (source)",
    "auc_target": "AUC (target)",
    "pauc": "pAUC (source, target)",
    "pauc_source": "pAUC (source)",
    "pauc_target": "pAUC (target)",
}


class Values(NamedTuple):
    """What a section is scored by; `per_domain`: precision, recall, F1 of source and target.

    `pauc_domain`: of 2021. NaN: a domain that the ground truth of 2021 does not have, or no decisions.
    """

    type: str
    section: str
    auc: float
    auc_domain: tuple[float, float]
    pauc: float
    per_domain: tuple[tuple[float, float, float], tuple[float, float, float]]
    pauc_domain: tuple[float, float] | None = None


# What systems are ranked by, by the names that results have, with their titles.
TITLES = {
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "pauc": "pAUC",
    "pauc_source": "pAUC source",
    "pauc_target": "pAUC target",
}


def ranked(v: Values) -> dict[str, float]:
    """{name: value} of what a section adds to the official score."""
    found = dict(zip(("auc_source", "auc_target"), v.auc_domain, strict=True))
    if v.pauc_domain is None:
        return found | {"pauc": v.pauc}
    found |= dict(zip(("pauc_source", "pauc_target"), v.pauc_domain, strict=True))
    return {name: value for name, value in found.items() if not math.isnan(value)}


class Result(NamedTuple):
    """A system's values, its official score, and the 95 % interval of that (see `confidence`)."""

    system: str
    sections: list[Values]
    score: float
    interval: float


def _file(folder: Path, kind: str, of: Section, domain: str = "") -> Path:
    """The score or decision file of a section, under the challenge's name or under that of the official baseline."""
    plain = folder / f"{kind}_{of.type}_section_{of.section}{domain}_test.csv"
    if plain.is_file():
        return plain
    others = sorted(folder.glob(f"{kind}_DCASE*T2{of.type}_section_{of.section}{domain}_test_seed*_Eval.csv"))
    if len(others) > 1:
        raise UserError(f"{folder}: {len(others)} files of {kind} for {of.type}, e.g. {others[0].name}; keep one")
    if not others:
        raise UserError(f"{plain}: {kind} file not found")
    return others[0]


def _files(folder: Path, kind: str, of: Section) -> list[tuple[Path, Section]]:
    """The files of a section, with what of the section they are for: one; of 2021 one for each domain, or one."""
    if not of.apart or (folder / f"{kind}_{of.type}_section_{of.section}_test.csv").is_file():
        return [(_file(folder, kind, of), of)]
    found = []
    for number, domain in enumerate(DOMAINS):
        labels = {name: label for name, label in of.labels.items() if of.domains[name] == number}
        if labels:
            found.append((_file(folder, kind, of, f"_{domain}"), of._replace(labels=labels)))
    return found


def _read(folder: Path, kind: str, of: Section, read: Callable[[Path], Mapping[str, float]]) -> np.ndarray:
    """Values (clips,) in the order of the ground truth. Raises UserError for a missing, foreign or malformed row."""
    named: dict[str, float] = {}
    for path, part in _files(folder, kind, of):
        named |= dict(zip(part.labels, _aligned(path, read(path), part), strict=True))
    return np.array([named[name] for name in of.labels], dtype=np.float64)


def _aligned(path: Path, values: Mapping[str, float], of: Section) -> list[float]:
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
    return [named[name] for name in of.labels]


def _defined(value: float | None, what: str, of: Section) -> float:
    if value is None:
        raise UserError(f"{of.type}, section {of.section}: {what} is not defined, a class or a domain has no clips")
    return value


def section_values(of: Section, scores: np.ndarray, decisions: np.ndarray | None) -> Values:
    """Metrics of one section from aligned scores and decisions (clips,); None: no precision, recall and F1 (NaN)."""
    labels, domains = _arrays(of)
    there = [bool((domains == domain).any()) for domain in (0, 1)]

    def within(domain: int, metric: Callable[..., float | None] = auc) -> float:
        if of.apart and not there[domain]:
            return math.nan
        chosen = _chosen(labels, domains, domain, of.apart)
        name = {auc: "AUC", partial_auc: "pAUC"}[metric]
        return _defined(metric(labels[chosen], scores[chosen]), f"the {name} of the {DOMAINS[domain]} domain", of)

    def decided(domain: int) -> tuple[float, float, float]:
        if decisions is None:
            return math.nan, math.nan, math.nan
        return precision_recall_f1(labels[domains == domain], decisions[domains == domain])

    return Values(
        of.type,
        of.section,
        _defined(auc(labels, scores), "the AUC", of),
        (within(0), within(1)),
        _defined(partial_auc(labels, scores), "the pAUC", of),
        (decided(0), decided(1)),
        (within(0, partial_auc), within(1, partial_auc)) if of.apart else None,
    )


def _chosen(labels: np.ndarray, domains: np.ndarray, domain: int, apart: bool) -> np.ndarray:
    """The clips (clips,) bool that a domain's figures take."""
    own: np.ndarray = domains == domain
    return own if apart else own | (labels == 1)


def evaluate(folder: Path, truth: Sequence[Section]) -> Result:
    """Score a system's folder. Raises UserError where a file or a row is missing, foreign or malformed.

    Decisions must be there, but in the edition of 2021.
    """
    existing_folder(folder, "scores")
    values, everything = [], []
    for of in truth:
        scores, decisions = _read(folder, "anomaly_score", of, read_scores), None
        if not of.apart or any(folder.glob("decision_result_*.csv")):
            decisions = _read(folder, "decision_result", of, lambda path: read_flags(path, "decision"))
        values.append(section_values(of, scores, decisions))
        everything.append((of, scores))
    return Result(folder.name, values, official_score(values), confidence(everything))


def official_score(values: Sequence[Values]) -> float:
    """Harmonic mean over the AUC of each domain and the pAUC of all sections: DCASE 2022 to 2025 Task 2.

    Of 2021, over the AUC and the pAUC of each domain.
    """
    return harmonic_mean([x for v in values for x in ranked(v).values()])


def confidence(everything: Sequence[tuple[Section, np.ndarray]]) -> float:
    """Half-width of the jackknife's 95 % interval of the official score, leaving out one clip at a time.

    The organisers' evaluator pools the scores of all machines and takes the spread of the leave-one-out values for
    that of the pseudo-values, so its figure is smaller by about the number of clips; it is not repeated here. NaN for
    fewer than MIN_UNITS clips, and where no clip changes the score.
    """
    left_out = _leaving_one_out(everything)
    if len(left_out) < MIN_UNITS or np.ptp(left_out) == 0:
        return math.nan
    pseudo = (len(left_out) - 1) * left_out
    return float(1.96 * np.std(pseudo, ddof=1) / math.sqrt(len(pseudo)))


def weighted(everything: Sequence[tuple[Section, np.ndarray]]) -> Callable[[np.ndarray], np.ndarray]:
    """The official score as a function of how often each clip counts: weights (clips,), section by section -> (1,).

    NaN where the weights leave a class without clips.
    """
    parts: list[tuple[np.ndarray, Callable[[np.ndarray], tuple[float, float]], tuple[int, ...]]] = []
    start = 0
    for of, scores in everything:
        labels, domains = _arrays(of)
        for domain in (domain for domain in (0, 1) if not of.apart or (domains == domain).any()):
            rows = np.flatnonzero(_chosen(labels, domains, domain, of.apart))
            parts.append((start + rows, weighted_areas(labels[rows], scores[rows]), (0, 1) if of.apart else (0,)))
        if not of.apart:
            parts.append((start + np.arange(len(labels)), weighted_areas(labels, scores), (1,)))
        start += len(labels)

    def score(weights: np.ndarray) -> np.ndarray:
        return np.array([harmonic_mean([area(weights[rows])[i] for rows, area, which in parts for i in which])])

    return score


def _leaving_one_out(everything: Sequence[tuple[Section, np.ndarray]]) -> np.ndarray:
    parts = [_ranked(*_arrays(of), scores, of.apart) for of, scores in everything]
    found = []
    for index, (of, scores) in enumerate(everything):
        labels, domains = _arrays(of)
        for clip in range(len(labels)):
            kept = np.arange(len(labels)) != clip
            own = _ranked(labels[kept], domains[kept], scores[kept], of.apart)
            found.append(harmonic_mean([x for other in (*parts[:index], own, *parts[index + 1 :]) for x in other]))
    return np.array(found)


def _arrays(of: Section) -> tuple[np.ndarray, np.ndarray]:
    return np.array(list(of.labels.values())), np.array([of.domains[name] for name in of.labels])


def _ranked(labels: np.ndarray, domains: np.ndarray, scores: np.ndarray, apart: bool) -> list[float]:
    """The values of `ranked`; what leaving out a clip makes undefined counts as chance."""
    there = [domain for domain in (0, 1) if not apart or (domains == domain).any()]
    chosen = [_chosen(labels, domains, domain, apart) for domain in there]
    values = [auc(labels[of], scores[of]) for of in chosen]
    values += [partial_auc(labels[of], scores[of]) for of in chosen] if apart else [partial_auc(labels, scores)]
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
    """The official `<system>_result.csv`; of 2021 a row for each section and domain, and the official score."""
    if any(v.pauc_domain is not None for v in result.sections):
        _write_apart(path, result)
        return
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


def _write_apart(path: Path, result: Result) -> None:
    rows: list[list[object]] = []
    for v in result.sections:
        for d, pauc in enumerate(v.pauc_domain or ()):
            if not math.isnan(pauc):
                decided = ["" if math.isnan(x) else x for x in v.per_domain[d]]
                rows.append([v.type, v.section, DOMAINS[d], v.auc_domain[d], pauc, *decided])
    rows.append(["official score", "", "", result.score, "", "", "", ""])
    columns = ("machine type", "section", "domain", "AUC", "pAUC", "precision", "recall", "F1 score")
    write_rows(path, columns, rows)


def write_summary(path: Path, results: Sequence[Result]) -> None:
    """The official table of several systems, `teams_official_score_paper.csv`; with 2021's rows for a domain's pAUC."""
    types = {v.type for result in results for v in result.sections}
    order = [kind for kind in SUMMARY_ORDER if kind in types] + sorted(types - set(SUMMARY_ORDER))
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["System", "metric", "h-mean", "a-mean", *order])
    for result in results:
        values = [(v.type, ranked(v)) for v in result.sections]
        for name in dict.fromkeys(name for _, of in values for name in of):
            every = [of[name] for _, of in values if name in of]
            by_type = [[of[name] for kind, of in values if kind == each and name in of] for each in order]
            means = [harmonic_mean(of) if of else "" for of in by_type]
            out.writerow([result.system, SUMMARY_TITLES[name], harmonic_mean(every), arithmetic_mean(every), *means])
        every = [x for v in result.sections for x in ranked(v).values()]
        out.writerow([result.system, "TOTAL score", result.score, arithmetic_mean(every), *[""] * len(order)])
    write_text(path, text.getvalue())
