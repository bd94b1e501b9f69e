"""A trained network as a folder for others (`export`), and back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.encoders import RANDOM
from common.run.checkpoints import read_checkpoint
from common.run.config import config_dict, config_of
from common.run.export import CARD, WEIGHTS, card_of, evaluated, export, figures_in, read_card
from common.run.verbs import Run
from task6_retrieval.config import Config, DataConfig, ModelConfig
from task6_retrieval.inference.checkpoints import load_network
from task6_retrieval.model.networks import DualEncoder, build_network, fill_network

SYSTEM = "task6_retrieval"
USAGE = """from task6_retrieval.inference.exported import open_exported

network, config = open_exported("{}")
vectors = network.sentences(["a dog barks far away"])"""


@dataclass(frozen=True)
class Network:
    """What the network is made of, and how clips are cut for it."""

    model: ModelConfig
    window_seconds: float
    segment_seconds: float
    test_crop: Literal["centre", "grid"]


def export_run(run: Run, out: Path, licence: str | None, push: str | None, public: bool) -> Mapping[str, Any]:
    """Write the run's network to `out`. Frozen encoders that lie elsewhere are only named."""
    config: Config = run.config
    network, audio, data = load_network(run), config.model.audio, config.data
    if not audio.frozen and audio.checkpoint is not None:
        audio = replace(audio, checkpoint=RANDOM)  # its weights are here
    about = Network(replace(config.model, audio=audio), data.window_seconds, data.segment_seconds, data.test_crop)
    state = {name: of for name, of in network.state_dict().items() if not name.startswith(network.borrowed())}
    figures = figures_in(evaluated(run.folder).get("sets", {}), 2)
    metrics = {name: value for name, value in figures.items() if "@" in name}
    card = card_of(run, run.folder, f"{run.recipe}: sounds by sentences", config_dict(about), metrics, licence)
    return export(out, state, card, USAGE.format(out.name), push, public)


def open_exported(folder: str | Path) -> tuple[DualEncoder, Config]:
    """The network of a folder that `export` wrote, in evaluation mode, and how clips are cut for it.

    Raises UserError where the folder holds something else.
    """
    folder = Path(folder)
    card = read_card(folder, SYSTEM)
    of = config_of(Network, card.network, str(folder / CARD))
    data = DataConfig(window_seconds=of.window_seconds, segment_seconds=of.segment_seconds, test_crop=of.test_crop)
    config = Config(model=of.model, data=data)
    state = {str(name): value for name, value in read_checkpoint(folder / WEIGHTS).items()}
    return fill_network(build_network(config), state, folder / WEIGHTS), config
