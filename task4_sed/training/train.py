"""A recipe's data, network and validation, put together for the Trainer."""

import math
from dataclasses import asdict, replace

import torch

from common.audio.coverage import made_of, root_of
from common.run.training import finished, fit
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.sets import classes_of
from task4_sed.model.embedder import Embedder
from task4_sed.model.networks import fitted
from task4_sed.training.data import SedData
from task4_sed.training.system import SedSystem
from task4_sed.training.validation import validators


def build(config: Config, seed: int) -> tuple[SedSystem, SedData]:
    """System and data of a recipe; the initial weights depend on the seed alone."""
    classes = classes_of(root_of(config.data))
    embedder = Embedder(config.encoder) if config.encoder else None
    config = replace(config, model=fitted(config.model, embedder, len(classes)))
    data = SedData(config, seed, embedder if config.encoder and config.encoder.cache else None)
    torch.manual_seed(seed)
    steps = math.ceil(len(data.train_dataloader()) / config.trainer.accumulate_grad_batches)
    system = SedSystem(config, classes, steps, validators(data.validation, config.validation, classes), embedder)
    return system, data


def train_run(run: Run, restart: bool = False) -> None:
    """Train a run to its end, from where it was interrupted; does nothing when it is finished."""
    if finished(run) and not restart:
        from common.run.training import claim

        claim(run)  # says so when the folder holds other settings
        return
    system, data = build(run.config, run.seed)
    fit(
        run,
        system,
        data,
        monitor="val/objective",
        batch_size=sum(data.batch),
        restart=restart,
        notes={
            "data": made_of(root_of(run.config.data)),
            "classes": list(system.classes),
            "selection": asdict(run.config.validation),  # what chose the best checkpoint
        },
    )
