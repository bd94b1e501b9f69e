"""Time of the encoders on this machine, beside the same networks put together from the blocks of timm and torch.

plain: transformers with the matrix products and softmax written out (timm's own unfused attention; BEATs with its
gated bias added to the scores); convolutional networks in torch's default memory format, MobileNets with torchvision's
squeeze-and-excitation. Both go from the waveform to all outputs.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import timm
import torch
import torchvision
from torch import Tensor, nn

from common.encoders import Encoder, create
from common.encoders.beats import Attention
from common.encoders.mobilenet import SqueezeExcitation
from common.run.benchmark import times_in_turns
from common.run.processes import working_device
from common.run.results.environment import environment
from common.run.results.tables import print_table

SECONDS = 10
BATCHES = (1, 8)
TURNS = 3  # at least: other work on the machine must not pass for a difference
# One published model of each family.
MODELS = (
    "passt",
    "fpasst",
    "atst-f",
    "m2d",
    "asit",
    "beats",
    "frame_mn10",
    "mn10",
    "panns-cnn14",
    "vggish",
    "yamnet",
    "cp-resnet",
)


class PlainAttention(Attention):
    """BEATs' attention with the scores as a tensor."""

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in projections)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + self.gate(q) * bias
        return self.out_proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def plain(encoder: Encoder) -> Encoder:
    """A copy of the encoder made of plain blocks; the MobileNets' outputs differ (torchvision's gate is hard)."""
    copied = copy.deepcopy(encoder)
    for name, module in list(copied.named_modules()):
        if isinstance(module, timm.layers.Attention):
            module.__dict__.update(fused_attn=False)  # for type checkers it is final
        elif isinstance(module, Attention):
            module.__class__ = PlainAttention
        elif isinstance(module, SqueezeExcitation):
            linear = cast(nn.Linear, module.conc_se_layers[0].get_submodule("fc1"))
            sizes = (linear.in_features, linear.out_features)
            gate = torchvision.ops.SqueezeExcitation(*sizes, scale_activation=nn.Hardsigmoid)
            copied.set_submodule(name, gate)
    for parameter in copied.parameters():
        parameter.data = parameter.data.contiguous()
    return copied.eval()


def best_times(encoders: Sequence[Encoder], batch: int, seconds: float) -> list[float]:
    """Shortest time of one forward pass of each, in seconds; they take turns, for at least `seconds` each."""
    device = next(encoders[0].parameters()).device
    waveform = torch.randn(batch, SECONDS * encoders[0].sample_rate, device=device) * 0.1
    works = [partial(encoder, waveform) for encoder in encoders]
    with torch.inference_mode():
        return [min(taken) for taken in times_in_turns(works, seconds, TURNS)]


def benchmark(names: Sequence[str] = (), seconds: float = 2.0) -> Mapping[str, Any]:
    """Measure models, each for at least `seconds` a figure; prints a table and returns ms per clip of 10 s."""
    device = working_device()
    found: dict[str, Any] = {}
    for name in names or MODELS:
        encoder = create(name).to(device)
        both = (encoder, plain(encoder))
        found[name] = {}
        for batch in BATCHES:
            own, other = best_times(both, batch, seconds)
            found[name][f"batch {batch}"] = {"ms": 1e3 * own / batch, "plain_ms": 1e3 * other / batch}
    rows = []
    for name, of in found.items():
        gain = min(times["plain_ms"] / times["ms"] for times in of.values())
        speed = 1e3 * SECONDS / min(times["ms"] for times in of.values())
        figures = [f"{value:.1f}" for times in of.values() for value in times.values()]
        rows.append([name, *figures, f"{gain:.2f}", f"{speed:,.0f}"])
    columns = ["model", *(f"{text}, batch {batch}" for batch in BATCHES for text in ("ms", "plain"))]
    hardware = environment()
    device_name = ", ".join(hardware["gpus"]) or hardware["cpu"]
    note = f"{device_name}, {torch.get_num_threads()} threads; shortest of several passes"
    title = f"encoders: milliseconds for a clip of {SECONDS} s, from waveform to outputs"
    print_table(title, [*columns, "plain/own, worse", "x real time"], rows, note=note)
    return found
