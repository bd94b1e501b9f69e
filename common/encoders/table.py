"""What the encoders are, as a table: sizes, costs, rates, and which published checkpoints fit."""

from collections.abc import Mapping
from typing import Any

import torch

from common.encoders import Encoder, models
from common.encoders.checkpoints import catalogue
from common.run.complexity import matrix_macs, size_of
from common.run.progress import progress
from common.run.results.tables import print_table

SECONDS = 10
SHOWN = 2
COLUMNS = ("model", "parameters", "GMACs", "frame dim", "clip dim", "frames/s", "Hz", "one pass", "checkpoints")


def macs(encoder: Encoder) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention for one clip of 10 s, front end left out."""
    samples = SECONDS * encoder.sample_rate
    mel = torch.empty(
        *(1, encoder.front_end.num_mels, encoder.front_end.num_frames(samples)),
        device=next(encoder.parameters()).device,
    )
    return matrix_macs(lambda: encoder.from_mel(mel, encoder.num_frames(samples)))


def describe(name: str) -> dict[str, Any]:
    """One model in numbers. Nothing is computed: its tensors have shapes only."""
    with torch.device("meta"):
        encoder = models()[name]().eval()
    return {
        "parameters": size_of(encoder.parameters())[0],
        "macs": macs(encoder),
        "embedding_dim": encoder.embedding_dim,
        "clip_dim": encoder.clip_dim,
        "frame_rate": encoder.frame_rate or encoder.step_rate,
        "sample_rate": encoder.sample_rate,
        "longest": encoder.longest,
        "checkpoints": [entry.name for entry in catalogue().values() if name in entry.models],
    }


def _some(names: list[str]) -> str:
    """As many as fit on a line of a terminal."""
    return ", ".join(names[:SHOWN]) + (f", {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def overview() -> Mapping[str, Any]:
    """Print the table; returns the numbers by model."""
    found = {}
    with progress("encoders", len(models()), "models") as advance:
        for name in models():
            found[name] = describe(name)
            advance(note=name)
    rows = [
        [
            *(name, f"{of['parameters']:,}", f"{of['macs'] / 1e9:.3f}", str(of["embedding_dim"]), str(of["clip_dim"])),
            *(f"{of['frame_rate']:.4g}", str(of["sample_rate"]), f"{of['longest']:g} s" if of["longest"] else "any"),
            _some(of["checkpoints"]),
        ]
        for name, of in found.items()
    ]
    note = (
        f"GMACs for a clip of {SECONDS} s: convolutions, linear layers and attention, without front end; parameters "
        "with the published head; one pass: longer recordings are cut into windows of that length; all checkpoints: "
        "common/encoders/catalogue.csv"
    )
    print_table("audio encoders", COLUMNS, rows, note=note)
    return found
