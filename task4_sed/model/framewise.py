"""The network of frame-level pre-training: encoder, perhaps a sequence model, two heads (Schmid et al. 2025)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.encoders import RANDOM, create
from common.encoders.base import FrameEncoder, Output, resample_frames
from common.encoders.checkpoints import Checkpoint, entry_of, locate, read_state, without_sequence
from common.run.checkpoints import fill, network_state, read_checkpoint, without_front
from common.run.errors import UserError
from task4_sed.config import EncoderConfig, SequenceConfig
from task4_sed.model.sequence import sequence_model

SAMPLE_RATE = 16_000
FRAMES = 250  # of every clip: 40 ms of 10 s


class FramewiseNetwork(nn.Module):
    """Log-mel (batch, mel, frames) of the encoder's front end -> `Output` of 250 frames.

    `strong_head` gives the classes of each frame, `weak_head` those of the mean frame. The heads are the encoder's own,
    on the features of the sequence model where there is one. num_classes: of new heads; None: it has some already.
    """

    def __init__(self, encoder: FrameEncoder, num_classes: int | None, sequence: SequenceConfig | None = None) -> None:
        super().__init__()
        self.seq_model, width, self.sequence = None, encoder.embedding_dim, sequence
        if sequence is not None:
            self.seq_model, width = sequence_model(sequence, width)
        self.encoder = encoder
        if num_classes is not None:
            encoder.strong_head, encoder.weak_head = nn.Linear(width, num_classes), nn.Linear(width, num_classes)

    def forward(self, mel: Tensor) -> Output:
        frames = resample_frames(self.encoder.sequence(mel), FRAMES)
        return self.encoder.readout(frames if self.seq_model is None else self.seq_model(frames))

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict under this network's names."""
        rest = without_sequence(state)
        sequence = {
            without_front(name).replace("seq_model.rnn.", "seq_model.0.gru."): value
            for name, value in state.items()
            if name not in rest
        }
        # The convolutions of a TCN are listed twice.
        found = {name: value for name, value in sequence.items() if ".conv1." not in name and ".conv2." not in name}
        return found | {f"encoder.{name}": value for name, value in self.encoder.canonical(rest).items()}


def new_network(
    config: EncoderConfig,
    classes: int,
    sequence: SequenceConfig | None,
    head: Literal["linear", "attention"] = "linear",
    bias: Tensor | None = None,
) -> FramewiseNetwork:
    """The network of a recipe on what `pretrained` gives; bias: that of a new frame-wise head (classes,).

    Raises UserError where `pretrained` should bring a head and does not.
    """
    encoder = pretrained(config)
    encoder.checkpointing, encoder.front_end.top_db_per_batch = config.checkpointing, config.batch_floor
    encoder.head_kind = head
    if not config.train:
        encoder.freeze()
    heads = encoder.strong_head, encoder.weak_head
    network = FramewiseNetwork(encoder, classes, sequence)
    if bias is not None and encoder.strong_head is not None:
        encoder.strong_head.bias.data.copy_(bias)
    if config.keep_head:
        for old, new in zip(heads, (encoder.strong_head, encoder.weak_head), strict=True):
            _keep(old, new, str(config.checkpoint))
        if sequence is not None:
            raise UserError("encoder.keep_head: goes without sequence, a head is on the encoder's own features")
    return network


def pretrained(config: EncoderConfig) -> FrameEncoder:
    """The encoder with the weights that it begins with, also those of an own pre-training by its checkpoint's file.

    Without heads unless `keep_head`. Raises UserError for one that is not frame-wise at 16 kHz, or of another model.
    """
    path = Path(config.checkpoint or "")
    about = read_checkpoint(path).get("framewise") if path.suffix == ".ckpt" and path.is_file() else None
    if about is not None and (name := about["encoder"]["name"]) != str(config.name):
        raise UserError(f"encoder.checkpoint: {path} is of {name}, expected one of {config.name}")
    if config.keep_head and about is not None and about["sequence"] is not None:
        raise UserError(f"encoder.keep_head: {path} has its head on a sequence model, which is left out")
    classes: Literal["published"] | None = "published" if config.keep_head else None
    encoder = create(config.name, config.checkpoint, classes, **config.options)
    if not isinstance(encoder, FrameEncoder) or encoder.sample_rate != SAMPLE_RATE:
        raise UserError(f"encoder.name: {config.name}, expected a frame-wise model of {SAMPLE_RATE} Hz")
    return encoder


