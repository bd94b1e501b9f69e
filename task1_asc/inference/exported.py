"""A split's network as a folder for others (`export --format folder`); `classify(..., checkpoint=FOLDER)` takes it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.run.export import card_of, evaluated, export, figures_in
from common.run.verbs import Run
from task1_asc.config import Config, of_split
from task1_asc.inference.checkpoints import float_network


def export_split(
    run: Run, split: int, out: Path, licence: str | None, push: str | None, public: bool
) -> Mapping[str, Any]:
    """Write the float network of a split to `out`; of an int8 one its float twin, of device-specific ones the general
    one."""
    network, part = float_network(run, split), of_split(run, split)
    config: Config = part.config
    if config.precision == "int8":
        config = replace(config, precision="float32")
    name = f"{run.recipe}: acoustic scenes, split {split}"
    metrics = figures_in(evaluated(part.folder))
    card = card_of(replace(part, config=config), part.folder, name, {"split": split}, metrics, licence)
    usage = f'import task1_asc\n\ntask1_asc.classify("recording.wav", checkpoint="{out.name}")'
    return export(out, network.state_dict(), card, usage, push, public)
