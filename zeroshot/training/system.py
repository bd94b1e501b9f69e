"""Training of a zero-shot network: augmentation, loss over the training classes, selection on validation classes."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from common.augment import (
    Mix,
    coin,
    draw_gain,
    draw_mix,
    draw_roll,
    draw_spec_mask,
    gain,
    mixup,
    mixup_soft_labels,
    roll,
    spec_mask,
)
from common.run.training import gather_in_order
from common.schedules import ramp_up_down
from zeroshot.config import Config
from zeroshot.data.batches import Batch
from zeroshot.metrics import classification, tagging
from zeroshot.model.networks import ZeroShotNetwork
from zeroshot.training.losses import class_loss, tagging_loss, warp_loss

UNSEEN = "val/unseen"  # mAP or class-balanced accuracy over the validation classes
TRAIN_LOSS = "train/loss"


class ZeroShotSystem(LightningModule):
    """A network and the vectors of training and validation classes, (classes, d_t); no file access.

    single: clips have one label each.
    """

    train_classes: Tensor
    val_classes: Tensor

    def __init__(
        self, config: Config, network: ZeroShotNetwork, train: Tensor, validation: Tensor | None, single: bool
    ) -> None:
        super().__init__()
        self.config, self.network, self.single = config, network, single
        self.register_buffer("train_classes", train, persistent=False)
        self.register_buffer("val_classes", train[:0] if validation is None else validation, persistent=False)
        self.predicted: list[tuple[Tensor, ...]] = []

    def networks(self) -> list[nn.Module]:
        """The networks that torch.compile may compile."""
        return [self.network]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        embeddings, mix = self._embeddings(batch.audio)
        scores = self.network.compatibility(self.network.standardised(embeddings), self.train_classes)
        loss = self._loss(scores, batch, mix)
        self.log(TRAIN_LOSS, loss.detach(), on_step=False, on_epoch=True, batch_size=len(scores), sync_dist=True)
        return loss

    def _embeddings(self, audio: Tensor) -> tuple[Tensor, Mix | None]:
        """Of a training batch, mixed where the recipe asks for it; mixup is of spectrograms where there are such."""
        config, encoder = self.config.augment, self.network.encoder
        if encoder is not None:
            audio = self._spectrogram(encoder, audio)
        mix = None
        if config.mixup_alpha and coin(config.mixup_probability):
            mix = draw_mix([len(audio)], config.mixup_alpha, audio.device)
            audio = mixup(audio, mix)
        return audio if encoder is None else encoder.from_mel(audio).clip, mix

    def _spectrogram(self, encoder: Any, waveform: Tensor) -> Tensor:
        """Log-mel (batch, mel, frames) of waveforms (batch, samples): roll, gain, moved mel range, masks."""
        config, setting = self.config.augment, encoder.front_end.setting
        if config.roll_samples:
            waveform = roll(waveform, draw_roll(len(waveform), config.roll_samples, waveform.device))
        if config.gain_db:
            waveform = gain(waveform, draw_gain(len(waveform), round(config.gain_db), waveform.device, both_ends=True))
        if setting.filterbank == "kaldi":
            mel = encoder.front_end.compress(encoder.front_end.mel(waveform, encoder.front_end.draw_jitter()))
        else:
            mel = encoder.mel(waveform)
        value = -setting.mean / setting.scale  # 0 before the normalisation, as published
        for axis, widest in ((-2, config.frequency_mask), (-1, config.time_mask)):
            for _ in range(config.masks if widest else 0):
                mel = spec_mask(mel, draw_spec_mask((len(mel),), mel.device), widest, axis, value=value)
        return mel

    def _loss(self, scores: Tensor, batch: Batch, mix: Mix | None) -> Tensor:
        if self.config.loss == "softmax":
            return class_loss(scores, batch.labels.argmax(dim=1), mix)
        labels, judged = batch.labels, batch.judged
        if mix is not None:
            # A pair of a mix counts where it was judged in both clips.
            labels, judged = mixup_soft_labels(labels, mix), judged * judged[mix.perm]
        return warp_loss(scores, labels) if self.config.loss == "warp" else tagging_loss(scores, labels, judged)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect scores of the validation classes; they leave the device once, at the end."""
        self.predicted.append((batch.row, self.network(batch.audio, self.val_classes), batch.labels, batch.judged))

    def on_validation_epoch_end(self) -> None:
        """Class-balanced accuracy or mAP over the validation classes, of which none trains."""
        _, scores, labels, judged = gather_in_order(self.predicted, self.trainer.world_size)
        self.predicted.clear()
        names = [str(index) for index in range(scores.shape[1])]
        if self.single:
            value = classification(names, scores, labels.argmax(axis=1))["accuracy"]
        else:
            value = tagging(names, scores, labels, judged)["mAP"]
        self.log(UNSEEN, float("nan") if value is None else value, sync_dist=False)

    def configure_optimizers(self) -> Any:
        """AdamW or Adam, with a rate of its own for the encoder."""
        config = self.config.optimizer
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        groups: list[dict[str, Any]] = [{"params": list(self.network.compatibility.parameters()), "lr": config.lr}]
        if self.network.encoder is not None:
            of_encoder = [p for p in self.network.encoder.parameters() if p.requires_grad]
            groups.append({"params": of_encoder, "lr": config.encoder_lr})
        optimizer = kind(groups, weight_decay=config.weight_decay)
        if config.schedule == "constant":
            return {"optimizer": optimizer}
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _factor(self, epoch: int) -> float:
        config = self.config.optimizer
        return ramp_up_down(
            epoch, config.warmup_epochs, config.hold_until_epoch, config.ramp_epochs, config.last_factor
        )
