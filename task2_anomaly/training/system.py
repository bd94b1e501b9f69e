"""The LightningModules: one machine's network (classifier or autoencoder), and the encoder's fine-tuning; no files."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from common.augment import gaussian_blur
from common.encoders import Encoder
from task2_anomaly.config import Config
from task2_anomaly.data.batches import Batch
from task2_anomaly.model.autoencoder import Autoencoder
from task2_anomaly.model.embedder import pooled
from task2_anomaly.training.losses import LOSSES, SubclusterHead, mixed_cross_entropy


class AnomalySystem(LightningModule):
    """One machine's network on batches of normals and proxies (classifier), or of normals (autoencoder)."""

    def __init__(self, config: Config, network: nn.Module) -> None:
        super().__init__()
        self.config, self.network = config, network

    def networks(self) -> list[nn.Module]:
        """The networks that torch.compile may compile."""
        return [self.network]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        if isinstance(self.network, Autoencoder):
            loss = self.network.residual(batch.normal).square().mean()
        else:
            loss = self._classify(batch)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch.normal))
        return loss

    def _classify(self, batch: Batch) -> Tensor:
        """Normals and proxies go through the network together: batch norm sees both."""
        sigma = self.config.data.proxy_blur
        proxy = gaussian_blur(batch.proxy, sigma) if sigma else batch.proxy
        logits = self.network(torch.cat((batch.normal, proxy))[:, None])[:, 0]
        count = len(batch.normal)
        return LOSSES[self.config.loss.name](logits[:count], logits[count:])

    def configure_optimizers(self) -> Any:
        """Adam; the rate falls by a factor after each epoch."""
        of = self.config.optimizer
        optimizer = torch.optim.Adam(self.network.parameters(), lr=of.lr, betas=(0.9, of.beta2))
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, of.epoch_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


class Finetuning(LightningModule):
    """An encoder on whole clips, told to tell their classes apart; a share of the batches is mixed."""

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
        loss = mixed_cross_entropy(logits, label, label[other], share)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(waveform))
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW; the head, which begins anew, learns ten times faster."""
        of = self.config.optimizer
        groups = self.encoder.parameter_groups(of.lr, weight_decay=1e-2)
        head = {"params": list(self.head.parameters()), "lr": 10 * of.lr, "weight_decay": 0.0}
        return torch.optim.AdamW([*groups, head], betas=(0.9, of.beta2))
