"""A trained network as a folder for others (`export`), and back; its encoders as ONNX files, front end inside."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.encoders import RANDOM
from common.encoders.base import Encoder
from common.encoders.matrix_mel import exportable
from common.run.checkpoints import fill, read_checkpoint
from common.run.config import config_dict, config_of
from common.run.export import CARD, WEIGHTS, card_of, evaluated, export, read_card
from common.run.latency import latency_table
from common.run.onnx_graphs import trial_sounds, write_graph
from common.run.results.tables import print_table
from common.run.verbs import Run
from qbv.config import SAMPLE_RATE, TRAINED, Config, ModelConfig
from qbv.inference.checkpoints import load_part
from qbv.model.networks import DualEncoder

SYSTEM = "qbv"
TOLERANCE = 1e-4  # of a number of a vector, as a share of the vectors' root mean square
USAGE = """from qbv.inference.exported import open_exported

network, about = open_exported("{0}")  # network.imitations(waveforms), network.recordings(waveforms)

# without this software: imitation.onnx and recording.onnx, waveform (batch, {1:,}) at 32 kHz -> vector (batch, {2})"""


@dataclass(frozen=True)
class Network:
    """What the network is made of, and how sounds are cut and filled up for it."""

    model: ModelConfig
    seconds: float
    padding: Literal["zeros", "repeat"]


class _Side(nn.Module):
    """Waveforms (batch, samples) at 32 kHz -> vectors (batch, dim)."""

    def __init__(self, network: DualEncoder, side: str) -> None:
        super().__init__()
        self.resample = network.resample
        self.encoder: Encoder = copy.deepcopy(getattr(network, f"{side}_encoder"))
        self.encoder.front_end = exportable(self.encoder.front_end)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.encoder.from_mel(self.encoder.mel(self.resample(waveform))).clip


def write_encoders(network: DualEncoder, seconds: float, folder: Path) -> list[dict[str, Any]]:
    """Write imitation.onnx and recording.onnx: `waveform` (batch, samples) at 32 kHz -> `vector` (batch, dim).

    Any batch, sounds of `seconds`. Returns path, bytes and difference (largest, as a share of the vectors' root mean
    square) of both. Raises UserError, and writes nothing, where onnxruntime answers otherwise than PyTorch.
    """
    network = network.cpu().eval()
    sounds, written = trial_sounds(round(seconds * SAMPLE_RATE), SAMPLE_RATE), []
    for side in ("imitation", "recording"):
        path = folder / f"{side}.onnx"
        with torch.inference_mode():
            expected = getattr(network, f"{side}s")(sounds).numpy()
        difference = write_graph(_Side(network, side), sounds, expected, path, ("waveform", "vector"), TOLERANCE)
        written.append({"path": path, "bytes": path.stat().st_size, "difference": difference})
    return written


def export_run(part: Run, out: Path, licence: str | None, push: str | None, public: bool) -> Mapping[str, Any]:
    """Write the network of a training to `out`, with both encoders as ONNX files, and measure these on one core."""
    config: Config = part.config
    network, seconds = load_part(part), config.data.seconds
    about = Network(replace(config.model, checkpoint=RANDOM), seconds, config.data.padding)  # its weights are here
    title = f"{part.recipe}, {part.folder.name}: recordings by vocal imitation"
    card = card_of(part, part.folder, title, config_dict(about), figures_of(part), licence)
    usage = USAGE.format(out.name, round(seconds * SAMPLE_RATE), network.dim)
    with TemporaryDirectory() as folder:
        files = write_encoders(network, seconds, Path(folder))
        beside = {of["path"].name: of["path"] for of in files}
        result = export(out, network.state_dict(), card, usage, push, public, beside)
    files = [{**of, "path": str(out / of["path"].name)} for of in files]
    rows = [[Path(of["path"]).name, f"{of['bytes']:,}", f"{of['difference']:.1g}"] for of in files]
    note = f"difference to PyTorch: largest, in root mean squares; over {TOLERANCE:g} nothing is written"
    print_table(str(out), ["file", "bytes", "difference"], rows, note)
    return {**result, "onnx": files, "latency": latency_table([of["path"] for of in files], runs=20)}


def figures_of(part: Run) -> dict[str, float]:
    """What `evaluate` found of the trained system; empty before."""
    values = evaluated(part.folder)
    found = values.get("systems", values).get(TRAINED, {})
    return {name: found[name] for name in ("mrr", "r@1", "r@2", "ndcg", "chance") if name in found}


def open_exported(folder: str | Path) -> tuple[DualEncoder, Network]:
    """The network of a folder that `export` wrote, in evaluation mode, and how sounds are cut for it.

    Raises UserError where the folder holds something else.
    """
    folder = Path(folder)
    about = config_of(Network, read_card(folder, SYSTEM).network, str(folder / CARD))
    network = DualEncoder(about.model)
    fill(network, {str(name): value for name, value in read_checkpoint(folder / WEIGHTS).items()}, folder / WEIGHTS)
    return network, about
