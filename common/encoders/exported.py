"""An encoder as a folder for others, and back: `create(FOLDER)`. Frame-wise MobileNets also as a graph (ONNX) there."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from common.encoders.base import Encoder, FrameEncoder
from common.encoders.matrix_mel import exportable
from common.encoders.mobilenet import FrameMobileNet
from common.run.config import config_of
from common.run.errors import UserError
from common.run.export import CARD, WEIGHTS, Card, made_here, read_card
from common.run.export import export as write_export
from common.run.onnx_graphs import trial_sounds, write_graph

SYSTEM = "encoder"
GRAPH = "model.onnx"
GRAPH_SECONDS = 10
GRAPH_TOLERANCE = 1e-4  # of a logit, as a share of the logits' root mean square
GRAPH_USAGE = "\n\n# without this software: {0}, waveform (batch, {1:,}) at 16 kHz -> logits (batch, {2}, classes)"


@dataclass(frozen=True)
class Network:
    """What an encoder is made of: a model of this package and the options of its class. source: of its weights."""

    model: str
    options: dict[str, Any]
    source: dict[str, str] | None


def export(
    encoder: Encoder,
    folder: str | Path,
    *,
    data: str | None = None,
    metrics: dict[str, Any] | None = None,
    licence: str | None = None,
    config: dict[str, Any] | None = None,
    push: str | None = None,
    public: bool = False,
) -> dict[str, Any]:
    """Write an encoder that `create` made, with the weights that it has now, as a folder that `create` takes.

    data: what it was trained on, "toy" for toys; metrics: {name: figure}; config: of its training. push: OWNER/NAME on
    the Hugging Face Hub, private unless `public`. Raises UserError for options that JSON cannot hold.
    """
    folder = Path(folder)
    try:
        options = json.loads(json.dumps(encoder.options))
    except TypeError as error:
        raise UserError(f"{folder}: {encoder.name} has an option that cannot be written ({error})") from None
    card = Card(
        system=SYSTEM,
        name=f"{folder.resolve().name} ({encoder.name})",
        network={"model": encoder.name, "options": options, "source": encoder.checkpoint},
        config=config or {},
        recipe=None,
        run=None,
        data=data,
        metrics=metrics or {},
        licence=licence,
        made_with=made_here(),
    )
    usage = f'from common import encoders\n\nencoders.create("{folder.name}").embed("recording.wav")'
    with TemporaryDirectory() as place:
        beside, more = graph_beside(encoder, Path(place))
        return write_export(folder, encoder.state_dict(), card, usage + more, push, public, beside)


class Windows(nn.Module):
    """Waveforms (batch, samples) -> frame logits (batch, frames, classes)."""

    def __init__(self, encoder: FrameEncoder, frames: int) -> None:
        super().__init__()
        self.encoder, self.frames = encoder, frames

    def forward(self, waveform: Tensor) -> Tensor:
        logits = self.encoder.from_mel(self.encoder.mel(waveform), self.frames).frame_logits
        assert logits is not None
        return logits


def graph_beside(encoder: Encoder, folder: Path, whole: nn.Module | None = None) -> tuple[dict[str, Path], str]:
    """{name: file} of the graph that an exported folder has beside the weights, and what its README says of it.

    Of frame-wise MobileNets with heads alone. whole: a network, as of `Windows`, that the encoder is a part of. Raises
    UserError where onnxruntime answers otherwise than PyTorch.
    """
    if not isinstance(encoder, FrameMobileNet) or encoder.strong_head is None:
        return {}, ""
    samples = GRAPH_SECONDS * encoder.sample_rate
    frames, given = encoder.num_frames(samples), trial_sounds(samples, encoder.sample_rate)
    assert frames is not None
    network, path = copy.deepcopy(whole or Windows(encoder, frames)).cpu().eval(), folder / GRAPH
    with torch.inference_mode():
        expected = network(given).numpy()
    network.encoder.front_end = exportable(network.encoder.front_end)  # type: ignore[union-attr, arg-type]
    write_graph(network, given, expected, path, ("waveform", "logits"), GRAPH_TOLERANCE)
    return {GRAPH: path}, GRAPH_USAGE.format(GRAPH, samples, frames)


def read_exported(folder: Path) -> tuple[Network, Path]:
    """What the encoder of a folder is made of, and its weights. Raises UserError where it holds something else."""
    card = read_card(folder, SYSTEM)
    return config_of(Network, card.network, str(folder / CARD)), folder / WEIGHTS
