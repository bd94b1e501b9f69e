"""What all encoders have in common: waveform in, frame and clip embeddings out.

A model of `common.encoders` is an `Encoder`: its front end, its network under the parameter names of the published
checkpoint, and `from_mel`. Everything else (checks of the input, long recordings, frame rates, freezing, layer-wise
learning rates, gradient checkpointing) is here, once.
"""

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from common.audio.reading import Waveform
from common.audio.recordings import INTEGERS, Recording, rechunked
from common.frontends import LogMel, MelSetting
from common.run.errors import UserError

ATTENTION_RANGE = (1e-7, 1.0)
# Frames a second of the published frame-wise models: 250 for 10 s.
FRAME_RATE = 25.0
LOUDEST = 1.5  # of samples that should lie in [-1, 1]: beyond, it is said once
PIECE = 60.0  # seconds of a recording that `embed` hears at once
log = logging.getLogger(__name__)
Heard = str | Path | np.ndarray | Tensor  # a file, or samples


class Output(NamedTuple):
    """frames (batch, frames, dim), clip (batch, clip dim), logits (batch, classes), frame_logits (batch, frames,
    classes); logits are None where the model has no such head."""

    frames: Tensor
    clip: Tensor
    logits: Tensor | None
    frame_logits: Tensor | None


def resample_frames(sequence: Tensor, frames: int) -> Tensor:
    """(batch, steps, dim) -> (batch, frames, dim): average pooling to fewer, linear interpolation to more frames."""
    steps = sequence.shape[1]
    if steps == frames:
        return sequence
    x = sequence.transpose(1, 2)
    if steps > frames:
        x = F.adaptive_avg_pool1d(x, frames)
    else:
        x = F.interpolate(x, size=frames, mode="linear", align_corners=False)
    return x.transpose(1, 2)


