"""The training of a dual encoder, stage 1 and 2: passes, losses, augmentation of audio, optimiser; no file access."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from common.augment import draw_spec_mask, draw_stripes, spec_mask, stripe_mask
from common.encoders.base import Encoder
from common.losses import gathered
from common.run.training import gather_in_order
from common.schedules import half_cosine
from task6_retrieval.config import SAMPLE_RATE, AugmentConfig, Config, OptimizerConfig
from task6_retrieval.data.batches import Batch
from task6_retrieval.model.networks import DualEncoder
from task6_retrieval.training.losses import Pairs, Teachers, retrieval_loss

CaptionChange = Callable[[Sequence[str]], list[str]]
# Unit vectors of captions (captions, dim) and clips (clips, dim) -> named figures.
Validate = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]


class Bank(NamedTuple):
    """What teachers say of the training data: clips by number (clips, teachers, dim), captions (texts, teachers, dim)
    and the row of each text.
    """

    audio: Tensor
    sentence: Tensor
    rows: Mapping[str, int]


class RetrievalSystem(LightningModule):
    """A dual encoder on batches of clips with one caption each.

    captions: all of the validation set; validate: gets their vectors and those of its clips. texts: captions of the
    training. change: augmentation of a batch's captions.
    """

    teacher_audio: Tensor | None
    teacher_sentence: Tensor | None
    strict_loading = False  # frozen encoders are not in checkpoints

    def __init__(
        self,
        config: Config,
        network: DualEncoder,
        steps_per_epoch: int,
        captions: Sequence[str] = (),
        validate: Validate | None = None,
        bank: Bank | None = None,
        change: CaptionChange | None = None,
        texts: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.config, self.steps_per_epoch = config, steps_per_epoch
        self.network = network.train()  # what is frozen stays in evaluation mode
        self.captions, self.validate, self.change = list(captions), validate, change
        self.texts = list(texts)
        self.rows: Mapping[str, int] = bank.rows if bank else {}
        self.register_buffer("teacher_audio", bank.audio if bank else None, persistent=False)
        self.register_buffer("teacher_sentence", bank.sentence if bank else None, persistent=False)
        self.embedded: list[tuple[Tensor, Tensor]] = []
        self.of_steps: list[Mapping[str, Tensor]] = []

    def networks(self) -> list[nn.Module]:
        """The networks that torch.compile may compile."""
        encoder, text = self.network.audio_encoder.encoder, self.network.sentence_encoder.encoder
        layers = [*getattr(encoder, "blocks", ()), *getattr(encoder, "features", ())]  # what from_mel calls
        return [*layers, *(module for name, module in text.named_children() if name in ("model", "blocks"))]

    def on_fit_start(self) -> None:
        """What a frozen encoder says of the captions is known before the first step."""
        if self.config.model.text.frozen and self.change is None:
            self.network.sentence_encoder.remember([*self.texts, *self.captions], "captions")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, that of all processes together."""
        pairs = Pairs(*(gathered(of) for of in (*self.vectors(batch), batch.clip)))
        loss, terms = retrieval_loss(pairs, self.network.tau, self.config.distill, self.teachers(batch, pairs.clip))
        logged = {"train/loss": loss.detach()}
        if len(terms) > 1:
            logged |= {f"train/{name}": value for name, value in terms.items()}
        if self.config.model.tau_trained:
            logged["train/tau"] = self.network.tau.detach().abs().squeeze()
        self._log(logged)
        return loss

    def _log(self, values: Mapping[str, Tensor]) -> None:
        """The means of an epoch, in its last step: Lightning's own, in every step, cost a small network a tenth."""
        self.of_steps.append(values)
        if self._trainer is not None and self.trainer.is_last_batch:
            means = {name: torch.stack([of[name].float() for of in self.of_steps]).mean() for name in values}
            self.log_dict(means, on_step=False, on_epoch=True, batch_size=1)
            self.of_steps.clear()

    def vectors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Projections of the batch's clips and of its captions (batch, dim).

        With `optimizer.cached` in passes of so many clips that keep no activations: each pass is done again, with the
        same random draws, when the gradients of its vectors are there (Gao et al. 2021, gradient caching). Batch norms
        see the clips of one pass, twice.
        """
        size = len(batch.clip)
        captions = self.change(batch.captions) if self.change else list(batch.captions)
        step = self.config.optimizer.cached or size
        parts = [self._pass(batch, captions, slice(first, first + step)) for first in range(0, size, step)]
        audio, sentence = (torch.cat(of) for of in zip(*parts, strict=True))
        return audio, sentence

    def _pass(self, batch: Batch, captions: Sequence[str], part: slice) -> tuple[Tensor, Tensor]:
        def embed(audio: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor]:
            features = self.features if audio.dim() == 2 else None
            if self.config.augment.roll and audio.dim() == 2:
                audio = rolled(audio, seconds)
            clips = self.network.clips(audio, seconds, batch.keywords[part], features)
            return clips, self.network.sentences(captions[part])

        given = batch.audio[part], batch.seconds[part]
        if not self.config.optimizer.cached:
            return embed(*given)
        return recomputed(embed, *given, use_reentrant=False)

    def features(self, encoder: Encoder, waveform: Tensor) -> Tensor:
        """Mel of segments (segments, samples), changed at random as the recipe says."""
        config = self.config.augment
        if config.mel_jitter and encoder.front_end.setting.fmax_range:
            mel = encoder.front_end(waveform, encoder.front_end.draw_jitter())
        else:
            mel = encoder.mel(waveform)
        setting = encoder.front_end.setting
        silent = -setting.mean / setting.scale  # 0 of the logarithm, as published
        for axis, widest in ((-2, config.frequency_mask), (-1, config.time_mask)):
            if widest:
                mel = spec_mask(mel, draw_spec_mask((len(mel),), mel.device), widest, axis, value=silent)
        return striped(mel, config)

    def teachers(self, batch: Batch, clip: Tensor) -> Teachers | None:
        """What the teachers say of the clips and captions of all processes."""
        if self.teacher_audio is None or self.teacher_sentence is None:
            return None
        rows = gathered(torch.tensor([self.rows[text] for text in batch.captions], device=clip.device))
        return Teachers(self.teacher_audio[clip], self.teacher_sentence[rows])

    def configure_optimizers(self) -> Any:
        """AdamW over the published groups, with the rate of every step."""
        if self._trainer is not None:
            self.steps_per_epoch = int(self.trainer.estimated_stepping_batches) // self.config.trainer.max_epochs
        config, steps = self.config.optimizer, self.steps_per_epoch
        parts = {n: [p for _, p in named if p.requires_grad] for n, named in self.network.groups().items()}
        groups = [{"params": trained, "name": part} for part, trained in parts.items() if trained]
        optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)

        def factor(step: int) -> float:
            return learning_rate(config, step / steps) / config.lr if config.lr else 0.0

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Each clip is embedded once; its vectors leave the device at the end."""
        vectors = self.network.clips(batch.audio, batch.seconds, batch.keywords)
        self.embedded.append((batch.clip, F.normalize(vectors.float(), dim=-1)))

    def on_validation_epoch_end(self) -> None:
        """Figures of the validation set; val/map@10 selects the checkpoint."""
        if self.validate is None:
            return
        (_, clips), size = gather_in_order(self.embedded, self.trainer.world_size), 4 * self.config.data.eval_batch
        self.embedded.clear()
        parts = [self.captions[first : first + size] for first in range(0, len(self.captions), size)]
        sentences = torch.cat([F.normalize(self.network.sentences(part).float(), dim=-1) for part in parts])
        found = self.validate(sentences.cpu().numpy(), clips)
        self.log_dict({f"val/{name}": value for name, value in found.items()}, sync_dist=False)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take what the steps of an interrupted epoch had logged."""
        self.of_steps = list(checkpoint.get("of_steps", []))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What is needed to rebuild the network without the recipe; without weights that lie elsewhere."""
        data = {"window_seconds": self.config.data.window_seconds, "segment_seconds": self.config.data.segment_seconds}
        checkpoint["retrieval"] = {"model": asdict(self.config.model), "data": data}
        if self.of_steps:  # within an epoch
            checkpoint["of_steps"] = [dict(of) for of in self.of_steps]
        borrowed = tuple(f"network.{name}" for name in self.network.borrowed())
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: v for n, v in state.items() if not (borrowed and n.startswith(borrowed))}


