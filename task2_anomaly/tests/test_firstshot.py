"""First-shot editions: the official results to 1e-12, names in all forms, and what is wrong with a submission."""

import csv
import json
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

from common.audio.reading import write_wav
from common.run.config import load_config
from common.run.errors import UserError
from common.run.verbs import Run, main
from task2_anomaly.__main__ import TASK
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.prepare import prepare
from task2_anomaly.evaluation.first_shot import (
    confidence,
    evaluate,
    mean_rows,
    official_score,
    section_values,
    write_result,
    write_summary,
)
from task2_anomaly.evaluation.truth import Section, Truth, as_section, as_truths, read_truth_first_shot, truths_of
from task2_anomaly.inference.scores import read_flags, read_scores, write_decisions, write_scores
from task2_anomaly.submission.package import package_runs

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


# ------------------------------------------------------------------------------------------------------ 2021 and 2022


def write_2021(root: Path, domains: tuple[str, ...] = ("source", "target"), each: int = 12) -> tuple[Path, Path]:
    """Ground truth and scores of two sections, a file for each domain; returns both folders."""
    random = np.random.default_rng(0)
    for number in (3, 4):
        for domain in domains:
            names = [f"section_{number:02d}_{domain}_test_{n:04d}.wav" for n in range(2 * each)]
            labels = {name: n % 2 for n, name in enumerate(names)}
            stem = f"fan_section_{number:02d}_{domain}_test.csv"
            shift = 2.0 if domain == "target" else 0.0  # only a comparison within the domain is not misled
            scores = {name: label + shift + random.normal() for name, label in labels.items()}
            write_decisions(root / "truth" / "ground_truth_data" / f"ground_truth_{stem}", labels)
            write_scores(root / "system" / f"anomaly_score_{stem}", scores)
    return root / "truth", root / "system"


@pytest.mark.parametrize("domains", [("source", "target"), ("source",), ("target",)])
def test_domains_of_2021_are_scored_apart(tmp_path: Path, domains: tuple[str, ...]) -> None:
    truth, system = write_2021(tmp_path, domains)
    sections = read_truth_first_shot(truth)
    assert [(of.type, of.section, of.apart) for of in sections] == [("fan", "03", True), ("fan", "04", True)]
    result = evaluate(system, sections)
    expected = []
    for values in result.sections:
        for metric, options in (("auc_domain", {}), ("pauc_domain", {"max_fpr": 0.1})):
            for number, domain in enumerate(("source", "target")):
                found = getattr(values, metric)[number]
                if domain not in domains:
                    assert math.isnan(found)
                    continue
                stem = f"fan_section_{values.section}_{domain}_test.csv"
                labels = read_flags(truth / "ground_truth_data" / f"ground_truth_{stem}", "label")
                scores = read_scores(system / f"anomaly_score_{stem}")
                own = roc_auc_score(list(labels.values()), [scores[name] for name in labels], **options)
                assert found == pytest.approx(own)
                expected.append(own)
    assert result.score == pytest.approx(hmean(expected))
    assert 0 < result.interval < 0.5
    write_result(tmp_path / "result.csv", result)
    rows = cells(tmp_path / "result.csv")
    assert [row[:3] for row in rows[1:-1]] == [["fan", n, d] for n in ("03", "04") for d in domains]
    assert rows[-1][:4] == ["official score", "", "", pytest.approx(result.score)]
    write_summary(tmp_path / "summary.csv", [result])
    assert len(cells(tmp_path / "summary.csv")) == 1 + 2 * len(domains) + 1


def test_2021_by_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, system = write_2021(tmp_path)
    words = ["--scores", str(system), "--ground-truth", str(truth), "--out", str(tmp_path / "out.csv")]
    assert main(TASK, ["evaluate", *words, "--json"]) == 0
    shown = capsys.readouterr().out
    assert "pAUC target" in shown
    found = json.loads(shown.splitlines()[-1])
    assert found["official_score"] == pytest.approx(evaluate(system, read_truth_first_shot(truth)).score)
    for kind in ("source", "target"):  # with decisions
        for number in (3, 4):
            stem = f"fan_section_{number:02d}_{kind}_test.csv"
            scores = read_scores(system / f"anomaly_score_{stem}")
            write_decisions(system / f"decision_result_{stem}", {name: int(of > 1) for name, of in scores.items()})
    assert main(TASK, ["evaluate", *words]) == 0
    rows = cells(tmp_path / "out.csv")
    assert rows[0][-3:] == ["precision", "recall", "F1 score"]
    assert all(isinstance(cell, type(pytest.approx(1.0))) for row in rows[1:-1] for cell in row[3:])


