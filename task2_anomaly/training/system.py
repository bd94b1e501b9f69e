"""The LightningModule of one machine: outlier-exposed classification, or reconstruction; no file access."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from common.losses import neyman_pearson, outlier_auc, outlier_bce
from task2_anomaly.config import Config
from task2_anomaly.data.batches import Batch
from task2_anomaly.model.autoencoder import Autoencoder

LOSSES = {"bce": outlier_bce, "auc": outlier_auc, "neyman_pearson": neyman_pearson}
BLUR_REACH = 4.0  # standard deviations that the Gaussian kernel is cut off at


def blur(observation: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of spectrograms (batch, mel, frames) along both axes, edges repeated."""
    reach = max(1, round(BLUR_REACH * sigma))
    offsets = torch.arange(-reach, reach + 1, device=observation.device, dtype=observation.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = F.pad(observation[:, None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(x, kernel[None, None, None]), kernel[None, None, :, None])[:, 0]


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
        proxy = blur(batch.proxy, sigma) if sigma else batch.proxy
        logits = self.network(torch.cat((batch.normal, proxy))[:, None])[:, 0]
        count = len(batch.normal)
        return LOSSES[self.config.loss.name](logits[:count], logits[count:])

    def configure_optimizers(self) -> Any:
        """Adam; the rate falls by a factor after each epoch."""
        of = self.config.optimizer
        optimizer = torch.optim.Adam(self.network.parameters(), lr=of.lr, betas=(0.9, of.beta2))
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, of.epoch_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}
