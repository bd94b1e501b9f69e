"""Embeddings of a pre-trained encoder, which is frozen, or fine-tuned to tell machines and attributes apart."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

from common.encoders import Encoder, create
from common.run.checkpoints import checkpoint_of, fill, network_state, read_checkpoint
from common.run.imports import as_stored, owns
from common.run.processes import working_device
from common.run.verbs import Run
from task2_anomaly.config import SAMPLE_RATE, Config


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
    """A run's encoder on a device: waveforms -> clip vectors. `key` differs between embedders of other vectors."""

    def __init__(self, run: Run, device: str | None = None, tuned: Mapping[str, Tensor] | None = None) -> None:
        """tuned: weights of a fine-tuned encoder (default: those of the run)."""
        config: Config = as_stored(run.config, run.folder)
        of = config.embedding
        self.device = torch.device(working_device(device))
        encoder, made_of = new_encoder(config, run.seed), [str(of.encoder), of.pooling, run.seed]
        if of.finetune and tuned is not None:
            fill(encoder, tuned, run.folder)
        elif of.finetune:
            path, recorded = checkpoint_of(run.folder)
            fill(encoder, network_state(read_checkpoint(path, recorded), "encoder", path), path)
            made_of.append(recorded)
        elif encoder.checkpoint:
            made_of.append(encoder.checkpoint["sha256"])
        made_of += [own.digest for own in owns(of)]
        self.pooling, self.encoder = of.pooling, encoder.to(self.device).freeze()
        self.key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]

    @torch.inference_mode()
    def vectors(self, waveform: np.ndarray) -> np.ndarray:
        """Waveforms (batch, samples) at 16 kHz -> (batch, dim), float64."""
        found = pooled(self.encoder, torch.from_numpy(waveform).to(self.device), self.pooling)
        return found.double().cpu().numpy()
