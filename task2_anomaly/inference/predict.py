"""Trained machines -> scores and decisions of the clips of the test sets, and of any recordings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.audio.answers import SCORES, stems, write_answer
from common.audio.recordings import Recording, Recordings, find_recordings, rechunked
from common.run.errors import UserError, did_you_mean
from common.run.export import is_exported
from common.run.files import alone
from common.run.folders import printable
from common.run.progress import progress
from common.run.results.runs import TOY_NETWORK, network_note
from common.run.results.store import record
from common.run.results.tables import print_table
from common.run.verbs import Run
from task2_anomaly.config import SAMPLE_RATE, Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.layout import TEST_PARTS
from task2_anomaly.data.sets import is_toy, machines_of, of_machine, pack_of
from task2_anomaly.inference import exported
from task2_anomaly.inference.checkpoints import run_of
from task2_anomaly.inference.exported import open_exported
from task2_anomaly.inference.scorers import EmbeddingScorer, Scorer, load_scorer
from task2_anomaly.inference.scores import (
    NORMAL,
    decision_file,
    read_flags,
    read_scores,
    score_file,
    scores_folder,
    write_decisions,
    write_scores,
)
from task2_anomaly.inference.thresholds import decide, threshold
from task2_anomaly.model.embedder import Embedder

DECISIONS = {False: "normal", True: "ANOMALY"}
MINUTE = 60 * SAMPLE_RATE  # samples of a long recording that are scored at once


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
    seconds: float = 0.0


def export_machine(
    run: Run, name: str | None, out: Path | None, licence: str | None, push: str | None, public: bool
) -> Mapping[str, Any]:
    """`export`: what judges a machine, as a folder for others."""
    machine = named_machine(run, "export", name)
    scorer = load_scorer(run, machine)
    limit = decision_threshold(run, machine, scorer)
    out = out or run.folder / "export" / str(machine)
    return exported.export_machine(run, machine, scorer, limit, out, licence, push, public)


def named_machine(run: Run, verb: str, name: str | None) -> Machine:
    """The machine that --machine names. Raises UserError for none, and for one that the data set does not have."""
    if name is None:
        raise UserError(f"{verb} needs --machine, e.g. --machine fan_id_00: every network knows one machine")
    known = {str(m): m for m in machines_of(run.config.data)}
    if name not in known:
        raise UserError(f"--machine: no machine {name!r} here{did_you_mean(name, known)}")
    return known[name]


def predict_files(run: Run, files: list[Path], machine: str, out: Path | None = None) -> Mapping[str, Any]:
    """Scores and decisions for named recordings of one machine.

    They are printed, and written to `out`: `common.audio.answers`, and score and decision files as the challenge has.
    """
    known = named_machine(run, "predict FILES", machine)
    recordings = find_recordings(files)
    names, written = recordings.names(), stems(out, recordings, "score") if out else {}
    found = verdicts_of(run, known, recordings)
    # A frozen encoder has no training of its own; there it is the normal clips that are toys.
    note = network_note(of_machine(run, known).folder) or (TOY_NETWORK if is_toy(run.config.data) else None)
    named = [(names[v.file], v) for v in found]
    if found:
        rows = [[name, f"{v.score:.4f}", f"{v.limit:.4f}", DECISIONS[v.anomalous]] for name, v in named]
        said = "; ".join(filter(None, (note, f"all files: {out}" if out else None)))
        print_table(f"recordings of {machine}", ["file", "score", "threshold", "decision"], rows, said, whole=out)
    if out is not None and found:
        _write_verdicts(out, written, known, found, note)
    files_json = {name: {"score": v.score, "anomalous": v.anomalous} for name, v in named}
    result = {"out": None if out is None else str(out), "threshold": found[0].limit if found else None}
    return recordings.finish({**result, "files": files_json, "note": note})


def _write_verdicts(
    out: Path, written: Mapping[Path, Path], machine: Machine, found: Sequence[Verdict], note: str | None
) -> None:
    for of in found:
        about = {"file": printable(of.file), "duration": round(of.seconds, 3), "machine": str(machine)}
        about |= {"score": of.score, "threshold": of.limit, "anomalous": of.anomalous} | (
            {"note": note} if note else {}
        )
        row = (printable(of.file.name), of.score, of.limit, DECISIONS[of.anomalous])
        write_answer(written[of.file], about, ("filename", "score", "threshold", "decision"), [row])
    # Names without folder (nor `\\`), as the challenge has them; those of files that are called alike are told apart.
    alike = Counter(of.file.name for of in found)
    names = [of.file.name if alike[of.file.name] == 1 else written[of.file].name for of in found]
    names = [printable(name).replace("\\", "_") for name in names]
    scores, decisions = out / SCORES / score_file(machine), out / SCORES / decision_file(machine)
    with alone(out, SCORES, out):
        before = read_scores(scores) if scores.is_file() else {}
        write_scores(scores, before | {name: of.score for name, of in zip(names, found, strict=True)})
        decided = read_flags(decisions, "decision") if decisions.is_file() else {}
        write_decisions(decisions, decided | {name: of.anomalous for name, of in zip(names, found, strict=True)})


def verdicts_of(run: Run, machine: Machine, recordings: Recordings) -> list[Verdict]:
    """Judge recordings of any length, rate and number of channels by what one machine's training has learnt."""
    scorer = load_scorer(run, machine)
    limit = decision_threshold(run, machine, scorer)
    found = []
    with progress("predict", len(recordings.files), "files") as advance:
        for path in recordings.files:
            with recordings.skipping(path):
                found.append(_verdict(scorer, limit, Recording(path, SAMPLE_RATE), path))
                advance(note=printable(path.name))
    return found


def judge(
    recording: str | Path | np.ndarray, checkpoint: str | Path, sample_rate: int | None, named: str | None = None
) -> dict[str, Any]:
    """`task2_anomaly.judge`."""
    scorer: Scorer
    if is_exported(Path(checkpoint)):
        scorer, limit = open_exported(Path(checkpoint))
        if named not in (None, str(scorer.machine)):
            raise UserError(f"machine: {checkpoint} is of {scorer.machine}, not of {named}")
    else:
        run, machine = run_of(Path(checkpoint), named)
        scorer = load_scorer(run, machine)
        limit = decision_threshold(run, machine, scorer)
    name = Path("recording") if isinstance(recording, np.ndarray) else Path(recording)
    verdict = _verdict(scorer, limit, Recording(recording, SAMPLE_RATE, sample_rate), name)
    return {"score": verdict.score, "threshold": verdict.limit, "anomalous": verdict.anomalous}


def _verdict(scorer: Scorer, limit: float, recording: Recording, name: Path) -> Verdict:
    """What lasts two minutes or more is scored minute by minute: the mean, each counting as long as it lasts."""
    lengths, scores = [], []
    for minute in rechunked(recording, MINUTE, least_last=MINUTE):
        lengths.append(len(minute))
        scores.append(scorer.of_waveform(minute, recording.name))
    if not scores:
        raise UserError(f"{recording.name}: too short, no samples")
    score = float(np.average(scores, weights=lengths)) if len(scores) > 1 else scores[0]
    return Verdict(name, score, limit, score > limit, recording.seconds)


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