def test_a_missing_domain_of_scores_is_named(tmp_path: Path) -> None:
    truth, system = write_2021(tmp_path)
    (system / "anomaly_score_fan_section_03_target_test.csv").unlink()
    with pytest.raises(UserError, match=r"anomaly_score_fan_section_03_target_test\.csv: anomaly_score file not found"):
        evaluate(system, read_truth_first_shot(truth))


def test_scores_of_2021_in_one_file_for_a_section(tmp_path: Path) -> None:
    """As own runs write them."""
    truth, system = write_2021(tmp_path)
    expected = evaluate(system, read_truth_first_shot(truth))
    for number in (3, 4):
        parts = [system / f"anomaly_score_fan_section_{number:02d}_{d}_test.csv" for d in ("source", "target")]
        write_scores(
            system / f"anomaly_score_fan_section_{number:02d}_test.csv", read_scores(parts[0]) | read_scores(parts[1])
        )
        for part in parts:
            part.unlink()
    assert evaluate(system, read_truth_first_shot(truth)) == expected


def test_scores_and_truths_of_different_editions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, system = write_2021(tmp_path)
    write_scores(tmp_path / "old" / "anomaly_score_fan_id_01.csv", {"id_01_00000000.wav": 1.0})
    (tmp_path / "list.csv").write_text("fan\nid_01_00000000.wav,normal_id_01_00000000.wav,0\n")
    for scores, labels, message in (
        (tmp_path / "old", truth, "a folder, as the ground truths of 2021 to 2025 are; but"),
        (system, tmp_path / "list.csv", "a file, as the list of 2020 is; but"),
    ):
        assert main(TASK, ["evaluate", "--scores", str(scores), "--ground-truth", str(labels)]) == 1
        assert message in capsys.readouterr().err


def test_the_case_of_2021(shared: Path, tmp_path: Path) -> None:
    """A published ground truth of one domain."""
    cases = sorted((shared / "data" / "cases").glob("*editions-2021*/*/ground_truth_data/*.csv"))
    if not cases:
        pytest.skip("no case")
    for path in cases:
        labels = read_flags(path, "label")
        name = path.name.replace("ground_truth", "anomaly_score")
        write_scores(tmp_path / name, {clip: label + 0.25 for clip, label in labels.items()})
        assert evaluate(tmp_path, read_truth_first_shot(path.parents[1])).score == 1.0


@pytest.mark.parametrize("year", [2021, 2022])
def test_data_sets_of_2021_and_2022_are_prepared(tmp_path: Path, year: int) -> None:
    """Three sections of a type in the development set, three others in the evaluation set."""
    sound = 0.1 * np.random.default_rng(0).standard_normal(8000)
    for data, sections in (("dev_data", (0, 1)), ("eval_data", (3, 4))):
        for number in sections:
            for domain in ("source", "target"):
                start = f"section_{number:02d}_{domain}"
                write_wav(tmp_path / data / "fan" / "train" / f"{start}_train_normal_0000_noise_1.wav", sound, 16000)
                label = "_normal" if data == "dev_data" else ""
                test = f"{domain}_test" if year == 2021 else "test"
                name = f"{start}_test{label}_0000.wav"
                if year == 2022 and not label:
                    name = f"section_{number:02d}_test_{int(domain == 'target'):04d}.wav"
                write_wav(tmp_path / data / "fan" / test / name, sound, 16000)
    config = load_config(Config, TASK.recipes, "ae_firstshot", [f"data.root={tmp_path}", f"data.edition={year}"])
    counts = prepare(config, workers=1)["clips"]
    expected = {
        f"{data}_{part}_fan_section_{number:02d}": 2
        for data, sections in (("dev", (0, 1)), ("eval", (3, 4)))
        for part in ("train", "test")
        for number in sections
    }
    assert counts == expected
    truths = truths_of(config, "dev_test")
    assert [(str(of.machine), of.apart) for of in truths] == [
        ("fan_section_00", year == 2021),
        ("fan_section_01", year == 2021),
    ]
    assert all(sorted((of.domains or {}).values()) == [0, 1] for of in truths)


def test_an_unknown_edition_is_said_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TASK, ["prepare", "data.edition=2019"]) == 1
    said = capsys.readouterr().err
    assert "2020 or 2021 or 2022 or 2023 or 2024 or 2025" in said
    assert "Literal" not in said


def test_no_archive_of_2021(tmp_path: Path) -> None:
    config = load_config(Config, TASK.recipes, "toy_firstshot", [f"data.root={tmp_path}", "data.edition=2021"])
    with pytest.raises(UserError, match="2021, whose submissions have a file for each domain"):
        package_runs([Run(TASK, "toy_firstshot", 1, tmp_path / "run1", config)], None, None)