def learning_rate(config: OptimizerConfig, epoch: float) -> float:
    """The rate at a fractional epoch."""
    low, warmup = config.min_lr, config.warmup_epochs
    if epoch < warmup and config.warmup_from == "zero":
        low = 0.0
    return low + (config.lr - low) * half_cosine(epoch, warmup, config.cosine_until_epoch)


def striped(mel: Tensor, config: AugmentConfig) -> Tensor:
    """SpecAugment of PANNs: stripes (batch, mel, frames) that hold the batch's mean of their band."""
    mean = mel.mean(dim=(0, 2), keepdim=True)
    for axis, count, width in (
        (-1, config.time_stripes, config.time_stripe_width),
        (-2, config.frequency_stripes, config.frequency_stripe_width),
    ):
        if count:
            drawn = draw_stripes(len(mel), mel.shape[axis], width, count, mel.device)
            mel = stripe_mask(mel - mean, drawn, axis) + mean
    return mel


def rolled(audio: Tensor, seconds: Tensor) -> Tensor:
    """Waveforms (batch, samples), each moved in a circle by any offset within its own length."""
    length = (seconds * SAMPLE_RATE).round().long().clamp(1, audio.shape[1])[:, None]
    shift = (torch.rand(len(audio), 1, device=audio.device) * length).long()
    position = torch.arange(audio.shape[1], device=audio.device)
    return audio.gather(1, torch.where(position < length, (position + shift) % length, position))
