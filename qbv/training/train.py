"""A recipe's trainings, of the coarse protocol one for each fold: data, network, Trainer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from common.audio.loading import turn_of
from common.run.processes import all_done
from common.run.results.runs import section_of
from common.run.results.store import record
from common.run.results.tables import print_table
from common.run.training import claim, finished, fit, is_first_process
from common.run.verbs import Run
from qbv.config import PARTS, Config, chosen_parts, parts_of
from qbv.data.batches import Batch, Clips, sound_loader, train_loader
from qbv.data.prepare import made_from
from qbv.data.sets import training_pairs
from qbv.model.networks import DualEncoder
from qbv.training.system import MONITOR, DualSystem


class PairData(LightningDataModule):
    """Training pairs of a fold or data set; validation imitations, and the recordings that they are ranked among."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.training, self.validation = training_pairs(config.data, config.loss == "bce")

    def train_dataloader(self) -> DataLoader[Batch]:
        """Every imitation with its recording, as often an epoch as the recipe says."""
        return train_loader(self.training, self.config, self.seed, *turn_of(self.trainer))

    def val_dataloader(self) -> list[DataLoader[Clips]]:
        """Imitations, recordings; each once."""
        sides = (self.validation.imitations, self.validation.recordings)
        return [sound_loader(of, self.config.data, *turn_of(self.trainer)[1:]) for of in sides]


def build(run: Run) -> tuple[DualSystem, PairData]:
    """System and data of one training; the initial weights depend on the seed alone."""
    config: Config = run.config
    data = PairData(config, run.seed)
    torch.manual_seed(run.seed)
    network = DualEncoder(config.model)
    steps = math.ceil(len(data.train_dataloader()) / config.trainer.accumulate_grad_batches)
    return DualSystem(config, network, steps, data.validation.targets), data


def train_run(run: Run, restart: bool = False, folds: Sequence[int] | None = None, jobs: int = 1) -> Mapping[str, Any]:
    """Train every part of a run, each from where it was interrupted; prints what it took.

    folds: of coarse, those alone. jobs: how many are trained at once, each in a process of its own. Raises UserError
    for a fold that the recipe does not have. Returns what was recorded of each part trained.
    """
    parts = chosen_parts(run, folds)
    if is_first_process():
        record(run.folder, PARTS, {"trainings": list(parts_of(run))})
    all_done(train_part, [(part, restart) for part in parts.values()], jobs)
    if not is_first_process():
        return {}
    found = {name: section_of(part.folder, "train", "no finished training") for name, part in parts.items()}
    columns = ("pairs", "recordings", "epochs", "steps")
    rows = [
        [n, *(f"{of[c]:,}" for c in columns), f"{of['best'].get(MONITOR, math.nan):.3f}"] for n, of in found.items()
    ]
    print_table(f"{run.folder}: trained", ["part", *columns, "best val/mrr"], rows)
    return {"run": run.number, "seed": run.seed, "parts": found}


def train_part(part: Run, restart: bool = False) -> None:
    """One training to its end, from where it was interrupted; does nothing when it is finished."""
    if finished(part) and not restart:
        if is_first_process():
            claim(part)  # says so when the folder holds other settings
        return
    config: Config = part.config
    system, data = build(part)
    notes = {
        "data": made_from(config.data),
        "pairs": len(data.training),
        "recordings": len(data.training.recordings),
        "passes": config.data.passes,
    }
    batch = config.data.batch
    fit(part, system, data, monitor=MONITOR, batch_size=batch, restart=restart, notes=notes, model=config.checkpoint)
