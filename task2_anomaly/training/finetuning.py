"""Fine-tuning of an encoder: machines, sections and attributes of normal training clips told apart.

An auxiliary classification, as in the strongest systems of DCASE 2021 to 2025; its embeddings are what counts.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.audio.loading import ShuffledSampler, training_loader, turn_of
from common.audio.packs import open_pack
from common.encoders import Encoder
from common.run.training import claim, finished, fit
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.batches import PieceDataset
from task2_anomaly.data.layout import TRAIN_PARTS, parse_clip
from task2_anomaly.data.sets import pack_of, packed, training_rows
from task2_anomaly.inference.embedding import new_encoder, pooled


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
        packs = [pack for _, pack in sources]
        rows = [training_rows(len(pack), config.scoring.held_out) for pack in packs]
        keys = [
            (str(machine), parse_clip(pack.names[i]).attributes)
            for (machine, pack), of in zip(sources, rows, strict=True)
            for i in of
        ]
        self.classes = sorted(set(keys))
        self.pieces = PieceDataset(packs, rows, np.array([self.classes.index(key) for key in keys]))

    def train_dataloader(self) -> DataLoader[Any]:
        """Every clip once an epoch, a random piece of the shortest clip's length."""
        sampler = ShuffledSampler(len(self.pieces), self.config.data.batch, self.seed, *turn_of(self.trainer))
        return training_loader(self.pieces, sampler, workers=0)


def train(run: Run, restart: bool = False) -> None:
    """Fine-tune the encoder where the recipe says so; a frozen one needs no training, only a folder of its own."""
    if not run.config.embedding.finetune or (finished(run) and not restart):
        claim(run, restart)
        return
    data = ClipData(run.config, run.seed)
    system = Finetuning(run.config, new_encoder(run.config, run.seed), len(data.classes))
    batch = run.config.data.batch
    fit(run, system, data, monitor="train/loss", mode="min", batch_size=batch, restart=restart, model="last")
