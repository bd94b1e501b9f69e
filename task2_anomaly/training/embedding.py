"""Training of the second system: an encoder that is fine-tuned, or frozen, and each machine's normal clips.

Fine-tuning is an auxiliary classification of machines, sections and attributes, as in the strongest systems of DCASE
2021 to 2025; its embeddings are what counts.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from common.audio.packs import open_pack
from common.run.progress import progress
from common.run.seeds import mix_seed
from common.run.training import claim, finished, fit, is_first_process
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.embeddings import embeddings_of
from task2_anomaly.data.layout import (
    TRAIN_PARTS,
    machines_of,
    of_machine,
    pack_of,
    packed,
    parse_clip,
    training_pack,
)
from task2_anomaly.data.split import held_out_rows, training_rows
from task2_anomaly.model.backends import NORMAL_CLIPS, Normal, write_normal
from task2_anomaly.model.embedder import Embedder, new_encoder
from task2_anomaly.training.system import Finetuning

Indices = npt.NDArray[np.int64]


class ClipData(LightningDataModule):
    """Normal training clips of all machines, but for those held out, and their classes: machine and attributes."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        sources = [
            (machine, open_pack(pack_of(config.data, part, machine)))
            for part, machine in packed(config.data, TRAIN_PARTS)
        ]
        self.packs = [pack for _, pack in sources]
        rows = [training_rows(len(pack), config.scoring.held_out) for pack in self.packs]
        keys = [
            (str(machine), parse_clip(pack.names[i]).attributes)
            for (machine, pack), of in zip(sources, rows, strict=True)
            for i in of
        ]
        self.classes = sorted(set(keys))
        self.labels = np.array([self.classes.index(key) for key in keys])
        self.pack = np.repeat(np.arange(len(rows)), [len(of) for of in rows])
        self.row = np.concatenate(rows)
        self.samples = min(int(np.asarray(pack.lengths).min()) for pack in self.packs)

    def train_dataloader(self) -> DataLoader[Any]:
        """Every clip once an epoch, a random piece of the shortest clip's length."""
        return DataLoader(_Pieces(self), batch_size=None, sampler=_Order(self))


class _Pieces(Dataset[tuple[Tensor, Tensor]]):
    """Batches: an item is (clips, seeds of their first samples)."""

    def __init__(self, data: ClipData) -> None:
        self.data = data

    def __getitem__(self, drawn: tuple[Indices, Indices]) -> tuple[Tensor, Tensor]:
        data, (chosen, seeds) = self.data, drawn
        waveform = np.empty((len(chosen), data.samples), np.float32)
        for number in np.unique(data.pack[chosen]):
            here = np.flatnonzero(data.pack[chosen] == number)
            pack, rows = data.packs[number], data.row[chosen[here]]
            starts = seeds[here] % (np.asarray(pack.lengths)[rows] - data.samples + 1)
            waveform[here] = pack.read_many(rows, starts, data.samples)
        return torch.from_numpy(waveform), torch.from_numpy(data.labels[chosen])


class _Order(Sampler[tuple[Indices, Indices]]):
    """Batches of an epoch; they depend on seed and epoch alone."""

    def __init__(self, data: ClipData) -> None:
        self.data, self.batch = data, data.config.data.batch

    def __len__(self) -> int:
        return -(-len(self.data.labels) // self.batch)

    def __iter__(self) -> Iterator[tuple[Indices, Indices]]:
        epoch = self.data.trainer.current_epoch if self.data.trainer else 0
        random = np.random.default_rng(mix_seed(self.data.seed, epoch))
        order = random.permutation(len(self.data.labels))
        for chosen in np.split(order, range(self.batch, len(order), self.batch)):
            yield chosen, random.integers(0, 2**31, len(chosen))


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
