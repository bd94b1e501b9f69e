"""Fine-tuning of an encoder: machines, sections and attributes of normal training clips told apart.

An auxiliary classification, as in the strongest systems of DCASE 2021 to 2025; its embeddings are what counts.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from common.audio.packs import open_pack
from common.encoders import Encoder
from common.run.callbacks import mix_seed
from common.run.training import claim, finished, fit
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.layout import TRAIN_PARTS, pack_of, packed, parse_clip
from task2_anomaly.data.split import training_rows
from task2_anomaly.inference.embedding import new_encoder, pooled

Indices = npt.NDArray[np.int64]


class SubclusterHead(nn.Module):
    """Cosines to several trainable centres per class, joined by log-sum-exp: sub-cluster AdaCos with a fixed scale.

    Wilkinghoff 2021. Vectors (batch, dim) -> logits (batch, classes).
    """

    def __init__(self, dim: int, classes: int, centres: int = 16) -> None:
        super().__init__()
        self.centres = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, centres, dim)))
        self.scale = math.sqrt(2) * math.log(max(2, classes * centres - 1))

    def forward(self, x: Tensor) -> Tensor:
        cosines = torch.einsum("bd,ckd->bck", F.normalize(x, dim=-1), F.normalize(self.centres, dim=-1))
        return torch.logsumexp(self.scale * cosines, dim=-1)


class Finetuning(LightningModule):
    """Encoder and head on whole clips; a share of the batches is mixed."""

    def __init__(self, config: Config, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder
        vectors = 2 if config.embedding.pooling == "mean_std" else 1
        self.head = SubclusterHead(encoder.embedding_dim * vectors, classes)

    def networks(self) -> list[nn.Module]:
        """The networks that torch.compile may compile."""
        return [self.encoder]

    def on_train_start(self) -> None:
        """The encoder comes in evaluation mode, where Lightning would leave it."""
        self.encoder.train()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross entropy of the auxiliary classes; of mixed waveforms, of both in their shares."""
        waveform, label = batch
        mixed = torch.rand(()) < self.config.embedding.mixup_probability
        share = torch.rand(len(waveform), device=waveform.device) if mixed else torch.ones_like(waveform[:, 0])
        other = torch.randperm(len(waveform), device=waveform.device)
        waveform = share[:, None] * waveform + (1 - share[:, None]) * waveform[other]
        logits = self.head(pooled(self.encoder, waveform, self.config.embedding.pooling))
        own, others = (F.cross_entropy(logits, of, reduction="none") for of in (label, label[other]))
        loss = (share * own + (1 - share) * others).mean()
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(waveform))
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW; the head, which begins anew, learns ten times faster."""
        of = self.config.optimizer
        groups = self.encoder.parameter_groups(of.lr, weight_decay=1e-2)
        head = {"params": list(self.head.parameters()), "lr": 10 * of.lr, "weight_decay": 0.0}
        return torch.optim.AdamW([*groups, head], betas=(0.9, of.beta2))


class ClipData(LightningDataModule):
    """Normal training clips of all machines, but for those held out, and their classes: machine and attributes."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        sources = [
            (machine, open_pack(pack_of(config.data, part, machine)))
            for part, machine in packed(config.data, TRAIN_PARTS)
        ]
        self.packs = [pack for _, pack in sources]
        rows = [training_rows(len(pack), config.scoring.held_out) for pack in self.packs]
        keys = [
            (str(machine), parse_clip(pack.names[i]).attributes)
            for (machine, pack), of in zip(sources, rows, strict=True)
            for i in of
        ]
        self.classes = sorted(set(keys))
        self.labels = np.array([self.classes.index(key) for key in keys])
        self.pack = np.repeat(np.arange(len(rows)), [len(of) for of in rows])
        self.row = np.concatenate(rows)
        self.samples = min(int(np.asarray(pack.lengths).min()) for pack in self.packs)

    def train_dataloader(self) -> DataLoader[Any]:
        """Every clip once an epoch, a random piece of the shortest clip's length."""
        return DataLoader(_Clips(self), batch_size=None, sampler=_Order(self))


class _Clips(Dataset[tuple[Tensor, Tensor]]):
    """Batches: an item is (clips, seeds of their first samples)."""

    def __init__(self, data: ClipData) -> None:
        self.data = data

    def __getitem__(self, drawn: tuple[Indices, Indices]) -> tuple[Tensor, Tensor]:
        data, (chosen, seeds) = self.data, drawn
        waveform = np.empty((len(chosen), data.samples), np.float32)
        for number in np.unique(data.pack[chosen]):
            here = np.flatnonzero(data.pack[chosen] == number)
            pack, rows = data.packs[number], data.row[chosen[here]]
            starts = seeds[here] % (np.asarray(pack.lengths)[rows] - data.samples + 1)
            waveform[here] = pack.read_many(rows, starts, data.samples)
        return torch.from_numpy(waveform), torch.from_numpy(data.labels[chosen])


class _Order(Sampler[tuple[Indices, Indices]]):
    """Batches of an epoch; they depend on seed and epoch alone."""

    def __init__(self, data: ClipData) -> None:
        self.data, self.batch = data, data.config.data.batch

    def __len__(self) -> int:
        return -(-len(self.data.labels) // self.batch)

    def __iter__(self) -> Iterator[tuple[Indices, Indices]]:
        epoch = self.data.trainer.current_epoch if self.data.trainer else 0
        random = np.random.default_rng(mix_seed(self.data.seed, epoch))
        order = random.permutation(len(self.data.labels))
        for chosen in np.split(order, range(self.batch, len(order), self.batch)):
            yield chosen, random.integers(0, 2**31, len(chosen))


def train(run: Run, restart: bool = False) -> None:
    """Fine-tune the encoder where the recipe says so; a frozen one needs no training, only a folder of its own."""
    if not run.config.embedding.finetune or (finished(run) and not restart):
        claim(run, restart)
        return
    data = ClipData(run.config, run.seed)
    system = Finetuning(run.config, new_encoder(run.config, run.seed), len(data.classes))
    batch = run.config.data.batch
    fit(run, system, data, monitor="train/loss", mode="min", batch_size=batch, restart=restart, model="last")
