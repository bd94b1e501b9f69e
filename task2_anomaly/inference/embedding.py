"""The second system: embeddings of a pre-trained encoder, and a back end that knows what normal looks like.

The encoder is frozen, or `finetuning` has made it tell machines and attributes apart first.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

from common.audio import reading
from common.audio.packs import open_pack
from common.encoders import Encoder, create
from common.run.checkpoints import checkpoint_of, fill, network_state, read_checkpoint
from common.run.errors import UserError
from common.run.progress import progress
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.classes import SAMPLE_RATE, Machine
from task2_anomaly.data.embeddings import embeddings_of
from task2_anomaly.data.layout import TEST_PARTS, TRAIN_PARTS, parse_clip
from task2_anomaly.data.sets import held_out_rows, pack_of, training_pack, training_rows
from task2_anomaly.inference.predict import Verdict, store
from task2_anomaly.inference.thresholds import threshold
from task2_anomaly.model import backends


def new_encoder(config: Config, seed: int) -> Encoder:
    """The recipe's encoder; with random weights of the seed where the recipe names no checkpoint."""
    torch.manual_seed(seed)
    return create(config.embedding.encoder, config.embedding.checkpoint, num_classes=None)


def pooled(encoder: Encoder, waveform: Tensor, pooling: str) -> Tensor:
    """Waveforms (batch, samples) at 16 kHz -> clip vectors (batch, dim): mean of the frames, or mean and deviation."""
    frames = encoder(resample(waveform, SAMPLE_RATE, encoder.sample_rate)).frames
    if pooling == "mean":
        return frames.mean(dim=1)
    return torch.cat((frames.mean(dim=1), frames.std(dim=1, correction=0)), dim=1)


class Embedder:
    """A run's encoder on a device: packs and waveforms -> clip vectors. Those of packs are kept in the run's folder."""

    def __init__(self, run: Run, device: str | None = None) -> None:
        of = run.config.embedding
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        encoder, made_of = new_encoder(run.config, run.seed), [of.encoder, of.pooling, run.seed]
        if of.finetune:
            path, recorded = checkpoint_of(run.folder)
            fill(encoder, network_state(read_checkpoint(path, recorded), "encoder", path), path)
            made_of.append(recorded)
        elif encoder.checkpoint:
            made_of.append(encoder.checkpoint["sha256"])
        self.pooling, self.encoder = of.pooling, encoder.to(self.device).freeze()
        self.key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]

    @torch.inference_mode()
    def vectors(self, waveform: np.ndarray) -> np.ndarray:
        """Waveforms (batch, samples) at 16 kHz -> (batch, dim), float64."""
        found = pooled(self.encoder, torch.from_numpy(waveform).to(self.device), self.pooling)
        return found.double().cpu().numpy()


class Normal(NamedTuple):
    """What normal is for a machine: a back end, the scores of held-out normal clips, the decision threshold."""

    distance: backends.Distance
    held_out: dict[str, float]
    limit: float


def learn_normal(run: Run, embedder: Embedder, machine: Machine) -> Normal:
    """Fit the recipe's back end on the machine's normal training clips, but for those that are held out."""
    config: Config = run.config
    pack = training_pack(config.data, machine)
    part = next(part for part in TRAIN_PARTS if pack == pack_of(config.data, part, machine))
    names, vectors = list(open_pack(pack).names), embeddings_of(run, embedder, part, machine)
    target = np.array([parse_clip(name).domain == "target" for name in names])
    rows, held = (of(len(names), config.scoring.held_out) for of in (training_rows, held_out_rows))
    distance = backends.fit(config.embedding, vectors[rows], target[rows], run.seed)
    scores = dict(zip([names[i] for i in held], distance(vectors[held]).tolist(), strict=True))
    return Normal(distance, scores, threshold(list(scores.values()), config.scoring.decision_quantile))


def predict_sets(run: Run, machines: Sequence[Machine]) -> dict[str, int]:
    """Score files of all machines and test parts; returns the number of clips of each part."""
    embedder, counts = Embedder(run), dict[str, int]()
    with progress("predict", len(machines), "machines") as advance:
        for machine in machines:
            normal = learn_normal(run, embedder, machine)
            for part in TEST_PARTS:
                pack = pack_of(run.config.data, part, machine)
                if not (pack / "pack.json").is_file():
                    continue
                found = normal.distance(embeddings_of(run, embedder, part, machine)).tolist()
                scores = dict(zip(open_pack(pack).names, found, strict=True))
                store(run, part, machine, scores, normal.held_out, normal.limit)
                counts[part] = counts.get(part, 0) + len(scores)
            advance(note=str(machine))
    if not counts:
        raise UserError("no test clips in this data set: neither dev_data/<type>/test nor eval_data/<type>/test")
    return counts


def predict_files(run: Run, machine: Machine, files: list[Path]) -> list[Verdict]:
    """Judge recordings of any length, rate and number of channels by one machine's normal clips."""
    embedder = Embedder(run)
    normal = learn_normal(run, embedder, machine)
    found = []
    for path in files:
        score = float(normal.distance(embedder.vectors(reading.load(path, SAMPLE_RATE)[None]))[0])
        found.append(Verdict(path, score, normal.limit, score > normal.limit))
    return found
