"""First-shot editions: the official results to 1e-12, names in all forms, and what is wrong with a submission."""

import csv
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score

from common.run.errors import UserError
from task2_anomaly.data.classes import Machine
from task2_anomaly.evaluation.first_shot import (
    confidence,
    evaluate,
    mean_rows,
    official_score,
    section_values,
    write_result,
    write_summary,
)
from task2_anomaly.evaluation.truth import Section, Truth, as_section, as_truths, read_truth_first_shot
from task2_anomaly.inference.scores import write_decisions, write_scores

CI = "official score ci95"  # the organisers' evaluator has a slip there


def cells(path: Path) -> list[list[Any]]:
    def read(text: str) -> Any:
        try:
            return text if re.fullmatch(r"\d\d", text) else pytest.approx(float(text), abs=1e-12)
        except ValueError:
            return text

    with path.open(newline="") as file:
        return [[read(cell) for cell in row] for row in csv.reader(file)]


def raw(path: Path) -> list[list[Any]]:
    with path.open(newline="") as file:
        return [[float(c) if re.fullmatch(r"\d\.\d+(e-\d+)?", c) else c for c in row] for row in csv.reader(file)]


def test_official_results(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "dcase2024_task2"
    truth = read_truth_first_shot(data)
    results = []
    for folder in sorted(path for path in (data / "teams").glob("*/*") if path.is_dir()):
        result = evaluate(folder, truth)
        results.append(result)
        write_result(tmp_path / "result.csv", result)
        ours, theirs = raw(tmp_path / "result.csv"), cells(data / "expected" / f"{result.system}_result.csv")
        assert len(ours) == len(theirs)
        for own, official in zip(ours, theirs, strict=True):
            if official[:1] == [CI]:
                assert own[0] == CI
                assert own[2] > 100 * official[2].expected  # N - 1 times as wide, up to what the pooling changed
            else:
                assert own == official
    assert results
    write_summary(tmp_path / "summary.csv", results)
    assert raw(tmp_path / "summary.csv") == cells(data / "expected" / "teams_official_score_paper.csv")


# --------------------------------------------------------------------------------------------------------- small case


def section(kind: str = "Mixer", each: int = 4) -> Section:
    """`each` clips of every label in every domain."""
    names = [f"section_00_{number:04d}.wav" for number in range(4 * each)]
    labels = {name: number % 2 for number, name in enumerate(names)}
    domains = {name: number // 2 % 2 for number, name in enumerate(names)}
    words = [
        f"section_00_{('source', 'target')[domains[n]]}_test_{('normal', 'anomaly')[labels[n]]}_{k:04d}_speed_{k}"
        for k, n in enumerate(names)
    ]
    return Section(kind, "00", labels, domains, dict(zip(words, names, strict=True)))


def scores_of(of: Section, seed: int = 0) -> np.ndarray:
    return np.array(list(of.labels.values())) + np.random.default_rng(seed).normal(size=len(of.labels))


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Scores and decisions of two machine types."""
    folder = tmp_path / "Muster_Uni_task2_1"
    for number, kind in enumerate(("Mixer", "3DPrinter")):
        of = section(kind)
        scores = scores_of(of, number)
        write_scores(folder / f"anomaly_score_{kind}_section_00_test.csv", dict(zip(of.labels, scores, strict=True)))
        decided = dict(zip(of.labels, (scores > 0.5).astype(int), strict=True))
        write_decisions(folder / f"decision_result_{kind}_section_00_test.csv", decided)
    return folder


TRUTH = [section("Mixer"), section("3DPrinter")]
SCORES, DECISIONS = "anomaly_score_Mixer_section_00_test.csv", "decision_result_Mixer_section_00_test.csv"


def test_anomalies_of_both_domains_count(system: Path) -> None:
    of = TRUTH[0]
    scores = scores_of(of)
    labels, domains = np.array(list(of.labels.values())), np.array(list(of.domains.values()))
    values = section_values(of, scores, (scores > 0.5).astype(int))
    for domain in (0, 1):
        chosen = (labels == 1) | (domains == domain)
        assert values.auc_domain[domain] == pytest.approx(roc_auc_score(labels[chosen], scores[chosen]))
        inside = (domains == domain) & (scores > 0.5)
        assert values.per_domain[domain][0] == pytest.approx(labels[inside].mean())
    assert values.pauc == pytest.approx(roc_auc_score(labels, scores, max_fpr=0.1))
    both = [values, section_values(TRUTH[1], scores_of(TRUTH[1], 1), np.zeros(16))]
    six = [x for v in both for x in (*v.auc_domain, v.pauc)]
    assert official_score(both) == pytest.approx(hmean(six))
    assert mean_rows(both)["target harmonic mean"][0] == pytest.approx(hmean([v.auc_domain[1] for v in both]))
    assert mean_rows(both)["source harmonic mean"][4] < 1e-15  # no decision for the second: an F1 of zero
    assert evaluate(system, TRUTH).score == pytest.approx(hmean(six))


def test_jackknife_by_its_definition() -> None:
    parts = [(of, scores_of(of, seed)) for seed, of in enumerate(TRUTH)]

    def score(left_out: tuple[int, int] | None) -> float:
        six = []
        for number, (of, scores) in enumerate(parts):
            kept = np.array([left_out != (number, clip) for clip in range(len(scores))])
            labels, domains = np.array(list(of.labels.values()))[kept], np.array(list(of.domains.values()))[kept]
            for domain in (0, 1):
                chosen = (labels == 1) | (domains == domain)
                six.append(roc_auc_score(labels[chosen], scores[kept][chosen]))
            six.append(roc_auc_score(labels, scores[kept], max_fpr=0.1))
        return float(hmean(six))

    clips = [(number, clip) for number, (_, scores) in enumerate(parts) for clip in range(len(scores))]
    n = len(clips)
    pseudo = [n * score(None) - (n - 1) * score(clip) for clip in clips]
    assert confidence(parts) == pytest.approx(1.96 * np.std(pseudo, ddof=1) / math.sqrt(n))


def test_order_and_form_of_the_names_do_not_matter(system: Path, tmp_path: Path) -> None:
    before = evaluate(system, TRUTH)
    words = {name: word for word, name in TRUTH[0].descriptive.items()}
    for name, suffix in ((SCORES, ".wav"), (DECISIONS, "")):
        rows = [row.split(",") for row in (system / name).read_text().splitlines()]
        (system / name).write_text("\n".join(f"{words[clip]}{suffix},{value}" for clip, value in rows[::-1]))
    assert evaluate(system, TRUTH)[1:] == before[1:]
    # The names that the official baseline gives its files.
    for kind in ("anomaly_score", "decision_result"):
        baseline = f"{kind}_DCASE2024T2Mixer_section_00_test_seed13711_id(0_)_Eval.csv"
        (system / f"{kind}_Mixer_section_00_test.csv").rename(system / baseline)
    assert evaluate(system, TRUTH)[1:] == before[1:]
    shutil.copy(system / baseline, system / baseline.replace("13711", "13712"))
    with pytest.raises(UserError, match="2 files of decision_result for Mixer"):
        evaluate(system, TRUTH)


def edit(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def of_folder(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines()
        (folder / name).write_text("\n".join(change(lines)))

    return of_folder


FIRST_WORDS = next(iter(TRUTH[0].descriptive))
WRONG = [
    (lambda folder: (folder / SCORES).unlink(), f"{SCORES}: anomaly_score file not found"),
    (lambda folder: (folder / DECISIONS).unlink(), f"{DECISIONS}: decision_result file not found"),
    (edit(DECISIONS, lambda lines: [*lines[:2], lines[2][:-1] + "2", *lines[3:]]), f"{DECISIONS}:3: decision '2'"),
    (edit(SCORES, lambda lines: ["name,score", *lines]), f"{SCORES}:1: score 'score'.* no header"),
    (edit(SCORES, lambda lines: [*lines[:-1], "section_00_0015.wav,nan"]), f"{SCORES}:16: score 'nan'"),
    (edit(SCORES, lambda lines: lines[1:]), rf"{SCORES}: misses section_00_0000.wav \(Mixer, section 00\)"),
    (edit(SCORES, lambda lines: [*lines, "section_00_9999.wav,1"]), f"{SCORES}: has foreign section_00_9999.wav"),
    (edit(SCORES, lambda lines: [*lines, lines[0]]), f"{SCORES}:17: section_00_0000.wav for the second time"),
    (
        edit(SCORES, lambda lines: [*lines, f"{FIRST_WORDS}.wav,1"]),
        f"{SCORES}: section_00_0000.wav for the second time",
    ),
    (edit(DECISIONS, lambda lines: lines[2:]), f"{DECISIONS}: misses section_00_0000.wav and 1 more"),
]


@pytest.mark.parametrize(("break_it", "message"), WRONG)
def test_wrong_submissions(system: Path, break_it: Callable[[Path], None], message: str) -> None:
    break_it(system)
    with pytest.raises(UserError, match=message):
        evaluate(system, TRUTH)


def test_undefined_metrics_are_said() -> None:
    of = TRUTH[0]
    normal = of._replace(labels=dict.fromkeys(of.labels, 0))
    with pytest.raises(UserError, match="Mixer, section 00: the AUC is not defined"):
        section_values(normal, scores_of(of), np.zeros(16))
    source = of._replace(domains=dict.fromkeys(of.labels, 0))
    with pytest.raises(UserError, match="the AUC of the target domain is not defined"):
        section_values(source, scores_of(of), np.zeros(16))


def test_ground_truth_in_three_folders(tmp_path: Path) -> None:
    of, name = TRUTH[0], "ground_truth_Mixer_section_00_test.csv"
    write_decisions(tmp_path / "ground_truth_data" / name, of.labels)
    with pytest.raises(UserError, match=rf"ground_truth_domain.{name}: domain file not found"):
        read_truth_first_shot(tmp_path)
    write_decisions(tmp_path / "ground_truth_domain" / name, of.domains)
    assert read_truth_first_shot(tmp_path) == [of._replace(descriptive={})]
    rows = "".join(f"{clip},{words},revealed\n" for words, clip in of.descriptive.items())
    (tmp_path / "ground_truth_attributes").mkdir()
    (tmp_path / "ground_truth_attributes" / name).write_text(rows)
    assert read_truth_first_shot(tmp_path) == [of]
    write_decisions(tmp_path / "ground_truth_domain" / name, dict(list(of.domains.items())[1:]))
    with pytest.raises(UserError, match=r"section_00_0000.wav of .* stands only in one of"):
        read_truth_first_shot(tmp_path)
    (tmp_path / "ground_truth_data" / name).unlink()
    with pytest.raises(UserError, match="no ground truth"):
        read_truth_first_shot(tmp_path)
    with pytest.raises(UserError, match="folder of labels not found"):
        read_truth_first_shot(tmp_path / "ground_truth_data")


def test_sections_are_machines() -> None:
    truths = as_truths(TRUTH)
    assert [str(truth.machine) for truth in truths] == ["Mixer_section_00", "3DPrinter_section_00"]
    assert [as_section(truth) for truth in truths] == [of._replace(descriptive={}) for of in TRUTH]
    with pytest.raises(UserError, match="without a domain"):
        as_section(Truth(Machine("fan", 0), {"a.wav": 1}))
