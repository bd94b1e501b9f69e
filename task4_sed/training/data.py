"""The data of a training, as Lightning asks for it."""

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from common.run.errors import UserError
from task4_sed.config import Config
from task4_sed.data.batches import Batch, BlockSampler, ClipDataset, as_it_is, sequential_loader
from task4_sed.data.embeddings import store
from task4_sed.data.sets import load_set, packs_of
from task4_sed.model.encoder import Embedder


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
        trainer = self.trainer
        self._check_sizes(trainer.world_size if trainer else 1)
        sampler = BlockSampler(
            [[len(of.clips) for of in sets] for sets in self.training],
            self.batch,
            self.seed,
            (lambda: trainer.current_epoch) if trainer else (lambda: 0),
            trainer.global_rank if trainer else 0,
            trainer.world_size if trainer else 1,
        )
        workers = self.config.data.workers
        return DataLoader(
            ClipDataset([of for sets in self.training for of in sets], random_crop=True, stored=self.stored),
            batch_sampler=sampler,
            collate_fn=as_it_is,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
        )

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """One loader per validation set."""
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return [sequential_loader(of, self.config, rank, ranks, self.stored) for of in self.validation]
