"""What judges one machine as a folder for others (`export`), and back: `judge(..., checkpoint=FOLDER)`.

An autoencoder's or a classifier's network; or, of an encoder, the embeddings of the normal clips and, where it was
fine-tuned, its weights. A frozen encoder is named, not contained. The decision threshold stands in the card.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.run.checkpoints import fill, read_checkpoint
from common.run.config import config_of
from common.run.errors import UserError
from common.run.export import CARD, WEIGHTS, card_of, evaluated, export, figures_in, read_card
from common.run.verbs import Run, Task
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine, parse_machine
from task2_anomaly.data.front_end import front_end
from task2_anomaly.data.sets import is_toy, of_machine
from task2_anomaly.inference.scorers import EmbeddingScorer, NetworkScorer, Scorer
from task2_anomaly.model.backends import Normal
from task2_anomaly.model.embedder import Embedder
from task2_anomaly.model.networks import build_network

SYSTEM = "task2_anomaly"
ENCODER, VECTORS, TARGET = "encoder.", "normal.vectors", "normal.target"


@dataclass(frozen=True)
class Judge:
    """Whose recordings are judged, and from which score on they are anomalies. encoder_sha256: of its published file,
    where the encoder is not contained."""

    machine: str
    threshold: float
    encoder_sha256: str | None


def export_machine(
    run: Run,
    machine: Machine,
    scorer: Scorer,
    limit: float,
    out: Path,
    licence: str | None,
    push: str | None,
    public: bool,
) -> Mapping[str, Any]:
    """Write a machine's scorer and its decision threshold to `out`."""
    digest = None
    if isinstance(scorer, EmbeddingScorer):
        state = {VECTORS: torch.from_numpy(scorer.normal.vectors), TARGET: torch.from_numpy(scorer.normal.target)}
        encoder = scorer.embedder.encoder
        if run.config.embedding.finetune:
            state |= {f"{ENCODER}{name}": value for name, value in encoder.state_dict().items()}
        elif encoder.checkpoint:
            digest = encoder.checkpoint["sha256"]
    else:
        state = scorer.network.state_dict()
    parts = evaluated(run.folder, "evaluate").get("parts", {})
    metrics = figures_in({part: of["figures"] for part, of in parts.items()}, 2)
    card = card_of(
        run,
        run.folder if isinstance(scorer, EmbeddingScorer) else of_machine(run, machine).folder,
        f"{run.recipe}: anomalies of {machine}",
        asdict(Judge(str(machine), limit, digest)),
        {key: value for key, value in metrics.items() if str(machine) in key or machine.type in key},
        licence,
    )
    if card.data is None and is_toy(run.config.data):  # a frozen encoder has no training of its own
        card = replace(card, data="toy")
    usage = f'import task2_anomaly\n\ntask2_anomaly.judge("recording.wav", checkpoint="{out.name}")'
    return export(out, state, card, usage, push, public)


def open_exported(folder: Path) -> tuple[Scorer, float]:
    """The scorer of a folder that `export` wrote, and its threshold. Raises UserError where it holds something else."""
    card = read_card(folder, SYSTEM)
    path = str(folder / CARD)
    of, config = config_of(Judge, card.network, path), config_of(Config, card.config, path)
    machine, weights = parse_machine(of.machine), folder / WEIGHTS
    state: dict[str, Tensor] = dict(read_checkpoint(weights))
    run = Run(Task(SYSTEM, "", Config, ()), str(card.recipe), card.run or 1, folder, config)
    if config.model.kind != "embedding":
        network = build_network(config.model, front_end(config.front_end).num_mels)
        return NetworkScorer(fill(network, state, weights), config, machine), of.threshold
    for name in (VECTORS, TARGET):
        if name not in state:
            raise UserError(f"{weights}: no {name} in it, expected the embeddings of normal clips")
    vectors, target = state.pop(VECTORS).numpy(), state.pop(TARGET).numpy()
    embedder = Embedder(run, tuned={name.removeprefix(ENCODER): value for name, value in state.items()})
    found = (embedder.encoder.checkpoint or {}).get("sha256")
    if not config.embedding.finetune and found != of.encoder_sha256:
        raise UserError(f"{path}: made with an encoder of SHA-256 {of.encoder_sha256}, here it is {found}")
    normal = Normal(vectors, target, np.empty((0, vectors.shape[1])), [])
    return EmbeddingScorer(run, machine, embedder, normal), of.threshold
