"""The CRNN of DCASE 2024 Task 4: a CNN on log-mel, optionally fused with an encoder's frame embeddings, and a GRU.

Parameter names are those of the published checkpoints (organisers' baseline: Zenodo 11280943, winner: Schmid et al.
2024), which therefore load as they are; an encoder's own parameters (`as_model.*`) do not belong here.
"""

from collections import OrderedDict
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.augment import draw_spec_mask, spec_mask
from task4_sed.config import ModelConfig

BATCHNORM_EPSILON = 1e-3
ATTENTION_RANGE = (1e-7, 1.0)
ALIGNMENT_KERNEL = 95  # of `conv`: 250 embedding frames become the CNN's 156


class Prediction(NamedTuple):
    """Probabilities strong (batch, classes, frames) and weak (batch, classes), and what they were made from.

    `logits` of strong and `attention` logits: (batch, classes, frames), never masked.
    """

    strong: Tensor
    weak: Tensor
    logits: Tensor
    attention: Tensor

    def masked(self, class_mask: Tensor) -> "Prediction":
        """The same pass with the classes outside `class_mask` (batch, classes) left out of the attention, then 0."""
        return predict(self.logits, self.attention, class_mask)

    def unmasked(self) -> "Prediction":
        """The same pass over all classes."""
        return predict(self.logits, self.attention)


def predict(logits: Tensor, attention: Tensor, class_mask: Tensor | None = None) -> Prediction:
    """Probabilities from logits and attention (batch, classes, frames), class_mask (batch, classes) bool.

    The attention of a frame is shared out among the classes: pooling of the DCASE 2024 Task 4 baseline.
    """
    strong = logits.sigmoid()
    scores = attention if class_mask is None else attention.masked_fill(~class_mask[..., None], -1e30)
    weights = scores.softmax(dim=1).clamp(*ATTENTION_RANGE)
    # A weighted mean may pass 1 by rounding, which binary cross entropy refuses.
    weak = ((strong * weights).sum(dim=-1) / weights.sum(dim=-1)).clamp(max=1.0)
    if class_mask is not None:
        strong, weak = strong * class_mask[..., None], weak * class_mask
    return Prediction(strong, weak, logits, attention)


class Gate(nn.Module):
    """A linear map over channels as a gate on (batch, channels, time, frequency).

    "glu": (W x + b) sigmoid(x); "cg": x sigmoid(W x + b).
    """

    def __init__(self, channels: int, kind: Literal["glu", "cg"]) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        mapped = self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return mapped * x.sigmoid() if self.kind == "glu" else x * mapped.sigmoid()


class CNN(nn.Module):
    """Blocks of 3 x 3 convolution, batch norm, gate, dropout, average pooling."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = 1
        for index, (outputs, pooling) in enumerate(zip(config.channels, config.pooling, strict=True)):
            layers[f"conv{index}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
            layers[f"batchnorm{index}"] = nn.BatchNorm2d(outputs, BATCHNORM_EPSILON, config.batchnorm_momentum)
            layers[f"{config.activation}{index}"] = Gate(outputs, config.activation)
            layers[f"dropout{index}"] = nn.Dropout(config.dropout)
            layers[f"pooling{index}"] = nn.AvgPool2d(pooling)
            inputs = outputs
        self.cnn = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, time, frequency) -> (batch, channels, time', frequency')."""
        return self.cnn(x)


class RNN(nn.Module):
    """Bidirectional GRU (batch, frames, dim) -> (batch, frames, 2 hidden)."""

    def __init__(self, inputs: int, config: ModelConfig) -> None:
        super().__init__()
        self.rnn = nn.GRU(inputs, config.rnn_hidden, config.rnn_layers, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class CRNN(nn.Module):
    """Frame-wise and clip-wise class probabilities from log-mel and, optionally, frame embeddings."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.cnn = CNN(config)
        fused = config.embedding_dim is not None
        if config.embedding_dim is not None:
            dim = config.projection_dim or config.embedding_dim
            if config.projection_dim is not None:
                self.project = nn.Linear(config.embedding_dim, dim)
            if config.embedding_pooling == "conv":
                self.align = nn.Conv1d(dim, dim, ALIGNMENT_KERNEL, groups=dim)
                nn.init.constant_(self.align.weight, 1 / ALIGNMENT_KERNEL)
                nn.init.zeros_(self.align.bias)  # type: ignore[arg-type]
            self.cat_tf = nn.Linear(config.cnn_dim + dim, config.fusion_dim)
        self.rnn = RNN(config.fusion_dim if fused else config.cnn_dim, config)
        self.dense = nn.Linear(2 * config.rnn_hidden, config.num_classes)
        self.dense_softmax = nn.Linear(2 * config.rnn_hidden, config.num_classes)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, features: Tensor, embeddings: Tensor | None = None, class_mask: Tensor | None = None
    ) -> Prediction:
        """Log-mel (batch, mel, frames), embeddings (batch, dim, embedding frames), class_mask (batch, classes) bool.

        Any number of frames. Masked and unmasked predictions of one pass: leave the mask out, then
        `prediction.masked(class_mask)`.
        """
        x = self.cnn(features.transpose(1, 2)[:, None].contiguous(memory_format=torch.channels_last))
        x = x.transpose(1, 2).flatten(2)  # (batch, frames, channels x bands)
        if self.config.embedding_dim is not None:
            x = self._fuse(x, embeddings)
        elif embeddings is not None:
            raise ValueError("embeddings given to a model without embedding_dim")
        return self._head(self.dropout(self.rnn(x)), class_mask)

    def _fuse(self, x: Tensor, embeddings: Tensor | None) -> Tensor:
        """(batch, frames, cnn_dim), (batch, dim, embedding frames) -> (batch, frames, fusion_dim)."""
        if embeddings is None:
            raise ValueError(f"the model needs embeddings of {self.config.embedding_dim} dimensions")
        if self.config.projection_dim is not None:
            embeddings = self.project(embeddings.transpose(1, 2)).transpose(1, 2)
        if self.config.embedding_pooling == "aap":
            pooled = F.adaptive_avg_pool1d(embeddings, x.shape[1])
        elif self.config.embedding_pooling == "conv":  # 250 steps as they are: 156 frames
            pooled = self.align(F.adaptive_avg_pool1d(embeddings, x.shape[1] + ALIGNMENT_KERNEL - 1))
        else:
            pooled = F.interpolate(embeddings, size=x.shape[1], mode="nearest-exact")
        streams = self._dropstep(x), self._dropstep(pooled.transpose(1, 2))
        return self.cat_tf(self.dropout(torch.cat(streams, dim=-1)))

    def _dropstep(self, x: Tensor) -> Tensor:
        """In training a random run of frames, of each clip or the same of all, is set to 0, (batch, frames, dim)."""
        if not self.training or self.config.dropstep == 0.0:
            return x
        draw = draw_spec_mask((len(x) if self.config.dropstep_masks == "clip" else 1,), x.device)
        return spec_mask(x, draw, self.config.dropstep_frames, axis=-2, share=self.config.dropstep)

    def _head(self, x: Tensor, class_mask: Tensor | None) -> Prediction:
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.dense.weight.dtype)
            return predict(self.dense(x).transpose(1, 2), self.dense_softmax(x).transpose(1, 2), class_mask)