@torch.no_grad()
def _keep(old: nn.Linear | None, new: nn.Linear | None, where: str) -> None:
    """The rows of a head for its first classes."""
    assert new is not None
    if old is None or old.in_features != new.in_features or old.out_features > new.out_features:
        shapes = [None if of is None else tuple(of.weight.shape) for of in (old, new)]
        raise UserError(f"encoder.keep_head: {where} has a head {shapes[0]}, expected at most {shapes[1]}")
    new.weight[: len(old.weight)], new.bias[: len(old.bias)] = old.weight, old.bias


def load_framewise(path: Path, expected_sha256: str | None = None) -> tuple[FramewiseNetwork, tuple[str, ...]]:
    """The network of an own checkpoint, in evaluation mode, and its classes. Raises UserError for any other file."""
    content = read_checkpoint(path, expected_sha256)
    about = content.get("framewise")
    if about is None:
        raise UserError(f"{path}: no network of frame-level pre-training, expected a checkpoint of a pretrain recipe")
    network = network_of(about, path)
    fill(network, network_state(content, ("network",), path), path)
    return network.eval(), tuple(about["classes"])


def network_of(about: Mapping[str, Any], path: Path) -> FramewiseNetwork:
    """A network as its checkpoint or its exported folder describes it, with random weights."""
    depth = about["encoder"].get("depth")
    encoder = create(about["encoder"]["name"], RANDOM, None, **({} if depth is None else {"depth": depth}))
    if not isinstance(encoder, FrameEncoder):
        raise UserError(f"{path}: its encoder {about['encoder']['name']} is not frame-wise")
    encoder.front_end.top_db_per_batch = about["encoder"]["batch_floor"]
    encoder.head_kind = about.get("head", "linear")
    sequence = None if about["sequence"] is None else SequenceConfig(**about["sequence"])
    return FramewiseNetwork(encoder, len(about["classes"]), sequence)


def sequence_of(entry: Checkpoint) -> SequenceConfig | None:
    """The sequence model of a published file, which its name says: `fmn10+tf-256_strong`; None: it has none."""
    found = re.search(r"\+(tf|gru|hybrid)-(\d+)_", entry.name)
    return SequenceConfig(found[1], int(found[2])) if found else None  # type: ignore[arg-type]


def published_network(entry: Checkpoint, path: Path) -> FramewiseNetwork:
    """That of a published file with a sequence model, in evaluation mode. Raises UserError for a file of another."""
    encoder = create(entry.models[0], RANDOM, num_classes=None)
    assert isinstance(encoder, FrameEncoder)
    network = FramewiseNetwork(encoder, entry.classes, sequence_of(entry))
    counters = {name: of for name, of in network.state_dict().items() if name.endswith("num_batches_tracked")}
    fill(network, counters | network.from_published(read_state(path)), path)
    return network


def named_network(name: str) -> tuple[FramewiseNetwork, tuple[str, ...] | None]:
    """The same of an own checkpoint by its path, or of a published one by its name, which does not say its classes."""
    entry = entry_of(name)
    if entry is None:
        return load_framewise(locate(name)[0])
    if sequence_of(entry) is not None:
        return published_network(entry, locate(name)[0]), None
    encoder = create(entry.models[0], name) if entry.models else None
    if not isinstance(encoder, FrameEncoder) or encoder.strong_head is None:
        raise UserError(f"{name}: no frame-wise network with a head")
    return FramewiseNetwork(encoder, None).eval(), None
