"""The dual encoder: imitations and recordings in one space (Greif et al. 2024, section 2)."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.transforms import Resample

from common.encoders import checkpoints, create
from common.encoders.base import Encoder
from common.run.checkpoints import fill, network_state, read_checkpoint
from common.run.errors import UserError
from qbv.config import SAMPLE_RATE, ModelConfig

# Waveforms (batch, samples) at the encoder's rate -> its mel, changed at random.
Features = Callable[[Encoder, Tensor], Tensor]
# Beginnings of names in published files -> those here; the last two are the baseline's of QVIM 2025.
PUBLISHED = {
    "im.": "imitation_encoder.",
    "ref.": "recording_encoder.",
    "sim.": "comparison.",
    "imitation_encoder.": "imitation_encoder.",
    "reference_encoder.": "recording_encoder.",
}
IDLE = ("im.classifier.", "ref.classifier.", "imitation_encoder.classifier.", "reference_encoder.classifier.")
PAIRS_AT_ONCE = 1 << 16  # that the similarity network sees


class DualEncoder(nn.Module):
    """`imitations` and `recordings` give embeddings (n, dim), neither projected nor normalised.

    Both encoders begin with the same weights. temperature: of the training, whose size counts; it stands here because
    it may be trained.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        options: dict[str, Any] = {} if config.width is None else {"width": config.width}
        self.imitation_encoder = create(config.encoder, config.checkpoint, num_classes=None, **options)
        for module in self.imitation_encoder.modules():
            if isinstance(module, nn.BatchNorm2d) and config.norm_momentum is not None:
                module.momentum = config.norm_momentum
        if config.frozen:
            self.imitation_encoder.freeze()
        one = config.shared or config.frozen
        self.recording_encoder = self.imitation_encoder if one else copy.deepcopy(self.imitation_encoder)
        rate = self.imitation_encoder.sample_rate
        self.resample = nn.Identity() if rate == SAMPLE_RATE else Resample(SAMPLE_RATE, rate)
        dim = self.imitation_encoder.clip_dim
        self.dim = config.head or dim
        self.imitation_head = nn.Linear(dim, config.head) if config.head else nn.Identity()
        self.recording_head = self.imitation_head if config.shared else copy.deepcopy(self.imitation_head)
        self.comparison: nn.Sequential | None = None
        if config.similarity == "network":
            drop, hidden = config.dropout, config.hidden
            layers = (nn.Linear(2 * self.dim, hidden), nn.ReLU(), nn.Dropout(drop), nn.Linear(hidden, 1))
            self.comparison = nn.Sequential(nn.Dropout(drop), *layers)
        self.temperature = nn.Parameter(torch.tensor([config.temperature]), requires_grad=config.temperature_trained)

    def imitations(self, waveform: Tensor, features: Features | None = None) -> Tensor:
        """Waveforms (batch, samples) at 32 kHz -> (batch, dim); features: makes the mel in place of the encoder."""
        return self.imitation_head(self._embed(self.imitation_encoder, waveform, features))

    def recordings(self, waveform: Tensor, features: Features | None = None) -> Tensor:
        """The same for recordings."""
        return self.recording_head(self._embed(self.recording_encoder, waveform, features))

    def _embed(self, encoder: Encoder, waveform: Tensor, features: Features | None) -> Tensor:
        waveform = self.resample(waveform)
        encoder.check(waveform)
        return encoder.from_mel(encoder.mel(waveform) if features is None else features(encoder, waveform)).clip

    def match(self, imitation: Tensor, recording: Tensor) -> Tensor:
        """Chance that pairs (batch, dim), (batch, dim) match, (batch,); by the similarity network alone."""
        assert self.comparison is not None
        return self.comparison(torch.cat((imitation, recording), dim=1))[:, 0].sigmoid()

    def similarities(self, imitation: Tensor, recording: Tensor) -> Tensor:
        """Embeddings (n, dim), (m, dim) -> (n, m): cosines (0 for vectors of zeros), or what the network says."""
        if self.comparison is None:
            return F.normalize(imitation, dim=-1) @ F.normalize(recording, dim=-1).T
        rows = max(1, PAIRS_AT_ONCE // max(len(recording), 1))
        found = []
        for part in imitation.split(rows):
            left = part.repeat_interleave(len(recording), dim=0)
            found.append(self.match(left, recording.repeat(len(part), 1)).unflatten(0, (len(part), -1)))
        return torch.cat(found)


def load_weights(network: DualEncoder, path: str | Path, expected_sha256: str | None = None) -> DualEncoder:
    """`network` with the weights of a training's checkpoint, in evaluation mode.

    Raises UserError for a file that is none, is damaged or is of another model.
    """
    path = Path(path)
    fill(network, network_state(read_checkpoint(path, expected_sha256), ("network",), path), path)
    return network


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a published system under the names of `DualEncoder`; classifiers, which have no use, are left out.

    Of a shared encoder, which the files have under `im.` alone, both sides are that.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        old = next((start for start in PUBLISHED if name.startswith(start)), None)
        if old is not None and not name.startswith(IDLE):
            found[PUBLISHED[old] + name.removeprefix(old)] = value
    if not any(name.startswith("recording_encoder.") for name in found):
        left = "imitation_encoder."
        found |= {name.replace(left, "recording_encoder."): v for name, v in found.items() if name.startswith(left)}
    return found


def load_published(network: DualEncoder, path: str | Path) -> DualEncoder:
    """`network` with the weights of a published file, in evaluation mode; UserError for any other file."""
    state = checkpoints.read_state(path)
    found = own_names(state)
    if not found:
        raise UserError(f"{path}: no dual encoder in it, expected names such as im.features... and ref.features...")
    found["temperature"] = state.get("tau", network.temperature.data).reshape(1)
    fill(network, found, Path(path))
    return network
