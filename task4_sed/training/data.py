"""The data of a training, as Lightning asks for it."""

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from common.audio.coverage import packs_of, root_of
from common.audio.loading import share_of, training_loader, turn_of
from common.run.errors import UserError
from common.run.seeds import mix_seed
from task4_sed.config import Config
from task4_sed.data.audioset import output_classes
from task4_sed.data.batches import Batch, BlockSampler, ClipDataset, WavMix, eval_loader
from task4_sed.data.embeddings import store
from task4_sed.data.framewise import DrawSampler, StrongClips, drawn, in_order
from task4_sed.data.own import framewise_set, own_weights
from task4_sed.data.pseudo import StoredLogits
from task4_sed.data.sets import classes_of, load_set
from task4_sed.data.weak import BesideSampler, BesideWeak, load_weak
from task4_sed.model.embedder import Embedder
from task4_sed.training.framewise import Validate, validator


class SedData(LightningDataModule):
    """Training and validation batches of a recipe; with embeddings where `embedder` is given."""

    def __init__(self, config: Config, seed: int, embedder: Embedder | None = None) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        blocks = config.data.blocks.named()
        self.batch = [block.batch for block in blocks.values()]
        if not any(self.batch):
            raise UserError("data.blocks: every block has batch 0; nothing to train on")
        self.training = [
            [load_set(config.data, name, "train") for name in block.sets] if block.batch else []
            for block in blocks.values()
        ]
        self.validation = [load_set(config.data, name, "validation") for name in config.validation.sets]
        self._check_sizes()
        sets = [of for block in (*self.training, self.validation) for of in block] if embedder else []
        folder = packs_of(config.data) / "embeddings"
        path = config.data.pseudo_labels
        self.pseudo = None if path is None else StoredLogits.open(path, classes_of(root_of(config.data)))
        self.stored = {of.name: store(of, folder, embedder, config.data.eval_batch) for of in sets if embedder}

    def _check_sizes(self, ranks: int = 1) -> None:
        for name, sets, size in zip(self.config.data.blocks.named(), self.training, self.batch, strict=True):
            clips = sum(len(of.clips) for of in sets)
            if clips < size:
                raise UserError(f"data.blocks.{name}: batch is {size}, but its sets have only {clips} clips")
            if clips < size * ranks:
                raise UserError(
                    f"data.blocks.{name}: {ranks} processes with a batch of {size} need {size * ranks} clips, "
                    f"but its sets have only {clips}"
                )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of five blocks."""
        turn = turn_of(self.trainer)
        divided = self.config.trainer.divide_batch
        self._check_sizes(1 if divided else turn.ranks)
        batch = [share_of(size, turn.ranks, divided) for size in self.batch]
        sizes = [sum(len(of.clips) for of in sets) for sets in self.training]
        clips = [of for sets in self.training for of in sets]
        data = ClipDataset(clips, random_crop=True, stored=self.stored, pseudo=self.pseudo, mixing=self._mixing())
        return training_loader(data, BlockSampler(sizes, batch, self.seed, *turn), self.config.data.workers)

    def _mixing(self) -> WavMix | None:
        """Of clips with frame labels."""
        config, blocks = self.config.augment, self.config.data.blocks.named()
        if not config.wavmix_probability:
            return None
        mixed = [
            name in ("maestro", "strong", "synth") for name, of in zip(blocks, self.training, strict=True) for _ in of
        ]
        return WavMix(config.wavmix_probability, config.wavmix_beta, mixed)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """One loader per validation set."""
        _, rank, ranks = turn_of(self.trainer)
        return [eval_loader(of, self.config, rank, ranks, self.stored) for of in self.validation]


class FramewiseData(LightningDataModule):
    """Training and validation batches of AudioSet-strong."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.training, self.validation = framewise_set(config, "train"), framewise_set(config, "eval")
        beside = config.teacher is not None and config.teacher.weak_batch
        self.weak = load_weak(config.data, "train") if beside else None
        path, augment = config.data.pseudo_labels, config.augment
        self.pseudo = None if path is None else StoredLogits.open(path, output_classes())
        probability = augment.wavmix_probability
        self.mixing = WavMix(probability, augment.wavmix_beta, [True]) if probability else None
        self.counts = {"train": len(self.training.labels.clips), "eval": len(self.validation.labels.clips)}

    def log_odds(self) -> np.ndarray:
        """Of the classes (classes,) in the frames of the training clips."""
        return self.training.labels.log_odds()

    def validator(self) -> Validate:
        """Figures of the evaluation clips."""
        return validator(self.validation, self.config.validation.median_frames)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of `data.draws` clips an epoch, with others of AudioSet where the recipe's teacher has them."""
        config, turn = self.config.data, turn_of(self.trainer)
        weights = None if config.sampler == "uniform" else self.training.labels.balanced_weights()
        if config.own is not None:
            weights = own_weights(weights, self.training, config.own.share)
        data = StrongClips(self.training, self.pseudo, self.mixing)
        sampler = drawn(data, self.config, self.seed, self.trainer, weights)
        if self.weak is None or self.config.teacher is None:
            return training_loader(data, sampler, config.workers)
        size = share_of(self.config.teacher.weak_batch, turn.ranks, self.config.trainer.divide_batch)
        draws, seed, rare = len(sampler) * size * turn.ranks, mix_seed(self.seed, 1), self.weak.weights()
        beside = DrawSampler(len(self.weak), draws, size, seed, *turn, weights=rare)
        both = BesideSampler(sampler, beside, len(data))
        return training_loader(BesideWeak(data, self.weak), both, config.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The evaluation clips in order."""
        return in_order(StrongClips(self.validation), self.config, self.trainer)
