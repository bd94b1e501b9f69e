"""Trained machines -> scores and decisions of the clips of the test sets, and of any recordings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.audio.reading import Waveform, audio_files, load, waveform_of
from common.run.errors import UserError, did_you_mean
from common.run.progress import progress
from common.run.results.runs import TOY_NETWORK, network_note
from common.run.results.store import record
from common.run.results.tables import print_table
from common.run.verbs import Run
from task2_anomaly.config import SAMPLE_RATE, Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.layout import TEST_PARTS
from task2_anomaly.data.sets import is_toy, machines_of, of_machine, pack_of
from task2_anomaly.inference.checkpoints import run_of
from task2_anomaly.inference.scorers import EmbeddingScorer, Scorer, load_scorer
from task2_anomaly.inference.scores import (
    NORMAL,
    decision_file,
    read_scores,
    score_file,
    scores_folder,
    write_decisions,
    write_scores,
)
from task2_anomaly.inference.thresholds import decide, threshold
from task2_anomaly.model.embedder import Embedder


def predict_run(run: Run) -> Mapping[str, Any]:
    """Score files of the run's machines on the test sets."""
    counts = predict_sets(run, machines_of(run.config.data))
    record(run.folder, "predict", {"clips": counts})
    return {"scores": str(run.folder / "scores"), "clips": counts}


def predict_sets(run: Run, machines: Sequence[Machine]) -> dict[str, int]:
    """Score files of all machines; returns the number of clips of each part."""
    counts: dict[str, int] = {}
    embedder = Embedder(run) if run.config.model.kind == "embedding" else None
    with progress("predict", len(machines), "machines") as advance:
        for machine in machines:
            for part, clips in predict_machine(run, machine, embedder).items():
                counts[part] = counts.get(part, 0) + clips
            advance(note=str(machine))
    if not counts:
        raise UserError("no test clips in this data set: neither dev_data/<type>/test nor eval_data/<type>/test")
    return counts


def predict_machine(run: Run, machine: Machine, embedder: Embedder | None = None) -> dict[str, int]:
    """Write a machine's score files of the test parts that are there, the scores of held-out normal clips, decisions.

    They lie under <run>/scores/<part>. Returns {part: clips}.
    """
    config: Config = run.config
    scorer = load_scorer(run, machine, embedder)
    normal = scorer.held_out()
    limit = threshold(list(normal.values()), config.scoring.decision_quantile)
    counts: dict[str, int] = {}
    for part in TEST_PARTS:
        if not (pack_of(config.data, part, machine) / "pack.json").is_file():
            continue
        scores, folder = scorer.of_part(part), scores_folder(run, part)
        write_scores(folder / NORMAL / score_file(machine), normal)
        write_decisions(folder / decision_file(machine), decide(scores, limit))
        write_scores(folder / score_file(machine), scores)
        counts[part] = len(scores)
    return counts


class Verdict(NamedTuple):
    """A recording's score, the machine's decision threshold, and whether it is taken for an anomaly."""

    file: Path
    score: float
    limit: float
    anomalous: bool


def predict_files(run: Run, files: list[Path], machine: str | None) -> Mapping[str, Any]:
    """Scores and decisions for named recordings of one machine."""
    if machine is None:
        raise UserError("predict FILES needs --machine, e.g. --machine fan_id_00: every network knows one machine")
    known = {str(m): m for m in machines_of(run.config.data)}
    if machine not in known:
        raise UserError(f"--machine: no machine {machine!r} here{did_you_mean(machine, known)}")
    found = verdicts_of(run, known[machine], audio_files(files))
    rows = [[str(v.file), f"{v.score:.4f}", f"{v.limit:.4f}", "ANOMALY" if v.anomalous else "normal"] for v in found]
    # A frozen encoder has no training of its own; there it is the normal clips that are toys.
    note = network_note(of_machine(run, known[machine]).folder) or (TOY_NETWORK if is_toy(run.config.data) else None)
    print_table(f"recordings of {machine}", ["file", "score", "threshold", "decision"], rows, note)
    files_json = [{"file": str(v.file), "score": v.score, "anomalous": v.anomalous} for v in found]
    return {"threshold": found[0].limit, "files": files_json, "note": note}


def verdicts_of(run: Run, machine: Machine, files: Sequence[Path]) -> list[Verdict]:
    """Judge recordings of any length, rate and number of channels by what one machine's training has learnt."""
    scorer = load_scorer(run, machine)
    limit = decision_threshold(run, machine, scorer)
    return [_verdict(scorer, limit, load(path, SAMPLE_RATE), path) for path in files]


def judge(
    recording: str | Path | np.ndarray, checkpoint: str | Path, sample_rate: int | None, named: str | None = None
) -> dict[str, Any]:
    """`task2_anomaly.judge`."""
    run, machine = run_of(Path(checkpoint), named)
    scorer = load_scorer(run, machine)
    waveform = waveform_of(recording, sample_rate, SAMPLE_RATE)
    name = Path("recording") if isinstance(recording, np.ndarray) else Path(recording)
    verdict = _verdict(scorer, decision_threshold(run, machine, scorer), waveform, name)
    return {"score": verdict.score, "threshold": verdict.limit, "anomalous": verdict.anomalous}


def _verdict(scorer: Scorer, limit: float, waveform: Waveform, name: Path) -> Verdict:
    score = scorer.of_waveform(waveform, name)
    return Verdict(name, score, limit, score > limit)


def decision_threshold(run: Run, machine: Machine, scorer: Scorer) -> float:
    """From the scores of held-out normal clips; a network's are those that `predict` has stored.

    Raises UserError where there are none.
    """
    if isinstance(scorer, EmbeddingScorer):
        normal = scorer.held_out()
    else:
        files = [scores_folder(run, part) / NORMAL / score_file(machine) for part in TEST_PARTS]
        stored = next((path for path in files if path.is_file()), None)
        if stored is None:
            raise UserError(
                f"{run.folder}: no scores of normal clips of {machine} for a threshold; `predict` makes them"
            )
        normal = read_scores(stored)
    return threshold(list(normal.values()), run.config.scoring.decision_quantile)
