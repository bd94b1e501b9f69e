"""A packed network at work: checkpoint and recordings -> logits. In a package of 2025 this is `models/inference.py`.

The package stands alone: this module and all of the project that it needs become one file there
(`standalone_source`), which needs torch, torchaudio and torchvision only. Therefore wav files are read here by hand.
"""

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torchaudio
from torch import Tensor, nn

from common.frontends import LogMel, MelSetting
from task1_asc.config import ModelConfig
from task1_asc.data.classes import DEVICES, SCENES
from task1_asc.model.cp_mobile import CPMobile
from task1_asc.model.devices import MultiDevice

BATCH = 256  # recordings in memory at a time
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # wav formats


class SceneClassifier(nn.Module):
    """A front end in float32, and a general network with copies for devices, in the precision of deployment.

    own: the class of an own network, for the arguments of `config`.
    """

    def __init__(
        self, mel: MelSetting, config: ModelConfig, devices: Sequence[str], own: Callable[..., nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.front_end = LogMel(mel)
        base = own(**config.arguments) if own else CPMobile(config, response_norm=config.kind == "cp_mobile")
        self.networks = MultiDevice(base, devices, DEVICES)

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks' weights."""
        return next(self.networks.parameters()).dtype


def load_classifier(
    settings_file: str | Path, state_file: str | Path, own: Callable[..., nn.Module] | None = None
) -> SceneClassifier:
    """Settings (JSON: mel, model, devices) and a state dict of `MultiDevice` -> classifier in evaluation mode.

    own: the class of an own network. The weights' own precision is kept.
    """
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    state = torch.load(state_file, map_location="cpu", weights_only=True)
    model = settings["model"]
    model |= {"strides": {name: tuple(of) for name, of in model["strides"].items()}}  # JSON has no tuples
    classifier = SceneClassifier(MelSetting(**settings["mel"]), ModelConfig(**model), settings["devices"], own)
    classifier.networks.to(next(value.dtype for value in state.values() if value.is_floating_point()))
    classifier.networks.load_state_dict(state)
    return classifier.requires_grad_(False).eval()


@torch.no_grad()  # not inference mode: whoever measures the network passes these on outside of it
def log_mels(file_paths: Sequence[str | Path], classifier: SceneClassifier) -> list[Tensor]:
    """Recordings -> one network input (1, 1, mel, frames) each, in the networks' precision.

    Recordings at other rates are resampled. ValueError for recordings that are not all of one length.
    """
    rate = classifier.front_end.sample_rate
    waveforms = [read_wav(path, rate) for path in file_paths]
    for path, waveform in zip(file_paths, waveforms, strict=True):
        if len(waveform) != len(waveforms[0]):
            raise ValueError(f"{path}: {len(waveform)} samples, expected {len(waveforms[0])} as in {file_paths[0]}")
    if not waveforms:
        return []
    stacked = torch.stack(waveforms).to(classifier.front_end.window.device)
    return list(classifier.front_end(stacked).to(classifier.dtype)[:, None, None])


@torch.inference_mode()
def classify(
    file_paths: Sequence[str | Path], device_ids: Sequence[str], classifier: SceneClassifier, use_cuda: bool = False
) -> tuple[list[Tensor], list[str]]:
    """Logits (classes,), float32, of each recording in order, and the scenes in the order of the logits.

    device_ids: the recording device of each file; one without an own network, or unknown, uses the general network.
    """
    if len(file_paths) != len(device_ids):
        raise ValueError(f"{len(file_paths)} files, but {len(device_ids)} device ids")
    classifier = classifier.to("cuda" if use_cuda else "cpu")
    logits: list[Tensor] = []
    for start in range(0, len(file_paths), BATCH):
        inputs = log_mels(file_paths[start : start + BATCH], classifier)
        names = device_ids[start : start + BATCH]
        devices = torch.tensor([DEVICES.index(name) if name in DEVICES else -1 for name in names])
        logits += list(classifier.networks(torch.cat(inputs), devices).float().cpu())
    return logits, list(SCENES)


def read_wav(path: str | Path, rate: int) -> Tensor:
    """A wav file of integers (16, 24 or 32 bit) or float32 -> mono (samples,) float32 in [-1, 1] at `rate` Hz.

    ValueError for anything else.
    """
    data = Path(path).read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"{path}: not a wav file")
    position, form, samples = 12, b"", b""
    while position + 8 <= len(data) and not samples:
        kind, size = struct.unpack_from("<4sI", data, position)
        content = data[position + 8 : position + 8 + size]
        form, samples = (content, samples) if kind == b"fmt " else (form, content if kind == b"data" else b"")
        position += 8 + size + size % 2
    if len(form) < 16 or not samples:
        raise ValueError(f"{path}: a wav file without format or samples")
    tag, channels, file_rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    tag = struct.unpack_from("<H", form, 24)[0] if tag == EXTENSIBLE else tag
    waveform = _decode(bytearray(samples), tag, bits, str(path)).reshape(-1, channels).mean(dim=1)
    return torchaudio.functional.resample(waveform, file_rate, rate)


def _decode(samples: bytearray, tag: int, bits: int, name: str) -> Tensor:
    """Bytes -> float32 values, channels interleaved."""
    if (tag, bits) == (FLOAT, 32):
        return torch.frombuffer(samples, dtype=torch.float32)
    if (tag, bits) == (PCM, 16):
        return torch.frombuffer(samples, dtype=torch.int16) / 2.0**15
    if (tag, bits) == (PCM, 32):
        return (torch.frombuffer(samples, dtype=torch.int32).double() / 2.0**31).float()
    if (tag, bits) == (PCM, 24):
        low, middle, high = torch.frombuffer(samples, dtype=torch.uint8).view(-1, 3).int().unbind(dim=1)
        value = low + (middle << 8) + (high << 16)
        return (value - ((high >> 7) << 24)) / 2.0**23
    raise ValueError(f"{name}: wav format {tag} with {bits} bits, expected 16, 24 or 32 bit")
