"""Trained networks -> scores of every clip of the test sets, and of any recordings that a person names."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common.audio import reading
from common.encoders.cp_resnet import CPResNet
from common.run.checkpoints import checkpoint_of, fill, network_state, read_checkpoint
from common.run.errors import UserError
from common.run.progress import progress
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.classes import SAMPLE_RATE, Machine
from task2_anomaly.data.features import Features, features_of, spectrogram
from task2_anomaly.data.front_end import front_end
from task2_anomaly.data.layout import TEST_PARTS, Part, parse_clip
from task2_anomaly.data.sets import held_out_rows, of_machine, pack_of, training_pack, training_rows
from task2_anomaly.inference.ensemble import NORMAL
from task2_anomaly.inference.scores import decision_file, read_scores, score_file, write_decisions, write_scores
from task2_anomaly.inference.thresholds import decide, threshold
from task2_anomaly.inference.windows import window_scores
from task2_anomaly.model.autoencoder import Autoencoder, FirstShotAutoencoder
from task2_anomaly.model.networks import build_network, window_frames

AGGREGATE: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(dim=1),
    "max": lambda x: x.amax(dim=1),
    "median": lambda x: x.median(dim=1).values,
}


class Scorer:
    """A machine's network on a device: spectrograms in, one score per clip out."""

    def __init__(self, network: nn.Module, config: Config, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network, self.config = network.to(self.device).eval(), config

    @torch.inference_mode()
    def scores(self, observation: Tensor) -> Tensor:
        """Log-mel (batch, mel, frames) of clips of one length -> scores (batch,), higher for anomalies."""
        scoring, length = self.config.scoring, window_frames(self.config)
        observation = repeated(observation.to(self.device), length)
        if isinstance(self.network, CPResNet):
            return AGGREGATE[scoring.aggregate](window_scores(self.network, observation, length, scoring.hop))
        residuals = self.residuals(observation)
        if scoring.residuals == "squared":
            return AGGREGATE[scoring.aggregate](residuals.square().mean(dim=(2, 3)))
        assert isinstance(self.network, FirstShotAutoencoder)
        return self.network.mahalanobis(residuals, published=scoring.residuals == "mahalanobis_published")

    @torch.inference_mode()
    def residuals(self, observation: Tensor) -> Tensor:
        """An autoencoder's residuals (batch, windows, mel, frames of a window)."""
        assert isinstance(self.network, Autoencoder)
        length = window_frames(self.config)
        pieces = repeated(observation.to(self.device), length).unfold(2, length, self.config.scoring.hop)
        pieces = pieces.transpose(1, 2)
        return self.network.residual(pieces.flatten(0, 1)).unflatten(1, pieces.shape[2:]).unflatten(0, pieces.shape[:2])

    def clips(self, features: Features, rows: np.ndarray | None = None) -> dict[str, float]:
        """{name: score} of the clips of a pack, or of some of its rows."""
        found: dict[str, float] = {}
        for chosen, observation in _by_length(features, rows, self.config.data.eval_batch):
            values = self.scores(torch.from_numpy(observation)).double().cpu().tolist()
            found |= {features.names[int(i)]: value for i, value in zip(chosen, values, strict=True)}
        return found


def repeated(observation: Tensor, length: int) -> Tensor:
    """Spectrograms (batch, mel, frames) of at least `length` frames: shorter ones are repeated."""
    times = -(-length // observation.shape[2])
    return observation if times == 1 else observation.repeat(1, 1, times)[..., :length]


def _by_length(features: Features, rows: np.ndarray | None, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, their spectrograms (clips, mel, frames)): clips of one length together."""
    rows = np.arange(len(features)) if rows is None else rows
    sizes = features.num_frames[rows]
    for size in np.unique(sizes):
        alike = rows[sizes == size]
        for first in range(0, len(alike), batch):
            chosen = alike[first : first + batch]
            yield chosen, features.cut(chosen, np.zeros(len(chosen), np.int64), int(size))


def load_scorer(run: Run, machine: Machine, device: str | None = None) -> Scorer:
    """The trained network of a machine of a run. Raises UserError where it is not trained, damaged or another."""
    path, recorded = checkpoint_of(of_machine(run, machine).folder)
    network = build_network(run.config.model, front_end(run.config.front_end).num_mels)
    state = network_state(read_checkpoint(path, recorded), "network", path)
    scorer = Scorer(fill(network, state, path), run.config, device)
    if run.config.scoring.residuals != "squared":
        _fit_covariance(scorer, run, machine)
    return scorer


def _fit_covariance(scorer: Scorer, run: Run, machine: Machine) -> None:
    """What Mahalanobis distances are measured by: the residuals of the clips that training has seen."""
    assert isinstance(scorer.network, FirstShotAutoencoder)
    own = features_of(training_pack(run.config.data, machine), run.config.front_end)
    rows = training_rows(len(own), run.config.scoring.held_out)
    target = torch.tensor([parse_clip(name).domain == "target" for name in own.names])
    batches = _by_length(own, rows, run.config.data.eval_batch)
    scorer.network.fit_covariance((scorer.residuals(torch.from_numpy(x)), target[chosen]) for chosen, x in batches)


def predict_machine(run: Run, machine: Machine) -> dict[str, int]:
    """Write a machine's score files of the test parts that are there, the scores of held-out normal clips, decisions.

    Returns {part: clips}.
    """
    config: Config = run.config
    scorer = load_scorer(run, machine)
    own = features_of(training_pack(config.data, machine), config.front_end)
    normal = scorer.clips(own, held_out_rows(len(own), config.scoring.held_out))
    limit = threshold(list(normal.values()), config.scoring.decision_quantile)
    counts: dict[str, int] = {}
    for part in TEST_PARTS:
        pack = pack_of(config.data, part, machine)
        if not (pack / "pack.json").is_file():
            continue
        scores = scorer.clips(features_of(pack, config.front_end))
        store(run, part, machine, scores, normal, limit)
        counts[part] = len(scores)
    return counts


def store(
    run: Run, part: Part, machine: Machine, scores: dict[str, float], normal: dict[str, float], limit: float
) -> None:
    """Scores, held-out scores and decisions of a machine, under <run>/scores/<part>."""
    folder = scores_folder(run, part)
    write_scores(folder / NORMAL / score_file(machine), normal)
    write_decisions(folder / decision_file(machine), decide(scores, limit))
    write_scores(folder / score_file(machine), scores)


def scores_folder(run: Run, part: Part) -> Path:
    """Where a run's score files of a part lie."""
    return run.folder / "scores" / part


def predict_sets(run: Run, machines: Sequence[Machine]) -> dict[str, int]:
    """Score files of all machines; returns the number of clips of each part."""
    counts: dict[str, int] = {}
    with progress("predict", len(machines), "machines") as advance:
        for machine in machines:
            for part, clips in predict_machine(run, machine).items():
                counts[part] = counts.get(part, 0) + clips
            advance(note=str(machine))
    if not counts:
        raise UserError("no test clips in this data set: neither dev_data/<type>/test nor eval_data/<type>/test")
    return counts


class Verdict(NamedTuple):
    """A recording's score, the machine's decision threshold, and whether it is taken for an anomaly."""

    file: Path
    score: float
    limit: float
    anomalous: bool


def predict_files(run: Run, machine: Machine, files: list[Path]) -> list[Verdict]:
    """Judge recordings of any length, rate and number of channels by one machine's network."""
    scorer, ears = load_scorer(run, machine), front_end(run.config.front_end)
    part = next((p for p in TEST_PARTS if (scores_folder(run, p) / NORMAL / score_file(machine)).is_file()), None)
    if part is None:
        raise UserError(f"{run.folder}: no scores of normal clips of {machine} for a threshold; `predict` makes them")
    normal = read_scores(scores_folder(run, part) / NORMAL / score_file(machine))
    limit = threshold(list(normal.values()), run.config.scoring.decision_quantile)
    found = []
    for path in files:
        waveform = torch.from_numpy(reading.load(path, SAMPLE_RATE))
        if ears.num_frames(len(waveform)) == 0:
            raise UserError(f"{path}: too short, {len(waveform) / SAMPLE_RATE:.3f} s")
        observation = spectrogram(ears, waveform[None], run.config.front_end.standardise)
        score = float(scorer.scores(observation)[0])
        found.append(Verdict(path, score, limit, score > limit))
    return found
