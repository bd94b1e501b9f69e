"""A trained network as a folder for others (`export`), and back: `detect(..., checkpoint=FOLDER)`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.run.checkpoints import fill, read_checkpoint
from common.run.config import config_dict, config_of
from common.run.export import CARD, WEIGHTS, card_of, evaluated, export, figures_in, read_card
from common.run.verbs import Run
from task4_sed.config import Config, EncoderConfig, ModelConfig
from task4_sed.inference.checkpoints import Loaded, Which, checkpoint_of, load_network
from task4_sed.inference.postprocess.csebbs import CSEBBS_FILE
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
    which = config.postprocess.network
    loaded = load_network(path, which, config.model, expected, config.encoder)
    encoder = None if loaded.encoder is None else replace(loaded.encoder, cache=False)
    about = Network(which, loaded.classes, loaded.network.config, encoder, loaded.fingerprint)
    name = f"{run.recipe}: sound events of {len(loaded.classes)} classes"
    metrics = figures_in(evaluated(run.folder).get("sets", {}), 3)
    card = card_of(run, run.folder, name, config_dict(about), metrics, licence)
    usage = f'import task4_sed\n\ntask4_sed.detect("recording.wav", checkpoint="{out.name}")'
    boxes = {CSEBBS_FILE: run.folder / CSEBBS_FILE}
    beside = {name: source for name, source in boxes.items() if source.is_file()}
    return export(out, loaded.network.state_dict(), card, usage, push, public, beside)


def open_exported(folder: Path) -> Loaded:
    """The network of a folder that `export` wrote. Raises UserError where it holds something else."""
    card = read_card(folder, SYSTEM)
    of = config_of(Network, card.network, str(folder / CARD))
    network = network_beside(of.model, of.encoder)
    fill(network, {str(k): v for k, v in read_checkpoint(folder / WEIGHTS).items()}, folder / WEIGHTS)
    return Loaded(network, of.classes, of.encoder, of.encoder_sha256, str(folder))
