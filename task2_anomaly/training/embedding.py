"""Training of the second system: an encoder that is fine-tuned, or frozen, and each machine's normal clips.

Fine-tuning is an auxiliary classification of machines, sections and attributes, as in the strongest systems of DCASE
2021 to 2025; its embeddings are what counts.
"""

from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from common.audio.loading import ShuffledSampler, training_loader, turn_of
from common.audio.packs import open_pack
from common.run.progress import progress
from common.run.training import claim, finished, fit, is_first_process
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.batches import PieceDataset
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.embeddings import embeddings_of
from task2_anomaly.data.layout import TRAIN_PARTS, parse_clip
from task2_anomaly.data.sets import (
    held_out_rows,
    machines_of,
    of_machine,
    pack_of,
    packed,
    training_pack,
    training_rows,
)
from task2_anomaly.model.backends import NORMAL_CLIPS, Normal, write_normal
from task2_anomaly.model.embedder import Embedder, new_encoder
from task2_anomaly.training.system import Finetuning


class ClipData(LightningDataModule):
    """Normal training clips of all machines, but for those held out, and their classes: machine and attributes."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        sources = [
            (machine, open_pack(pack_of(config.data, part, machine)))
            for part, machine in packed(config.data, TRAIN_PARTS)
        ]
        packs = [pack for _, pack in sources]
        rows = [training_rows(len(pack), config.scoring.held_out) for pack in packs]
        keys = [
            (str(machine), parse_clip(pack.names[i]).attributes)
            for (machine, pack), of in zip(sources, rows, strict=True)
            for i in of
        ]
        self.classes = sorted(set(keys))
        self.pieces = PieceDataset(packs, rows, np.array([self.classes.index(key) for key in keys]))

    def train_dataloader(self) -> DataLoader[Any]:
        """Every clip once an epoch, a random piece of the shortest clip's length."""
        sampler = ShuffledSampler(len(self.pieces), self.config.data.batch, self.seed, *turn_of(self.trainer))
        return training_loader(self.pieces, sampler, workers=0)


def train(run: Run, restart: bool = False) -> None:
    """Fine-tune the encoder where the recipe says so, then learn what is normal for every machine."""
    if not run.config.embedding.finetune or (finished(run) and not restart):
        claim(run, restart)
    else:
        data = ClipData(run.config, run.seed)
        system = Finetuning(run.config, new_encoder(run.config, run.seed), len(data.classes))
        batch = run.config.data.batch
        fit(run, system, data, monitor="train/loss", mode="min", batch_size=batch, restart=restart, model="last")
    if not is_first_process():
        return
    machines, embedder = machines_of(run.config.data), Embedder(run)
    with progress("normal clips", len(machines), "machines") as advance:
        for machine in machines:
            learn_normal(run, embedder, machine, restart)
            advance(note=str(machine))


def learn_normal(run: Run, embedder: Embedder, machine: Machine, restart: bool = False) -> None:
    """Store the embeddings of a machine's normal training clips in its folder, those held out apart."""
    own, config = of_machine(run, machine), run.config
    claim(own, restart)
    pack = training_pack(config.data, machine)
    part = next(part for part in TRAIN_PARTS if pack == pack_of(config.data, part, machine))
    names, vectors = list(open_pack(pack).names), embeddings_of(run, embedder, part, machine)
    target = np.array([parse_clip(name).domain == "target" for name in names])
    rows, held = (of(len(names), config.scoring.held_out) for of in (training_rows, held_out_rows))
    normal = Normal(vectors[rows], target[rows], vectors[held], [names[i] for i in held])
    write_normal(own.folder / NORMAL_CLIPS, normal)
