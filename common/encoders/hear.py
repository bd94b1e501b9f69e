"""Embeddings as the HEAR benchmark asks for them (Turian et al. 2022), by the published rules of PaSST.

scene = scene_embeddings(encoder, waveform); frames, times = timestamp_embeddings(encoder, waveform)
Any encoder with a clip embedding serves. Evaluation mode is the caller's.

`load_model`, `get_scene_embeddings`, `get_timestamp_embeddings` are the benchmark's own names; `hear_api` has a module
with them for each model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoders import create, is_folder
from common.encoders.base import Encoder
from common.run.errors import UserError

Mode = Literal["all", "embeddings", "logits"]
# Seconds between the windows of a long clip, for models that take 10, 20 and 30 s.
SCENE_HOPS = {10.0: 2.5, 20.0: 5.0, 30.0: 10.0}
TIMESTAMP_WINDOW, TIMESTAMP_HOP = 0.16, 0.05


class HearModel(nn.Module):
    """An encoder with the attributes that the benchmark asks for: its rate in Hz and the sizes of embeddings.

    Scenes are `Output.clip`; of PaSST, as published, logits and clip together. Timestamps are the frames where these
    come at least every 50 ms (frame-wise models), else clip embeddings of windows every 50 ms: of 160 ms, or as long as
    the model needs.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.eval()
        with torch.no_grad():
            logits = encoder(torch.zeros(1, encoder.sample_rate, device=next(encoder.parameters()).device)).logits
        self.mode: Mode = "all" if encoder.name.startswith("passt") and logits is not None else "embeddings"
        classes = logits.shape[1] if self.mode == "all" and logits is not None else 0
        self.sample_rate = encoder.sample_rate
        self.scene_embedding_size = encoder.clip_dim + classes
        self.by_frames = (encoder.frame_rate or 0) * TIMESTAMP_HOP >= 1
        self.timestamp_embedding_size = encoder.embedding_dim if self.by_frames else self.scene_embedding_size
        samples = round(max(TIMESTAMP_WINDOW, encoder.moment) * self.sample_rate)
        while encoder.front_end.num_frames(samples) < encoder.shortest:
            samples += encoder.front_end.setting.hop
        self.window = samples / self.sample_rate  # seconds


def load_model(model_file_path: str | Path = "", name: str = "yamnet") -> HearModel:
    """A model by the name of its encoder; `model_file_path`: its checkpoint as `create` takes it, or a folder that
    `export` wrote; empty: the weights that a package carries, else random ones."""
    if model_file_path and is_folder(model_file_path):
        return HearModel(create(model_file_path))
    return HearModel(create(name, model_file_path or None))


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """audio (sounds, samples) in [-1, 1] at `model.sample_rate` -> (sounds, `model.scene_embedding_size`) float32, on
    the device of `audio`."""
    there = audio.to(next(model.parameters()).device)
    return scene_embeddings(model.encoder, there, model.mode).float().to(audio.device)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """audio (sounds, samples) -> embeddings (sounds, times, `model.timestamp_embedding_size`) float32, and the times of
    their middles (sounds, times) in ms, on the device of `audio`."""
    there = audio.to(next(model.parameters()).device)
    if not model.by_frames:
        embeddings, times = timestamp_embeddings(model.encoder, there, model.mode, (model.window,))
        return embeddings.float().to(audio.device), times.to(audio.device)
    with torch.no_grad():
        embeddings = model.encoder(there).frames
    count = embeddings.shape[1]
    milliseconds = 1000.0 * audio.shape[1] / model.sample_rate
    times = (torch.arange(count, device=audio.device) + 0.5) * (milliseconds / count)
    return embeddings.float().to(audio.device), times.expand(len(audio), -1)


@torch.no_grad()
def scene_embeddings(encoder: Encoder, waveform: Tensor, mode: Mode = "all", batch_size: int = 8) -> Tensor:
    """Waveforms (batch, samples) -> (batch, dim); mode "all": logits, then the clip embedding.

    Clips up to `encoder.longest` in one pass; longer ones in overlapping windows of that length, mirrored at both
    ends, whose embeddings are averaged.
    """
    length = None if encoder.longest is None else round(encoder.longest * encoder.sample_rate)
    if length is None or waveform.shape[-1] <= length:
        return _embed(encoder, waveform, mode)
    assert encoder.longest is not None
    hop = SCENE_HOPS.get(encoder.longest, encoder.longest / 4)
    return _windows(encoder, waveform, length, round(hop * encoder.sample_rate), mode, batch_size).mean(dim=1)


@torch.no_grad()
def timestamp_embeddings(
    encoder: Encoder,
    waveform: Tensor,
    mode: Mode = "all",
    windows: Sequence[float] = (TIMESTAMP_WINDOW,),
    hop: float = TIMESTAMP_HOP,
    batch_size: int = 256,
) -> tuple[Tensor, Tensor]:
    """Waveforms (batch, samples) -> embeddings (batch, times, dim) and their times (batch, times) in ms.

    A window of `windows` seconds is centred on each time; several lengths, as (0.16, 0.8) of the published two-level
    variant, give their embeddings side by side. `batch_size` windows pass the network at once.
    """
    step = round(hop * encoder.sample_rate)
    levels = [
        _windows(encoder, waveform, round(seconds * encoder.sample_rate), step, mode, batch_size) for seconds in windows
    ]
    embeddings = torch.cat(levels, dim=-1)
    times = 1000.0 * step / encoder.sample_rate * torch.arange(embeddings.shape[1], device=waveform.device)
    return embeddings, times.expand(len(waveform), -1)


def _windows(encoder: Encoder, waveform: Tensor, length: int, hop: int, mode: Mode, batch_size: int) -> Tensor:
    """Embeddings (batch, windows, dim) of windows centred on 0, hop, 2 hop, ..., mirrored at both ends."""
    half = length // 2
    if waveform.dim() != 2 or waveform.shape[1] <= half:
        needed = f"(batch, samples) with more than {half} samples, half a window"
        raise UserError(f"{encoder.name}: waveforms of shape {tuple(waveform.shape)}, expected {needed}")
    # Cut into windows a few at a time: they overlap, and all at once would be many times the recording.
    windows = F.pad(waveform, (half, half), mode="reflect").unfold(1, length, hop)
    batch, count = windows.shape[:2]
    index = torch.arange(batch * count, device=waveform.device)
    parts = [windows[part // count, part % count] for part in index.split(batch_size)]
    return torch.cat([_embed(encoder, part, mode) for part in parts]).unflatten(0, (batch, count))


def _embed(encoder: Encoder, waveform: Tensor, mode: Mode) -> Tensor:
    out = encoder(waveform)
    if mode == "embeddings":
        return out.clip
    if out.logits is None:
        raise UserError(f"{encoder.name}: no logits for mode {mode!r}; a model without head has mode 'embeddings'")
    return torch.cat((out.logits, out.clip), dim=-1) if mode == "all" else out.logits