class Encoder(nn.Module):
    """Waveforms (batch, samples) at `sample_rate` -> `Output`.

    A subclass calls `super().__init__(front_end)`, sets `embedding_dim` and `clip_dim`, and gives `from_mel`,
    `step_rate` and the class attributes below; its parameters carry the names of the published file.
    """

    name: str = ""  # of the catalogue; set by `create`
    checkpoint: dict[str, str] | None = None  # name, file and sha256 of the loaded weights; set by `create`
    options: Mapping[str, Any] = {}  # of the class; set by `create`, never changed
    embedding_dim: int
    clip_dim: int
    step_rate: float  # native steps a second
    tokens_per_step: int = 1  # neighbours of the native sequence that are bands of one moment
    frame_rate: float | None = None  # frames a second of `Output.frames`; None: the native steps
    longest: float | None = None  # seconds that one pass takes; longer recordings are cut into windows
    shortest: int = 0  # mel frames that the network needs at least
    moment: float = 0.0  # seconds that one embedding is made of, where less is filled up with silence
    block_names: str = r"blocks\.(\d+)\."  # names of the parameters of block N
    after_blocks: tuple[str, ...] = ()  # beginnings of the names between the last block and the heads
    head_names: tuple[str, ...] = ()  # beginnings of the heads' names
    head_weight: str = ""  # the weight whose rows are the classes

    def __init__(self, front_end: str | MelSetting) -> None:
        super().__init__()
        self.front_end = LogMel(front_end)
        self.checkpointing = False  # gradient checkpointing: less memory, one more forward pass
        self.frozen = False
        self.warned = False  # of samples far beyond 1

    @property
    def sample_rate(self) -> int:
        """Rate of the waveforms that go in, Hz."""
        return self.front_end.sample_rate

    def canonical(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of a published file under this module's names; names that it does not know stay."""
        return dict(state)

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of `logits`, in their order. Raises UserError for a model that does not know them."""
        raise UserError(f"{self.name}: the names of its classes are not known")

    @overload
    def embed(self, recording: Heard, sample_rate: int | None = None) -> Output: ...  # type: ignore[overload-overlap]

    @overload
    def embed(self, recording: Sequence[Heard], sample_rate: int | None = None) -> list[Output]: ...

    def embed(self, recording: Heard | Sequence[Heard], sample_rate: int | None = None) -> Output | list[Output]:
        """`Output` of a file, or of samples (samples,) at `sample_rate` Hz, without the batch axis; of several a list
        of them.

        frames (frames, dim), clip (clip dim,). Any rate and channels. What lasts longer than a minute is heard piece by
        piece: frames follow each other, clip embeddings and logits are averaged. Raises UserError as `Recording` and
        `forward`.
        """
        if isinstance(recording, Sequence) and not isinstance(recording, str):
            return [self.embed(one, sample_rate) for one in recording]
        return self.joined(list(self.pieces(recording, sample_rate)))

    @torch.no_grad()
    def pieces(self, recording: Heard | Recording, sample_rate: int | None = None) -> Iterator[Output]:
        """`embed` piece by piece: memory does not grow with the recording."""
        if isinstance(recording, Tensor):
            recording = recording.detach().cpu().numpy()
        if not isinstance(recording, Recording):
            recording = Recording(recording, self.sample_rate, sample_rate)
        device = next(self.parameters()).device
        for piece in self.cut(recording):
            out = self(torch.from_numpy(piece)[None].to(device))
            logits, frame_logits = (None if value is None else value[0] for value in (out.logits, out.frame_logits))
            yield Output(out.frames[0], out.clip[0], logits, frame_logits)

    def cut(self, blocks: Iterable[Waveform]) -> Iterator[Waveform]:
        """Samples in the pieces that `embed` hears at once: of a minute, or the longest passes that fit into one."""
        windows = 1 if self.longest is None else max(1, int(PIECE // self.longest))
        seconds = PIECE if self.longest is None else windows * self.longest
        size = round(seconds * self.sample_rate)
        return rechunked(blocks, size, least_last=min(size, self.sample_rate))

    def joined(self, parts: Sequence[Output]) -> Output:
        """`Output` of a recording from those of its pieces, which count by their frames."""
        if len(parts) == 1:
            return parts[0]
        shares = torch.tensor([float(len(part.frames)) for part in parts], device=parts[0].frames.device)
        shares /= shares.sum()

        def mean(of: Sequence[Tensor | None]) -> Tensor | None:
            values = [value for value in of if value is not None]
            return torch.einsum("pc,p->c", torch.stack(values), shares.to(values[0].dtype)) if values else None

        frames, clips, logits, frame_logits = zip(*parts, strict=True)
        clip = mean(clips)
        assert clip is not None
        of_frames = None if frame_logits[0] is None else torch.cat(frame_logits)
        return Output(torch.cat(frames), clip, mean(logits), of_frames)

    def tags(self, recording: Heard, sample_rate: int | None = None) -> dict[str, float]:
        """{class name: probability} of a recording, the most probable first. Raises UserError also without names."""
        names, logits = self.class_names(), self.embed(recording, sample_rate).logits
        assert logits is not None
        order = logits.argsort(descending=True, stable=True).tolist()
        probabilities = logits.sigmoid().tolist()
        return {names[index]: probabilities[index] for index in order}

    def num_frames(self, samples: int) -> int | None:
        """Frames that `forward` gives for so many samples; None: as many as the network has steps."""
        return None if self.frame_rate is None else max(1, round(self.frame_rate * samples / self.sample_rate))

    def even_frames(self, samples: int) -> int | None:
        """Frames to ask for that share so many samples evenly; None: the native steps do already."""
        return None

    def mel(self, waveform: Tensor) -> Tensor:
        """Waveforms (batch, samples) -> (batch, mel, frames) as `from_mel` takes it. Never random."""
        return self.front_end(waveform)

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        """Normalised log-mel (batch, mel, frames) of one pass -> `Output` with `frames` frames (None: native steps).

        The place for augmentations: features = encoder.mel(waveform), changed, encoder.from_mel(features).
        """
        raise NotImplementedError

    def forward(self, waveform: Tensor | np.ndarray, frames: int | None = None) -> Output:
        """Waveforms (batch, samples) in [-1, 1]; `frames`: that many frames instead of `frame_rate`.

        Recordings longer than `longest` are cut into windows of that length, the last one padded with silence; their
        frames follow each other, clip embeddings and logits are averaged by the windows' share of the recording.
        Raises UserError for a waveform of a wrong shape or type, too short, or with NaN (the last on the CPU only:
        on a GPU the question would stop the pipeline; `common.audio` has asked it when reading). Samples beyond 1.5,
        as of integers that were not divided, are said once.
        """
        if isinstance(waveform, np.ndarray):
            waveform = torch.from_numpy(waveform).to(next(self.parameters()).device)
        self.check(waveform)
        samples = waveform.shape[1]
        frames = self.num_frames(samples) if frames is None else frames
        if self.longest is None or samples <= round(self.longest * self.sample_rate):
            return self.from_mel(self.mel(waveform), frames)
        return self._windows(waveform, round(self.longest * self.sample_rate), frames)

    def _windows(self, waveform: Tensor, length: int, frames: int | None) -> Output:
        batch, samples = waveform.shape
        count = math.ceil(samples / length)
        padded = F.pad(waveform, (0, count * length - samples)).reshape(batch * count, length)
        out = self.from_mel(self.mel(padded), self.num_frames(length))
        kept = max(1, math.ceil(out.frames.shape[1] * samples / length))
        share = torch.full((count,), length / samples, device=waveform.device)
        share[-1] = 1.0 - (count - 1) * length / samples

        def mean(x: Tensor | None) -> Tensor | None:
            return None if x is None else torch.einsum("bcd,c->bd", x.unflatten(0, (batch, count)), share.to(x.dtype))

        def joined(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            x = x.reshape(batch, -1, x.shape[-1])[:, :kept]
            return x if frames is None else resample_frames(x, frames)

        sequence, clip = joined(out.frames), mean(out.clip)
        assert sequence is not None
        assert clip is not None
        return Output(sequence, clip, mean(out.logits), joined(out.frame_logits))

    def check(self, waveform: Tensor) -> None:
        """Raises UserError where `forward` could not give a meaningful answer."""
        if waveform.dim() != 2:
            shape = tuple(waveform.shape)
            raise UserError(f"{self.name}: waveforms of shape {shape}, expected (batch, samples), mono")
        if not waveform.is_floating_point():
            raise UserError(f"{self.name}: waveforms of type {waveform.dtype}, expected floats in [-1, 1]{INTEGERS}")
        if len(waveform) == 0:
            raise UserError(f"{self.name}: an empty batch of waveforms")
        if self.front_end.num_frames(waveform.shape[1]) < max(1, self.shortest):
            seconds = waveform.shape[1] / self.sample_rate
            raise UserError(f"{self.name}: {seconds:.3f} s at {self.sample_rate} Hz is too short for this model")
        if waveform.device.type != "cpu" or torch.compiler.is_compiling():
            return
        peak = float(waveform.detach().abs().amax())
        if not math.isfinite(peak):
            raise UserError(f"{self.name}: a waveform holds NaN or infinity")
        if peak > LOUDEST and not self.warned:
            self.warned = True
            log.warning("%s: samples up to %.3g, expected floats in [-1, 1]%s", self.name, peak, INTEGERS)

    def through(self, block: Callable[..., Tensor], x: Tensor, *args: Any) -> Tensor:
        """One block, with gradient checkpointing where it is switched on."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, x, *args, use_reentrant=False)
        return block(x, *args)

    def freeze(self) -> "Encoder":
        """No gradients, and evaluation mode for good: `train()` of a system around it does not reach it."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode and not self.frozen)
        return self

    def layers(self) -> dict[str, dict[str, nn.Parameter]]:
        """Parameters by layer, from the input up: embeddings, block0, block1, ..., norm, head."""
        groups: dict[str, dict[str, nn.Parameter]] = {"embeddings": {}}
        named = sorted(self.named_parameters(), key=lambda n: (self._layer(n[0]), n[0].startswith(self.head_names)))
        for name, parameter in named:
            at = self._layer(name)
            layer = "embeddings" if at < 0 else "norm" if at == math.inf else f"block{at}"
            layer = "head" if name.startswith(self.head_names) else layer
            groups.setdefault(layer, {})[name] = parameter
        return groups

    def _layer(self, name: str) -> float:
        found = re.match(self.block_names, name)
        if found:
            return int(found[1])
        return math.inf if name.startswith(self.after_blocks + self.head_names) else -1

    def parameter_groups(
        self,
        lr: float,
        decay: float = 1.0,
        head_lr: float | None = None,
        weight_decay: float = 0.0,
        ends: Literal["merged", "apart"] = "merged",
    ) -> list[dict[str, Any]]:
        """Groups for an optimiser: the block i-th from the top (i = 1, 2, ...) gets lr * decay ** i, heads `head_lr`.

        ends: "merged", what lies below the blocks goes with block 0 and the final norm with the last block, as in the
        published fine-tuning of the AudioSet-strong models; "apart", one step further down and up. Biases and other
        vectors get no weight decay.
        """
        layers = self.layers()
        blocks = [name for name in layers if name.startswith("block")]
        steps = {name: len(blocks) - index for index, name in enumerate(blocks)}
        lowest = len(blocks) if ends == "merged" else len(blocks) + 1
        steps |= {"embeddings": lowest, "norm": 1 if ends == "merged" else 0}
        groups: list[dict[str, Any]] = []
        for layer, named in reversed(layers.items()):
            rate = (lr if head_lr is None else head_lr) if layer == "head" else lr * decay ** steps[layer]
            for matrices in (True, False):
                chosen = [p for p in named.values() if (p.dim() > 1) == matrices and p.requires_grad]
                if chosen:
                    group = {"params": chosen, "lr": rate, "weight_decay": weight_decay if matrices else 0.0}
                    groups.append({**group, "layer": layer})
        return groups


class FrameEncoder(Encoder):
    """Encoders that give a sequence, with the two heads of the AudioSet-strong models (Schmid et al. 2024).

    A subclass gives `sequence`. Frames are that sequence at 25 a second: the published weights were trained on 250
    frames for whatever length; ask for `frames=250` to have that for clips that do not last 10 s.
    head: "linear", clip logits from the mean frame; "attention", from the frames' probabilities, weighted.
    """

    frame_rate: float | None = FRAME_RATE
    after_blocks: tuple[str, ...] = ("norm.",)
    head_names: tuple[str, ...] = ("strong_head.", "weak_head.")
    head_weight: str = "strong_head.weight"

    def __init__(
        self,
        front_end: str | MelSetting,
        dim: int,
        num_classes: int | None = 447,
        head: Literal["linear", "attention"] = "linear",
    ) -> None:
        super().__init__(front_end)
        self.embedding_dim = self.clip_dim = dim
        self.head_kind = head
        self.strong_head = nn.Linear(dim, num_classes) if num_classes else None
        self.weak_head = nn.Linear(dim, num_classes) if num_classes else None

    def sequence(self, mel: Tensor) -> Tensor:
        """Normalised log-mel (batch, mel, frames) -> the network's own sequence (batch, steps, dim)."""
        raise NotImplementedError

    def from_mel(self, mel: Tensor, frames: int | None = None) -> Output:
        x = self.sequence(mel)
        return self.readout(x if frames is None else resample_frames(x, frames))

    def readout(self, frames: Tensor) -> Output:
        """Heads on frames (batch, frames, dim)."""
        clip = frames.mean(dim=1)
        if self.strong_head is None or self.weak_head is None:
            return Output(frames, clip, None, None)
        strong = self.strong_head(frames)
        if self.head_kind == "linear":
            return Output(frames, clip, self.weak_head(clip), strong)
        weights = self.weak_head(frames).float().softmax(dim=-1).clamp(*ATTENTION_RANGE)
        weak = (strong.float().sigmoid() * weights).sum(dim=1) / weights.sum(dim=1)
        return Output(frames, clip, weak.logit(eps=1e-7), strong)
