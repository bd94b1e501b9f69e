"""The size of a recipe's network."""

from collections.abc import Mapping
from typing import Any

from common.run.complexity import count
from common.run.errors import UserError
from common.run.results.tables import print_table
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.front_end import front_end
from task2_anomaly.model.networks import build_network, window_frames


def network_complexity(run: Run) -> Mapping[str, Any]:
    """Parameters and MACs (as `common.run.complexity.count` has them) of the recipe's network."""
    config: Config = run.config
    if config.model.kind == "embedding":
        raise UserError(f"complexity: see `python -m common.encoders` for {config.embedding.encoder}")
    bands, frames = front_end(config.front_end).num_mels, window_frames(config)
    network = build_network(config.model, bands)
    shape = (1, 1, bands, frames) if config.model.classifies else (1, bands, frames)
    counted = count(network, shape)
    rows = [[f"{counted.parameters:,}", f"{counted.macs:,}"]]
    print_table(f"network of recipe {run.recipe}", ["parameters", f"MACs of {frames} frames"], rows)
    return {"parameters": counted.parameters, "macs": counted.macs, "frames": frames}
