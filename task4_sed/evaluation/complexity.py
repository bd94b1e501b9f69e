"""The size of a recipe's network."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.encoders import RANDOM
from common.run.errors import UserError
from common.run.results.tables import print_table
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.classes import CLASSES, CLIP_SECONDS, SAMPLE_RATE
from task4_sed.data.sets import classes_of

if TYPE_CHECKING:
    from task4_sed.model.framewise import FramewiseNetwork


def network_counts(run: Run) -> dict[str, int]:
    """Parameters, bytes and MACs for 10 s of audio of a recipe's network and its encoder."""
    counts: dict[str, int] = run.config.system.does("counts")(run.config)
    return counts


def challenge_counts(config: Config) -> dict[str, int]:
    """`network_counts` of one of the challenge's recipes."""
    import torch

    from common.encoders.table import macs as encoder_macs
    from common.run.complexity import count, size_of
    from task4_sed.model.embedder import Embedder
    from task4_sed.model.networks import build_network, fitted, front_end

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


def framewise_network(config: Config) -> "FramewiseNetwork":
    """The network of frame-level pre-training, with random weights."""
    from common.encoders import create
    from task4_sed.model.framewise import FramewiseNetwork

    if config.encoder is None:
        raise UserError("encoder: not set, but loss.kind is framewise; a frame-wise model such as atst-f")
    encoder: Any = create(config.encoder.name, RANDOM, num_classes=None, **config.encoder.options)
    return FramewiseNetwork(encoder, len(config.system.does("classes")(config.data)), config.sequence)


def framewise_counts(config: Config) -> dict[str, int]:
    """The same of that network; of attention in the sequence model the products of queries and keys go uncounted."""
    from torch import nn

    from common.encoders.table import macs as encoder_macs
    from common.run.complexity import count, size_of
    from task4_sed.model.framewise import FRAMES

    network = framewise_network(config)
    parameters, size = size_of(network.parameters())
    encoder, head = network.encoder, network.encoder.strong_head
    assert head is not None
    after = nn.Sequential(network.seq_model or nn.Identity(), head)
    macs = count(after, [(1, FRAMES, encoder.embedding_dim)]).macs
    encoder.strong_head = encoder.weak_head = None
    return {"parameters": parameters, "bytes": size, "macs": macs + encoder_macs(encoder.to("meta"))}


def activation_bytes(config: Config) -> int:
    """Bytes in float32 that a training batch of the recipe keeps from the student's forward pass to the backward one.

    Measured on one and two clips, whose difference every further clip of the batch adds.
    """
    import torch

    network, listen, embedder, batch = config.system.does("trained")(config)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def kept(clips: int) -> int:
        waveform, found = torch.randn(clips, int(CLIP_SECONDS * SAMPLE_RATE)), dict[int, int]()

        def pack(x: torch.Tensor) -> torch.Tensor:
            found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        inputs = [listen(waveform), *([embedder(waveform)] if embedder else [])]
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            graph = network(*inputs)  # holds what it keeps, so that no address is used twice
        del graph
        return sum(size for address, size in found.items() if address not in weights)

    one, two = kept(1), kept(2)
    return one + (batch - 1) * (two - one)


def framewise_parts(config: Config) -> tuple[Any, Any, Any, int]:
    """The network that trains, its front end, what embeds beside it, and the clips of a batch."""
    network = framewise_network(config).train()
    return network, network.encoder.front_end, None, config.data.batch


def challenge_parts(config: Config) -> tuple[Any, Any, Any, int]:
    """The same of the student of one of the challenge's recipes."""
    from task4_sed.model.embedder import Embedder
    from task4_sed.model.networks import build_network, fitted, front_end

    embedder = Embedder(replace(config.encoder, checkpoint=RANDOM)) if config.encoder else None
    network = build_network(fitted(config.model, embedder, len(CLASSES)), embedder).train()
    batch = sum(block.batch for block in config.data.blocks.named().values())
    return network, front_end(config.model), embedder, batch


def network_complexity(run: Run) -> Mapping[str, Any]:
    """Print the counts."""
    counts = network_counts(run) | {"activations": activation_bytes(run.config)}
    rows = [
        ["parameters", f"{counts['parameters']:,}"],
        ["bytes (float32)", f"{counts['bytes']:,}"],
        ["MACs for 10 s", f"{counts['macs']:,}"],
        ["activations of a batch, bytes", f"{counts['activations']:,}"],
    ]
    print_table(f"network of recipe {run.recipe}", ["count", "value"], rows)
    return counts
