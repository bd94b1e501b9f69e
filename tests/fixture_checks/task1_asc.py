"""The networks of Task 1: a wave through front end and seeded network, at single and half precision, and by device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.frontends import LogMel
from common.tests.helpers import seeded_state
from task1_asc.config import ModelConfig
from task1_asc.data.classes import DEVICES
from task1_asc.deployment.precision import deployed
from task1_asc.model.devices import MultiDevice
from task1_asc.model.networks import build_network

MEL = {"mean": 2e-4, "max": 2e-2}
FROM_WAVE = {"max": 5e-3}
FROM_MEL = {"max": 5e-4, "rel": 1e-3}
HALF = {"max": 5e-2}
TRACE = {"max": 2e-3, "rel": 1e-3}


def seeded(folder: Path, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in seeded_state(folder).items()}


def log_mel(io: Any) -> Tensor:
    return LogMel("asc_2024")(torch.from_numpy(io["wave"].astype(np.float32) / 32768.0))[:, None]


@torch.inference_mode()
def baseline(folder: Path, group: str, io: Any) -> list[tuple]:
    network = build_network(ModelConfig(num_classes=io["logits"].shape[1])).eval()
    network.load_state_dict(seeded(folder, "model."))
    mel, stored = log_mel(io), torch.from_numpy(io["mel"])
    traces: dict[str, Tensor] = {}
    for name in (file.removeprefix("trace/") for file in io.files if file.startswith("trace/")):
        network.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, name=name: traces.update({name: output[0].clone()})
        )
    found = [
        ("mel", mel, io["mel"], MEL),
        ("logits from the wave", network(mel), io["logits"], FROM_WAVE),
        ("logits", network(stored), io["logits"], FROM_MEL),
    ]
    for name, output in traces.items():
        expected = io[f"trace/{name}"]
        found.append((name, output[tuple(slice(n) for n in expected.shape)], expected, TRACE))
    return [*found, ("logits_half", deployed(network, "float16")(stored), io["logits_half"], HALF)]


def numbers_of(devices: Sequence[str]) -> Tensor:
    """Devices as batches have them; -1: none that the data set knows."""
    return torch.tensor([DEVICES.index(device) if device in DEVICES else -1 for device in devices])


@torch.inference_mode()
def multi_device(folder: Path, group: str, io: Any) -> list[tuple]:
    state = seeded(folder, "multi_device_model.")
    own = list(dict.fromkeys(name.split(".")[1] for name in state if name.startswith("device_models.")))
    base = build_network(ModelConfig(num_classes=io["logits_base"].shape[1]))
    container: nn.Module = MultiDevice(base, own, DEVICES).eval()
    container.load_state_dict(state)
    mel = log_mel(io)
    found = [
        ("logits_mixed", container(mel, numbers_of(io["devices"].tolist())), io["logits_mixed"], FROM_WAVE),
        ("logits_base", container(mel), io["logits_base"], FROM_WAVE),
        ("unknown device", container(mel, torch.full((len(mel),), -1)), io["logits_base"], FROM_WAVE),
    ]
    for name in (name for name in io.files if name.startswith("logits_all_")):
        one = numbers_of([name.removeprefix("logits_all_")] * len(mel))
        found.append((name, container(mel, one), io[name], FROM_WAVE))
    return found


CHECKERS = {
    "asc_baseline_2024": (lambda io: ["all"], baseline),
    "asc_multi_device_2025": (lambda io: ["all"], multi_device),
}
