"""What a pre-trained encoder learns next: events of HEAR's data sets, and DESED (Schmid et al. 2025, section 4.3)."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import LightningDataModule
from scipy.special import logit
from torch import Tensor
from torch.utils.data import DataLoader

from common.audio.loading import share_of, training_loader, turn_of
from common.run.errors import UserError
from task4_sed.config import Config, EventsConfig
from task4_sed.data.batches import Batch, BlockSampler, WavMix
from task4_sed.data.desed import load_desed
from task4_sed.data.framewise import StrongClips, drawn, in_order
from task4_sed.data.hear import FRAME_MS, HearClips, HearSet, fold_of, joined, load_hear, pieces_of
from task4_sed.metrics.hear import Events, hear_events, hear_figures
from task4_sed.training.framewise import Frames, FramewiseSystem, Validate, cross_entropy, validator


class HearData(LightningDataModule):
    """Random pieces of the training files, all pieces of the validation files."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__()
        self.config, self.seed, fold = config, seed, fold_of(config, seed)
        self.training, self.validation = (load_hear(config.data, part, fold) for part in ("train", "valid"))
        probability, beta = config.augment.wavmix_probability, config.augment.wavmix_beta
        self.clips = HearClips(self.training, True, WavMix(probability, beta, [True]) if probability else None)
        self.counts = {"train": len(self.training.files), "valid": len(self.validation.files)}

    def log_odds(self) -> np.ndarray:
        """Of the classes (classes,) in the frames of the training files."""
        active, total = sum(of.sum(axis=1) for of in self.training.targets), self.training.frames.sum()
        return np.log((active + 1) / (total - active + 1))

    def validator(self) -> Validate:
        """Figures of the validation files."""
        of, events = self.validation, self.config.events
        return lambda logits: best_of(of, joined(logits[0 : int(pieces_of(of.frames).sum())], of.frames), events)[1]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of `data.draws` pieces an epoch."""
        sampler = drawn(self.clips, self.config, self.seed, self.trainer)
        return training_loader(self.clips, sampler, self.config.data.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The pieces in order."""
        return in_order(HearClips(self.validation, False), self.config, self.trainer)


def events_of(of: HearSet, logits: Sequence[np.ndarray], config: EventsConfig, min_ms: float) -> Events:
    """Events of each file from its logits (frames, classes)."""
    threshold = config.threshold if config.of_logits else float(logit(config.threshold))
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for file, of_file in zip(of.files, logits, strict=True):
        times = (np.arange(len(of_file)) + 0.5) * FRAME_MS
        listed = hear_events(of_file.T.astype(np.float64), times, config.median_ms, min_ms, threshold)
        found[file] = {name: of_class for name, of_class in zip(of.classes, listed, strict=True) if of_class}
    return found


def best_of(of: HearSet, logits: Sequence[np.ndarray], config: EventsConfig) -> tuple[float, dict[str, float]]:
    """Of the shortest durations that are tried the one with the best main figure, and its figures, that one first."""
    tried = {}
    for min_ms in config.min_ms:
        figures = hear_figures(events_of(of, logits, config, min_ms), of.events)
        tried[min_ms] = {config.figure: figures[config.figure]} | figures
    best = max(tried, key=lambda min_ms: tried[min_ms][config.figure])
    return best, tried[best]


class DesedData(LightningDataModule):
    """Batches of the blocks strong, synth and weak; the clips of `validation.sets`."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__()
        self.config, self.seed, blocks = config, seed, config.data.blocks.named()
        for name in ("maestro", "unlabeled"):
            if blocks[name].batch:
                raise UserError(f"data.blocks.{name}: not learnt in data.format desed; set its batch to 0")
        if config.augment.wavmix_probability:
            raise UserError(
                "augment.wavmix_probability: not for data.format desed, where clips have labels of two kinds"
            )
        used = {name: block for name, block in blocks.items() if block.batch}
        self.training = load_desed(config.data, [name for block in used.values() for name in block.sets], "train")
        self.validation = load_desed(config.data, config.validation.sets, "validation")
        clips = np.split(np.bincount(self.training.where[:, 0]), np.cumsum([len(of.sets) for of in used.values()])[:-1])
        self.sizes, self.batch = [int(of.sum()) for of in clips], [block.batch for block in used.values()]
        for name, size, batch in zip(used, self.sizes, self.batch, strict=True):
            if size < batch:
                raise UserError(f"data.blocks.{name}: batch is {batch}, but its sets have only {size} clips")
        self.counts = dict(zip(used, self.sizes, strict=True)) | {"validation": len(self.validation.labels.clips)}

    def log_odds(self) -> np.ndarray:
        """Of the classes (classes,) in the frames of the clips with strong labels."""
        strong = sum(size for name, size in self.counts.items() if name in ("strong", "synth"))
        return self.training.labels.chosen(np.arange(strong)).log_odds()

    def validator(self) -> Validate:
        """Figures of the validation clips."""
        return validator(self.validation, self.config.validation.median_frames)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of all blocks; an epoch ends with the first block."""
        turn = turn_of(self.trainer)
        batch = [share_of(size, turn.ranks, self.config.trainer.divide_batch) for size in self.batch]
        sampler = BlockSampler(self.sizes, batch, self.seed, *turn)
        return training_loader(StrongClips(self.training), sampler, self.config.data.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation clips in order."""
        return in_order(StrongClips(self.validation), self.config, self.trainer)


class DesedSystem(FramewiseSystem):
    """Frames of clips with strong labels, and clips with weak ones by attention over their frames; no teacher."""

    head = "attention"

    def blocks(self, clips: int) -> list[int]:
        """Strong and weak clips of a batch, which stand in that order."""
        blocks = self.config.data.blocks
        weak = clips * blocks.weak.batch // sum(block.batch for block in blocks.named().values())
        return [clips - weak, weak]

    def losses(self, frames: Frames) -> dict[str, Tensor]:
        """The cross entropies of both, and their sum. Schmid et al. 2025, after Li et al. 2024."""
        out, (strong, _) = self.network(frames.mel), self.blocks(len(frames.mel))
        of_frames = cross_entropy(out.frame_logits[:strong].transpose(1, 2), frames.targets[:strong])
        of_clips = cross_entropy(out.logits[strong:], frames.targets[strong:].amax(dim=-1))
        return {"strong": of_frames, "weak": of_clips, "loss": of_frames + of_clips}
