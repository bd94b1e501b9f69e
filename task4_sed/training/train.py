"""A recipe's data, network and validation, put together for the Trainer."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from common.audio.coverage import made_of, root_of
from common.audio.impulses import load_impulses
from common.run.checkpoints import checkpoint_of, fill, network_state, read_checkpoint, start_of
from common.run.errors import UserError
from common.run.training import finished, fit
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.sets import classes_of
from task4_sed.model.embedder import Embedder, check_weights
from task4_sed.model.framewise import new_network
from task4_sed.model.networks import TunedNetwork, fitted
from task4_sed.training.data import FramewiseData, SedData
from task4_sed.training.framewise import FramewiseSystem, warmup_of
from task4_sed.training.online import OnlineTeacher, TaughtSystem
from task4_sed.training.stages import StagedSystem
from task4_sed.training.system import SedSystem
from task4_sed.training.validation import validators

# By `validation.loss`: what selects a checkpoint of pre-training.
WATCHED: dict[bool, tuple[str, Literal["max", "min"]]] = {False: ("val/objective", "max"), True: ("val/loss", "min")}


def build(config: Config, seed: int) -> tuple[SedSystem, SedData]:
    """System and data of a recipe; the initial weights depend on the seed alone."""
    classes = classes_of(root_of(config.data))
    embedder = Embedder(config.encoder) if config.encoder else None
    config = replace(config, model=fitted(config.model, embedder, len(classes)))
    data = SedData(config, seed, embedder if config.encoder and config.encoder.cache else None)
    torch.manual_seed(seed)
    steps = math.ceil(len(data.train_dataloader()) / config.trainer.accumulate_grad_batches)
    chosen = validators(data.validation, config.validation, classes)
    if config.loss.kind == "baseline":
        return SedSystem(config, classes, steps, chosen, embedder), data
    impulses = None
    if config.augment.impulse_probability:
        impulses = load_impulses(config.augment.impulse_responses, SAMPLE_RATE)
    return StagedSystem(config, classes, steps, chosen, embedder, impulses=impulses), data


def build_framewise(config: Config, seed: int) -> tuple[FramewiseSystem, FramewiseData]:
    """System and data of frame-level pre-training; new layers depend on the seed alone."""
    if config.encoder is None:
        raise UserError("encoder: not set, but loss.kind is framewise; a frame-wise model such as atst-f")
    classes = config.system.does("classes")(config.data)
    data: FramewiseData = config.system.does("data")(config, seed)
    kind: type[FramewiseSystem] = config.system.does("system")
    torch.manual_seed(seed)
    bias = torch.from_numpy(data.log_odds()) if config.loss.head_bias == "prior" else None
    # Lightning leaves modes as they are.
    network = new_network(config.encoder, len(classes), config.sequence, kind.head, bias).train()
    steps = math.ceil(len(data.train_dataloader()) / config.trainer.accumulate_grad_batches)
    warmup_of(config.optimizer, steps * config.trainer.max_epochs)  # refused before anything is written
    given = config, classes, steps, network, data.validator()
    if config.teacher is not None:
        return TaughtSystem(*given, teacher=OnlineTeacher(config.teacher.checkpoint, classes)), data
    return kind(*given), data


def begin(system: SedSystem, run: Run) -> None:
    """Give student and teacher the weights of `start`; a CRNN beside a frozen encoder also begins one that trains.

    Raises UserError where that training has not been done, or is of another network or encoder.
    """
    start = run.config.start
    if start is None:
        return
    path, expected = start_file(run)
    content = read_checkpoint(path, expected)
    beside = (content.get("sed") or {}).get("encoder")
    if system.embedder is not None and beside is not None:
        check_weights(system.embedder, beside["sha256"], str(path))
    for which, network in {"student": system.student, "teacher": system.teacher}.items():
        state: dict[str, Tensor] = network_state(content, (which, f"sed_{which}"), path)
        target: nn.Module = network
        if isinstance(network, TunedNetwork):
            if any(name.startswith("as_model.") for name in state):
                state = network.from_published(state)
            elif not any(name.startswith("crnn.") for name in state):
                target = network.crnn
        fill(target, state, path).train()


def start_file(run: Run) -> tuple[Path, str | None]:
    """The checkpoint that a run begins with: the best one of a recipe's run of the same number, or a published one by
    its name in the catalogue, an address or a file."""
    from common.encoders.checkpoints import entry_of, locate

    start = run.config.start
    if (entry := entry_of(start)) is not None and entry.models:
        raise UserError(f"start: {entry.name} is an encoder alone; it goes to encoder.checkpoint")
    if entry is not None or "://" in start or Path(start).suffix:
        path, digest, _ = locate(start)
        return path, digest
    return checkpoint_of(start_of(run, start))


def train_run(run: Run, restart: bool = False) -> None:
    """Train a run to its end, from where it was interrupted; does nothing when it is finished."""
    if finished(run) and not restart:
        from common.run.training import claim

        claim(run)  # says so when the folder holds other settings
        return
    run.config.system.does("train")(run, restart)


def train_challenge(run: Run, restart: bool) -> None:
    """`train_run` of one of the challenge's recipes."""
    system, data = build(run.config, run.seed)
    begin(system, run)
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


def train_framewise(run: Run, restart: bool) -> None:
    """`train_run` of frame-level pre-training."""
    system, data = build_framewise(run.config, run.seed)
    notes = {
        "data": made_of(root_of(run.config.data)),
        "classes": list(system.classes),
        "clips": data.counts,
    }
    blocks = sum(block.batch for block in run.config.data.blocks.named().values())
    size = blocks or run.config.data.batch
    # As published, the model is that of the last epoch; the best one of a training that ends where it gets no better.
    model: Literal["best", "last"] = "last" if run.config.trainer.patience is None else "best"
    monitor, mode = WATCHED[run.config.validation.loss]
    fit(run, system, data, monitor=monitor, mode=mode, batch_size=size, restart=restart, notes=notes, model=model)
