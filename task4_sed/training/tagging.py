"""AudioSet's clip labels: an encoder with an attention head learns them, and what teachers say of each clip.

Step 2 of Schmid et al. 2025, as in Schmid et al. 2023 (EfficientAT).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from common.audio.loading import training_loader
from common.augment import draw_gain, draw_roll, gain, roll
from common.run.errors import UserError
from task4_sed.config import Config
from task4_sed.data.batches import Batch
from task4_sed.data.framewise import drawn, in_order
from task4_sed.data.tag_logits import read_tag_logits
from task4_sed.data.weak import WeakClips, WeakSet, load_weak
from task4_sed.metrics.tagging import average_precisions
from task4_sed.training.framewise import FramewiseSystem, Validate


class TaggingData(LightningDataModule):
    """Training and evaluation clips of AudioSet with their labels."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.training, self.validation = load_weak(config.data, "train"), load_weak(config.data, "eval")
        path = config.data.pseudo_labels
        self.clips = WeakClips(self.training, None if path is None else read_tag_logits(path, self.training.classes))
        self.counts = {"train": len(self.training), "eval": len(self.validation)}

    def log_odds(self) -> np.ndarray:
        """Clip labels say nothing about frames."""
        raise UserError("loss.head_bias: prior is for labels of frames; data.format is audioset_weak")

    def validator(self) -> Validate:
        """Mean average precision of the evaluation clips."""
        return tag_figures(self.validation)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of `data.draws` clips an epoch."""
        weights = None if self.config.data.sampler == "uniform" else self.training.weights()
        sampler = drawn(self.clips, self.config, self.seed, self.trainer, weights)
        return training_loader(self.clips, sampler, self.config.data.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The evaluation clips in order."""
        return in_order(WeakClips(self.validation), self.config, self.trainer)


def tag_figures(clips: WeakSet) -> Validate:
    """Logits (clips, 1, classes) -> mean average precision over the classes that occur, and how many these are."""

    def figures(logits: Any) -> dict[str, float]:
        return figures_of(precisions_of(clips, logits)(np.ones(len(clips))))

    return figures


def figures_of(precisions: np.ndarray) -> dict[str, float]:
    """The mean over the classes (classes,) that occur, and how many these are."""
    return {"map": float(np.nanmean(precisions)), "classes": float(np.isfinite(precisions).sum())}


def precisions_of(clips: WeakSet, logits: Any) -> Callable[[np.ndarray], np.ndarray]:
    """`average_precisions` of logits (clips, 1, classes)."""
    return average_precisions(logits[0 : len(clips)][:, 0], clips.labels(np.arange(len(clips))))


class TaggingSystem(FramewiseSystem):
    """`FramewiseSystem` on clip labels: one "frame" a clip."""

    head = "attention"

    def mel(self, waveform: Tensor) -> Tensor:
        """Log-mel of waveforms that were moved and made louder or softer."""
        config, clips = self.config.augment, len(waveform)
        if config.roll_samples:
            waveform = roll(waveform, draw_roll(clips, config.roll_samples, waveform.device))
        if config.gain_db:
            waveform = gain(waveform, draw_gain(clips, config.gain_db, waveform.device))
        return super().mel(waveform)

    def answers(self, mel: Tensor) -> Tensor:
        """Log-mel -> clip logits (batch, 1, classes)."""
        logits = self.network(mel).logits
        assert isinstance(logits, torch.Tensor)
        return logits[:, None]
