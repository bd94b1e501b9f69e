"""The size of a recipe's network."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.run.results.tables import print_table
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.classes import CLASSES, CLIP_SECONDS, SAMPLE_RATE
from task4_sed.data.sets import classes_of


def network_counts(run: Run) -> dict[str, int]:
    """Parameters, bytes and MACs for 10 s of audio of a recipe's network and its encoder."""
    import torch

    from common.encoders.table import macs as encoder_macs
    from common.run.complexity import count, size_of
    from task4_sed.model.embedder import Embedder
    from task4_sed.model.networks import build_network, fitted, front_end

    config: Config = run.config
    root = Path(config.data.root) if config.data.root else None
    classes = classes_of(root) if root else CLASSES
    embedder = Embedder(replace(config.encoder, checkpoint=None, train=False)) if config.encoder else None
    network = build_network(fitted(config.model, embedder, len(classes)))
    samples = int(CLIP_SECONDS * SAMPLE_RATE)
    shapes: list[tuple[int, ...]] = [(1, config.model.num_mels, front_end(config.model).num_frames(samples))]
    parameters, size, macs = 0, 0, 0
    if embedder is not None:
        shapes.append(tuple(embedder(torch.zeros(1, samples)).shape))
        parameters, size = size_of(embedder.parameters())
        projection = sum(p.numel() for p in embedder.projection.parameters() if p.dim() == 2)
        # By shapes alone: on the CPU, fused attention goes uncounted.
        macs = encoder_macs(embedder.encoder.to("meta")) + projection * shapes[-1][-1]
    counted = count(network, shapes)
    return {
        "parameters": parameters + counted.parameters,
        "bytes": size + counted.bytes,
        "macs": macs + counted.macs,
    }


def network_complexity(run: Run) -> Mapping[str, Any]:
    """Print the counts."""
    counts = network_counts(run)
    rows = [
        ["parameters", f"{counts['parameters']:,}"],
        ["bytes (float32)", f"{counts['bytes']:,}"],
        ["MACs for 10 s", f"{counts['macs']:,}"],
    ]
    print_table(f"network of recipe {run.recipe}", ["count", "value"], rows)
    return counts
