"""The `pretrain_sequence_models` fixture: sequence models forward and backward, heads, frame rates."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.encoders.base import FrameEncoder, resample_frames
from common.tests.helpers import seeded
from task4_sed.config import SequenceConfig
from task4_sed.model.framewise import FramewiseNetwork
from task4_sed.model.sequence import MinGRU

OUTPUT = {"max": 1e-5, "rel": 1e-5}
GRADIENT, LOOSE = {"max": 1e-5, "rel": 1e-4}, {"max": 1e-5, "rel": 1e-3}  # the latter for hybrid, mamba


class Given(FrameEncoder):
    """Its sequence is its input."""

    def __init__(self, dim: int, head: Any = "linear") -> None:
        super().__init__("atst", dim, None, head)

    def sequence(self, mel: Tensor) -> Tensor:
        return mel


def load(folder: Path, io: Any, case: str) -> dict[str, Tensor]:
    manifest = json.loads((folder / "manifest.json").read_text())
    found = {}
    for name, entry in manifest["state"][case].items():
        stored = entry["init"] == "stored"
        value = (
            io[f"{case}/state/{name}"]
            if stored
            else seeded(folder.parent)["seeded_array"](name, entry, manifest["seed"])
        )
        found[name] = torch.from_numpy(value)
    return found


def settings(folder: Path, case: str) -> SequenceConfig:
    given = dict(json.loads((folder / "manifest.json").read_text())["settings"][case])
    known = {"seq_model_type": "kind", "seq_model_dim": "dim", "seq_model_layers": "layers", "attn_heads": "heads"}
    return SequenceConfig(**{known[name]: value for name, value in given.items()})


def heard(io: Any) -> Tensor:
    return torch.from_numpy(io["input"]).requires_grad_()


def model(folder: Path, case: str, io: Any) -> Iterator[tuple]:
    state, x, config = load(folder, io, case), heard(io), settings(folder, case)
    network = FramewiseNetwork(Given(x.shape[-1]), len(state["strong_head.bias"]), config).eval()
    network.load_state_dict(network.from_published(state))
    assert network.seq_model is not None
    output = network.seq_model(x)
    yield "output", output, io[f"{case}/output"], OUTPUT
    readout = network.encoder.readout(output)
    yield "strong", readout.frame_logits.transpose(1, 2), io[f"{case}/strong_logits"], OUTPUT
    yield "weak", readout.logits, io[f"{case}/weak_logits"], OUTPUT
    (output * torch.from_numpy(io[f"{case}/grad_output"])).sum().backward()
    close = LOOSE if config.kind in ("hybrid", "mamba") else GRADIENT
    scale = float(np.abs(io[f"{case}/input_grad"]).max())
    yield "input gradient", x.grad / scale, io[f"{case}/input_grad"] / scale, close
    norm = np.linalg.norm([float(p.grad.norm()) for p in network.seq_model.parameters()])
    yield "gradient norm", norm, io[f"{case}/param_grad_norm"], close
    # Rotary frequencies count as published, once.
    count = sum(p.numel() for p in (*network.seq_model.parameters(), *network.seq_model.buffers()))
    yield "parameters", count, io[f"{case}/parameters"], {}


def minimal(folder: Path, case: str, io: Any) -> Iterator[tuple]:
    state, x = load(folder, io, case), torch.from_numpy(io[f"{case}/input"])
    state = {name.removeprefix(f"{case}."): value for name, value in state.items()}
    width, dim = state["to_hidden_and_gate.weight"].shape
    layer = MinGRU(dim, width // 2)
    layer.load_state_dict(state)
    for name in ("output", "output_scan"):
        yield name, layer(x), io[f"{case}/{name}"], OUTPUT


def adapt(folder: Path, case: str, io: Any) -> Iterator[tuple]:
    expected = io[f"{case}/output"]
    yield "frames", resample_frames(torch.from_numpy(io[f"{case}/input"]), expected.shape[1]), expected, OUTPUT


def attention_head(folder: Path, case: str, io: Any) -> Iterator[tuple]:
    state, x = load(folder, io, case), heard(io)
    encoder = Given(x.shape[-1], "attention")
    encoder.strong_head, encoder.weak_head = (
        nn.Linear(x.shape[-1], len(state[f"{h}_head.bias"])) for h in ("strong", "weak")
    )
    encoder.load_state_dict(state)
    out = encoder.readout(x)
    strong, weak = out.frame_logits.sigmoid().transpose(1, 2), out.logits.sigmoid()
    yield "strong", strong, io[f"{case}/strong"], OUTPUT
    yield "weak", weak, io[f"{case}/weak"], OUTPUT
    (strong.sum() + 3 * weak.sum()).backward()
    yield "input gradient", x.grad, io[f"{case}/input_grad_of_strong_sum_plus_3_weak_sum"], GRADIENT


def groups(io: Any) -> list[str]:
    models = [name.removesuffix("/param_grad_norm") for name in io.files if name.endswith("/param_grad_norm")]
    frames = [name.removesuffix("/input") for name in io.files if name.startswith("adapt/") and name.endswith("input")]
    return [*models, *frames, "min_gru", "attention_head"]


def check(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    special = {"min_gru": minimal, "attention_head": attention_head, "adapt": adapt}
    for what, own, official, tolerance in special.get(group.split("/")[0], model)(folder, group, io):
        yield what, own.detach().numpy() if isinstance(own, Tensor) else own, official, tolerance


CHECKERS = {"pretrain_sequence_models": (groups, check)}
