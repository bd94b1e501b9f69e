"""Trainings of a run: one network per machine, each in a folder of its own, several at once.

Each network is small: one process keeps neither several cores nor a GPU busy. So several processes train, one thread
each, and on GPUs share them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from common.audio.loading import turn_of
from common.run import processes
from common.run.energy import cost_text, measure
from common.run.errors import UserError
from common.run.files import remove_partials
from common.run.progress import progress
from common.run.results.store import read_results, record, recorded
from common.run.results.tables import print_table
from common.run.settings import TrainerConfig
from common.run.training import claim, finished, fit, locked
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.batches import Batch, Clips, EpochSampler, WindowSampler, choose, train_loader
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.features import features_of
from task2_anomaly.data.front_end import front_end
from task2_anomaly.data.sets import (
    data_of,
    machines_of,
    of_machine,
    one_device,
    proxy_packs,
    together,
    training_pack,
    training_rows,
)
from task2_anomaly.model.networks import build_network, check_own, window_frames
from task2_anomaly.training import embedding
from task2_anomaly.training.system import AnomalySystem

Item = tuple[Run, Machine]
Work = Callable[[Run, Machine], object]
DIED = "a training process died (out of memory?); train again, with fewer --jobs; nothing that was trained is lost"


def train_run(run: Run, jobs: int | None, restart: bool) -> Mapping[str, Any]:
    """Train every machine of a run, or the second system."""
    config: Config = run.config
    if config.model.kind == "embedding":
        embedding.train(run, restart)
        return {"run": run.number, "finetuned": config.embedding.finetune}
    machines = machines_of(config.data)
    if more := _more_devices(config.trainer):
        print(f"{more}: each network takes one device; several of them train at once (--jobs)")
    compute_features([run], machines)
    train_machines(run, machines, jobs or default_jobs(), restart)
    values = read_results(run.folder)["train"]["values"]
    rows = [[of_machine(run, m).folder.name, *_figures(run, m)] for m in networks_of(run, machines)]
    cost = cost_text(values["kwh"], config.energy)
    print_table(f"{run.folder}: trained", ["network", "epochs", "steps", "loss"], rows, cost)
    return {"run": run.number, "seed": run.seed, "machines": len(machines), "kwh": values["kwh"]}


def _more_devices(trainer: TrainerConfig) -> str | None:
    """The setting by which somebody asked for more than one device."""
    if trainer.num_nodes > 1:
        return f"trainer.num_nodes={trainer.num_nodes}"
    asked = str(trainer.devices)
    one = asked in ("1", "auto") or one_device(trainer.devices) == trainer.devices
    return None if one else f"trainer.devices={asked}"


def networks_of(run: Run, machines: Sequence[Machine]) -> list[Machine]:
    """A machine for each network that the machines have; all of them where each has its own."""
    by_folder = {of_machine(run, machine).folder: machine for machine in reversed(machines)}
    return [machine for machine in machines if machine in by_folder.values()]


def _figures(run: Run, machine: Machine) -> list[str]:
    values = read_results(of_machine(run, machine).folder)["train"]["values"]
    return [str(values["epochs"]), str(values["steps"]), f"{values['best'].get('train/loss', float('nan')):.4f}"]


def default_jobs() -> int:
    """Trainings at once: one per core, or four per GPU."""
    return 4 * torch.cuda.device_count() or processes.usable_cores()


class MachineData(LightningDataModule):
    """Batches of one machine's network: of its clips, or of all machines that it is for."""

    def __init__(self, config: Config, machine: Machine, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        packs = [training_pack(config.data, other) for other in together(config.data, machine)]
        own = [features_of(pack, config.front_end) for pack in packs]
        self.normals = Clips(own, [training_rows(len(of), config.scoring.held_out) for of in own])
        self.proxies: Clips | None = None
        if config.model.classifies:
            packs = proxy_packs(config.data, machine)
            others = Clips([features_of(pack, config.front_end) for pack in packs])
            self.proxies = choose(others, config.data.proxy_clips, seed)

    def train_dataloader(self) -> DataLoader[Batch]:
        """A random snippet of every normal clip; an autoencoder takes as many windows of a clip as it has, or each."""
        data, length, epoch = self.config.data, window_frames(self.config), turn_of(self.trainer).epoch
        if data.windows == "every":
            windows = WindowSampler(
                self.normals.windows(length), data.batch, self.seed, epoch, left_out=data.validation_split
            )
            return train_loader(self.normals, None, length, windows)
        per_clip = 1 if self.proxies else int(self.normals.windows(length).max())
        counts = (len(self.normals), len(self.proxies or ()))
        sampler = EpochSampler(*counts, data.batch, self.seed, epoch, per_clip, data.proxy_ends)
        return train_loader(self.normals, self.proxies, length, sampler)


def compute_features(runs: Sequence[Run], machines: Sequence[Machine]) -> None:
    """Have all spectrograms that the trainings need on disk, so that no two processes compute the same ones.

    The runs have the same front end.
    """
    packs = {
        training_pack(run.config.data, other)
        for run in runs
        for machine in machines
        for other in together(run.config.data, machine)
    }
    for run in runs:
        if run.config.model.classifies:
            packs |= {pack for machine in machines for pack in proxy_packs(run.config.data, machine)}
    with progress("front end", len(packs), "packs") as advance:
        for pack in sorted(packs):
            features_of(pack, runs[0].config.front_end)
            advance(note=pack.name)


def build(run: Run, machine: Machine) -> tuple[AnomalySystem, MachineData]:
    """System and data of one machine; the initial weights depend on the seed alone."""
    data = MachineData(run.config, machine, run.seed)
    torch.manual_seed(run.seed)
    bands = front_end(run.config.front_end).num_mels
    network = build_network(run.config.model, bands)
    check_own(run.config.model, network, bands, window_frames(run.config))
    return AnomalySystem(run.config, network), data


def train_machine(run: Run, machine: Machine, restart: bool = False) -> None:
    """Train one machine's network to its end, from where it was interrupted; nothing when it is finished."""
    own = of_machine(run, machine)
    if finished(own, open_ended=True) and not restart:
        claim(own, open_ended=True)  # says so when the folder holds other settings
        return
    system, data = build(own, machine)
    batch = own.config.data.batch * (2 if data.proxies else 1)
    notes = {"data": data_of(run.config.data)}
    # Open-ended: the rate falls epoch by epoch.
    options: dict[str, Any] = {"restart": restart, "model": "last", "notes": notes, "open_ended": True}
    fit(own, system, data, monitor="train/loss", mode="min", batch_size=batch, **options)


def train_machines(run: Run, machines: Sequence[Machine], jobs: int, restart: bool = False) -> None:
    """Train every machine that is not finished, `jobs` at once; goes on where an interrupted call stopped.

    A machine whose training fails does not stop the others; it is named at the end. Raises UserError then.
    """
    networks = networks_of(run, machines)
    open_ones = [m for m in networks if restart or not finished(of_machine(run, m), open_ended=True)]
    with locked(run.folder):
        remove_partials(run.folder, recursive=False)
        claim(run, restart)
        start = time.monotonic()
        failures: dict[Machine, str] = {}
        with (
            measure(run.folder, "training", run.config.energy) as meter,
            progress("train", len(networks), "networks", done=len(networks) - len(open_ones)) as advance,
        ):
            work = partial(_train, restart=restart)
            for (_, machine), problem in each(work, [(run, m) for m in open_ones], jobs):
                advance(note=str(machine))
                if problem:
                    failures[machine] = problem
        if failures:
            machine, problem = next(iter(failures.items()))
            more = f" (and {len(failures) - 1} more machines)" if len(failures) > 1 else ""
            raise UserError(f"{machine}: {problem}{more}")
        # An earlier session may have ended between the last network and this line.
        if open_ones or recorded(run.folder, "train") is None:
            values = {"machines": [str(m) for m in machines], "jobs": jobs, "kwh": meter.kwh}
            record(run.folder, "train", {**values, "seconds_of_last_session": round(time.monotonic() - start, 2)})


def each(work: Work, items: Sequence[Item], jobs: int) -> Iterator[tuple[Item, str | None]]:
    """Do `work(run, machine)` for every item, `jobs` at once: (item, what went wrong or None) as they end."""
    died = f"{items[0][0].folder}: {DIED}" if items else DIED
    for item, _, problem in processes.each(work, items, jobs, torch.cuda.device_count(), died):
        yield item, problem


def _train(run: Run, machine: Machine, restart: bool) -> None:
    train_machine(run, machine, restart)
