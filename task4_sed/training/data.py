"""The data of a training, as Lightning asks for it."""

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from common.audio.coverage import packs_of, root_of
from common.audio.loading import share_of, training_loader, turn_of
from common.run.errors import UserError
from task4_sed.config import Config
from task4_sed.data.batches import Batch, BlockSampler, ClipDataset, WavMix, eval_loader
from task4_sed.data.embeddings import store
from task4_sed.data.pseudo import StoredLogits
from task4_sed.data.sets import classes_of, load_set
from task4_sed.model.embedder import Embedder


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
