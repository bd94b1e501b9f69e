"""A trained network as a folder for others (`export`), and back: `detect(..., FOLDER)`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from common.encoders import RANDOM
from common.encoders.base import FrameEncoder
from common.encoders.exported import graph_beside
from common.run.checkpoints import fill, read_checkpoint
from common.run.config import config_dict, config_of
from common.run.errors import UserError
from common.run.export import CARD, WEIGHTS, Card, card_of, evaluated, export, figures_in, made_here, read_card
from common.run.verbs import Run
from task4_sed.config import Config, EncoderConfig, ModelConfig
from task4_sed.data.audioset import output_classes
from task4_sed.inference.checkpoints import Loaded, Which, checkpoint_of, load_network
from task4_sed.inference.postprocess.csebbs import CSEBBS_FILE
from task4_sed.model.framewise import FramewiseNetwork, load_framewise, named_network, network_of
from task4_sed.model.networks import network_beside

SYSTEM = "task4_sed"


@dataclass(frozen=True)
class Network:
    """What the network is made of; encoder_sha256: the fingerprint of the encoder that belongs beside it."""

    which: Which
    classes: tuple[str, ...]
    model: ModelConfig
    encoder: EncoderConfig | None
    encoder_sha256: str | None


def export_run(run: Run, out: Path, licence: str | None, push: str | None, public: bool) -> Mapping[str, Any]:
    """Write the run's best network with its tuned boxes to `out`. A frozen encoder is only named."""
    config: Config = run.config
    path, expected = checkpoint_of(run, None)
    if (framewise := read_checkpoint(path, expected).get("framewise")) is not None:
        return _export_framewise(run, path, framewise, out, licence, push, public)
    which = config.postprocess.network
    loaded = load_network(path, which, config.model, expected, config.encoder)
    encoder = None if loaded.encoder is None else replace(loaded.encoder, cache=False)
    about = Network(which, loaded.classes, loaded.network.config, encoder, loaded.fingerprint)
    name = f"{run.recipe}: sound events of {len(loaded.classes)} classes"
    metrics = figures_in(evaluated(run.folder).get("sets", {}), 3)
    card = card_of(run, run.folder, name, config_dict(about), metrics, licence)
    usage = f'import task4_sed\n\ntask4_sed.detect("recording.wav", model="{out.name}")'
    boxes = {CSEBBS_FILE: run.folder / CSEBBS_FILE}
    beside = {name: source for name, source in boxes.items() if source.is_file()}
    return export(out, loaded.network.state_dict(), card, usage, push, public, beside)


class Whole(nn.Module):
    """Waveforms (batch, samples) -> frame logits (batch, 250, classes)."""

    def __init__(self, network: FramewiseNetwork) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> FrameEncoder:
        """Whose front end a graph has in another form."""
        return self.network.encoder

    def forward(self, waveform: Tensor) -> Tensor:
        logits = self.network(self.encoder.front_end(waveform)).frame_logits
        assert logits is not None
        return logits


def _export_framewise(
    run: Run, path: Path, about: Mapping[str, Any], out: Path, licence: str | None, push: str | None, public: bool
) -> Mapping[str, Any]:
    """The same of a network of frame-level pre-training, whose encoder is a part of it.

    MobileNets, with or without a sequence model, also as a graph.
    """
    network, classes = load_framewise(path)
    encoder = {**about["encoder"], "checkpoint": RANDOM}  # its weights are the network's
    name = f"{run.recipe}: sound events of {len(classes)} classes"
    card = card_of(run, run.folder, name, {**about, "encoder": encoder}, figures_in(evaluated(run.folder), 2), licence)
    return _write_framewise(network, card, out, push, public)


def export_named(name: str, out: Path, licence: str | None, push: str | None, public: bool) -> Mapping[str, Any]:
    """The same of a published network by its name, or of a checkpoint. Raises UserError for any other."""
    network, classes = named_network(name)
    classes = output_classes() if classes is None else classes
    head = network.encoder.strong_head
    if head is None or head.out_features != len(classes):
        raise UserError(f"{name}: no network of AudioSet-strong's {len(classes)} classes")
    of = network.encoder
    floor, depth = of.front_end.top_db_per_batch, of.options.get("depth")
    encoder = EncoderConfig(of.name, RANDOM, batch_floor=floor, depth=depth)
    sequence = None if network.sequence is None else asdict(network.sequence)
    about: dict[str, Any] = {"classes": list(classes), "encoder": asdict(encoder), "sequence": sequence}
    about["head"] = of.head_kind
    card = Card(SYSTEM, f"{out.name} ({name})", about, {}, None, None, None, {}, licence, made_here())
    return _write_framewise(network, card, out, push, public)


def _write_framewise(
    network: FramewiseNetwork, card: Card, out: Path, push: str | None, public: bool
) -> Mapping[str, Any]:
    usage = f'import task4_sed\n\ntask4_sed.detect("recording.wav", "{out.name}")'
    with TemporaryDirectory() as place:
        beside, more = graph_beside(network.encoder, Path(place), Whole(network))
        return export(out, network.state_dict(), card, usage + more, push, public, beside)


def open_framewise(folder: Path) -> tuple[FramewiseNetwork, tuple[str, ...]] | None:
    """The network of a folder and its classes, where it is one of frame-level pre-training."""
    card = read_card(folder, SYSTEM)
    if "model" in card.network:
        return None
    network = network_of(card.network, folder / CARD)
    fill(network, {str(k): v for k, v in read_checkpoint(folder / WEIGHTS).items()}, folder / WEIGHTS)
    return network.eval(), tuple(card.network["classes"])


def open_exported(folder: Path) -> Loaded:
    """The network of a folder that `export` wrote. Raises UserError where it holds something else."""
    card = read_card(folder, SYSTEM)
    of = config_of(Network, card.network, str(folder / CARD))
    network = network_beside(of.model, of.encoder)
    fill(network, {str(k): v for k, v in read_checkpoint(folder / WEIGHTS).items()}, folder / WEIGHTS)
    return Loaded(network, of.classes, of.encoder, of.encoder_sha256, str(folder))
