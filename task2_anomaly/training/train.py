"""Trainings of a run: one network per machine, each in a folder of its own."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from common.audio.loading import turn_of
from common.run.progress import progress
from common.run.training import claim, finished, fit
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.batches import Batch, Clips, EpochSampler, choose, loader
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.features import features_of
from task2_anomaly.data.front_end import front_end
from task2_anomaly.data.sets import of_machine, proxy_packs, training_pack, training_rows
from task2_anomaly.model.networks import build_network, window_frames
from task2_anomaly.training.system import AnomalySystem


class MachineData(LightningDataModule):
    """Batches of one machine."""

    def __init__(self, config: Config, machine: Machine, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        own = features_of(training_pack(config.data, machine), config.front_end)
        self.normals = Clips([own], [training_rows(len(own), config.scoring.held_out)])
        self.proxies: Clips | None = None
        if config.model.kind == "classifier":
            packs = proxy_packs(config.data, machine)
            others = Clips([features_of(pack, config.front_end) for pack in packs])
            self.proxies = choose(others, config.data.proxy_clips, seed)

    def train_dataloader(self) -> DataLoader[Batch]:
        """A random snippet of every normal clip; an autoencoder takes as many windows of a clip as it has."""
        config = self.config
        length = window_frames(config)
        per_clip = 1 if self.proxies else max(1, int(self.normals.parts[0].num_frames.max()) - length + 1)
        sampler = EpochSampler(
            *(len(self.normals), len(self.proxies or ()), config.data.batch, self.seed),
            turn_of(self.trainer).epoch,
            per_clip,
        )
        return loader(self.normals, self.proxies, length, sampler)


def compute_features(runs: Sequence[Run], machines: Sequence[Machine]) -> None:
    """Have all spectrograms that the trainings need on disk, so that no two processes compute the same ones.

    The runs have the same front end.
    """
    packs = {training_pack(run.config.data, machine) for run in runs for machine in machines}
    for run in runs:
        if run.config.model.kind == "classifier":
            packs |= {pack for machine in machines for pack in proxy_packs(run.config.data, machine)}
    with progress("front end", len(packs), "packs") as advance:
        for pack in sorted(packs):
            features_of(pack, runs[0].config.front_end)
            advance(note=pack.name)


def build(run: Run, machine: Machine) -> tuple[AnomalySystem, MachineData]:
    """System and data of one machine; the initial weights depend on the seed alone."""
    data = MachineData(run.config, machine, run.seed)
    torch.manual_seed(run.seed)
    network = build_network(run.config.model, front_end(run.config.front_end).num_mels)
    return AnomalySystem(run.config, network), data


def train_machine(run: Run, machine: Machine, restart: bool = False) -> None:
    """Train one machine's network to its end, from where it was interrupted; nothing when it is finished."""
    own = of_machine(run, machine)
    if finished(own) and not restart:
        claim(own)  # says so when the folder holds other settings
        return
    system, data = build(own, machine)
    batch = own.config.data.batch * (2 if data.proxies else 1)
    fit(own, system, data, monitor="train/loss", mode="min", batch_size=batch, restart=restart, model="last")
