"""Training with the Lightning Trainer: everything that is the same for every system.

A system is a LightningModule without file access; a data module gives it batches. `fit` adds what a person expects
of a training: it resumes by itself, shows progress, writes metrics, measures energy, keeps the best and the last
checkpoint, and gives the same numbers again for the same seed, however often it was interrupted.
"""

import logging
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from filelock import FileLock, Timeout
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from common.run.callbacks import (
    AtomicCheckpoints,
    Checkpoint,
    Divergence,
    History,
    Interruption,
    Patience,
    Progress,
    SeedEveryStep,
    WithinEpoch,
    check_resumable,
)
from common.run.config import config_dict, differences, dump, load_config
from common.run.energy import EnergyConfig, measure
from common.run.errors import UserError
from common.run.files import remove_partials, sha256, write_text
from common.run.imports import owns
from common.run.processes import keep_memory, say_unusable_gpu
from common.run.results.store import CONFIG, record, recorded
from common.run.settings import TrainerConfig
from common.run.tensorboard import summarise
from common.run.verbs import Run
from common.run.yaml_lines import NotYamlError, read_yaml

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"


class Networks(Protocol):
    """What `fit` needs of a system beyond Lightning's own interface."""

    def networks(self) -> list[torch.nn.Module]:
        """The networks that torch.compile may compile in place."""


def is_first_process() -> bool:
    """Whether this is the one of several training processes that writes the files of the run."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def locked(folder: Path) -> Any:
    """Only one process works in a run's folder; the lock ends with the process, also after kill -9."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"{folder}: another process is working on this run") from None


def claim(run: Run, restart: bool = False, open_ended: bool = False) -> None:
    """Make `run.folder` this run's own: write its config, or check that the one there is the same.

    What changes no number, who submits it and what is searched, may differ; where a training is `open_ended`, a
    greater number of epochs.
    """
    config = {**config_dict(run.config), "seed": run.seed}
    written = run.folder / CONFIG
    if written.is_file() and not restart:
        there, now = ({**of, "submission": None, "tune": None} for of in (_settings_in(written, run), config))
        changed = differences(there, now)
        longer = len(changed) == 1 and _is_longer(there, now)
        if longer and not open_ended:
            changed = [f"{changed[0]} (its learning rate follows all epochs: more of them are another training)"]
        if changed and not (longer and open_ended):
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise UserError(
                f"{run.folder}: holds a run with other settings: {changed[0]}{more}; "
                "--restart replaces it, --run-dir DIR puts this one elsewhere"
            )
    elif restart:
        import shutil

        for old in ("checkpoints", "codecarbon", "tensorboard", "scores", "predictions", "plots"):
            shutil.rmtree(run.folder / old, ignore_errors=True)
        for name in ("results.json", "metrics.csv"):
            (run.folder / name).unlink(missing_ok=True)
    for own in owns(run.config):
        if own.text is not None:
            write_text(run.folder / own.key, own.text)
    write_text(written, f"# {run.task.name}, recipe {run.recipe}, training {run.number}\n" + dump(config))


def _is_longer(there: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    old, new = (of.get("trainer", {}).get("max_epochs") for of in (there, now))
    return isinstance(old, int) and isinstance(new, int) and new > old


def _settings_in(path: Path, run: Run) -> dict[str, Any]:
    """The config that a run wrote; settings that are younger than the run have their defaults, as it had them."""
    plain = _read_config(path)
    try:
        return config_dict(load_config(type(run.config), run.task.recipes, str(path)))
    except UserError:  # it has what no longer is a setting
        return plain


def _read_config(path: Path) -> dict[str, Any]:
    """The config that a run wrote. Raises UserError where it is damaged."""
    try:
        config, _ = read_yaml(path.read_text(encoding="utf-8"))
    except (NotYamlError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path}: not valid YAML, damaged; --restart replaces the run in this folder")
    return config


def finished(run: Run, open_ended: bool = False) -> bool:
    """Whether the training in this folder came to its end; an `open_ended` one: to as many epochs as asked for now."""
    values = recorded(run.folder, "train") if (run.folder / BEST).is_file() else None
    if not open_ended or values is None:
        return values is not None
    epochs = values.get("epochs")
    return not isinstance(epochs, int) or epochs >= run.config.trainer.max_epochs


def fit(
    run: Run,
    system: LightningModule,
    data: LightningDataModule,
    *,
    monitor: str,
    mode: Literal["max", "min"] = "max",
    batch_size: int,
    restart: bool = False,
    notes: Mapping[str, Any] | None = None,
    model: Literal["best", "last"] = "best",
    open_ended: bool = False,
    percent: bool = False,
) -> None:
    """Train `system` until its last epoch, from where an interrupted training of the same run stopped.

    The best checkpoint by `monitor` (a logged metric) and the last one stand in checkpoints/, metrics.csv has a row
    an epoch, results.json the sections "checkpoint" (the one that is the `model`, and its SHA-256) and "train".
    `batch_size` is the recipe's number of clips of a step. `open_ended`: no schedule spans the epochs, so that a
    finished training goes on where a recipe asks for more of them. `percent`: the `monitor` is a share that the task's
    tables show in per cent.
    """
    config: TrainerConfig = run.config.trainer
    energy: EnergyConfig = run.config.energy
    first = is_first_process()
    quiet()
    check_devices(config)
    with locked(run.folder) if first else nullcontext():
        if first:
            remove_partials(run.folder)
            claim(run, restart, open_ended)
        else:
            energy = replace(energy, enabled=False)  # the first process measures the whole machine
        # With `restart` the other processes may see what the first one is about to remove.
        if finished(run, open_ended) and (first or not restart):
            return
        if config.threads:
            torch.set_num_threads(config.threads)
        keep_memory()
        with measure(run.folder, "training", energy) as meter:
            bar = Progress(batch_size, monitor, stage_of(run), percent)
            history, seconds = _train(run, system, data, config, monitor, mode, bar, meter)
        if system.trainer.interrupted:
            raise KeyboardInterrupt
        if system.trainer.is_global_zero:
            # "train" is what `finished` looks for: it comes last.
            file = BEST if model == "best" else LAST
            record(run.folder, "checkpoint", {"file": file, "sha256": sha256(run.folder / file)})
            record(
                run.folder,
                "train",
                {
                    "recipe": run.recipe,
                    "run": run.number,
                    "seed": run.seed,
                    "config": config_dict(run.config),
                    "epochs": len(history),
                    "steps": system.trainer.global_step,
                    "monitor": monitor,
                    "best": _best(history, monitor, mode),
                    "seconds_of_last_session": round(seconds, 2),
                    "kwh": meter.kwh,
                    "energy_measured": energy.enabled,
                    **(notes or {}),
                },
            )
            summarise(run)


def stage_of(run: Run) -> str:
    """What a training is called while it runs: its part of the run too, `train split25/devices/a`."""
    parts = run.folder.parts
    below = parts[len(parts) - parts[::-1].index(name) :] if (name := f"run{run.number}") in parts else ()
    return f"train {'/'.join(below)}".strip()


def _train(
    run: Run,
    system: LightningModule,
    data: LightningDataModule,
    config: TrainerConfig,
    monitor: str,
    mode: Literal["max", "min"],
    bar: Progress,
    meter: Any,
) -> tuple[list[dict[str, float]], float]:
    history = History(run.folder / "metrics.csv", meter)
    if config.compile:
        for network in cast(Networks, system).networks():
            network.compile()
    interruption = Interruption()
    trainer = build_trainer(run, config, [interruption, history, bar], monitor, mode)
    _prepare_devices(trainer, system, config, bar)
    last = run.folder / LAST
    if last.is_file():
        check_resumable(last)
    start = time.monotonic()
    try:
        with interruption.awaited():
            trainer.fit(system, data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    except SystemExit:  # Lightning's way to end after Ctrl-C
        raise KeyboardInterrupt from None
    return history.rows, time.monotonic() - start


def _prepare_devices(trainer: Trainer, system: LightningModule, config: TrainerConfig, bar: Progress) -> None:
    """Say what several devices do to the batch; what no device changes is not sent from one to the others."""
    together = trainer.world_size
    if config.accelerator != "cpu":
        say_unusable_gpu()
    if trainer.strategy.root_device.type == "cuda":
        torch.set_float32_matmul_precision(config.matmul_precision)
    batch = bar.batch_size
    if config.divide_batch:
        bar.batch_size = batch // together
    elif together > 1 and is_first_process():
        print(
            f"{together} devices x batch {batch} = {together * batch} clips a step, the recipe's is {batch}: "
            "trainer.divide_batch=true divides it",
            file=sys.stderr,
        )
    # DDP would send every buffer to all processes at every step.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(system, constants(system))


def constants(system: torch.nn.Module) -> list[str]:
    """Names of the buffers that stay out of checkpoints: windows, teachers' logits; the same everywhere."""
    return [
        f"{path}.{name}" if path else name
        for path, module in system.named_modules()
        for name in module._non_persistent_buffers_set
    ]


def check_devices(config: TrainerConfig) -> None:
    """Raise UserError, before anything is written, where this machine has not the devices that a recipe asks for."""
    asked = {name: getattr(config, name) for name in ("accelerator", "devices", "num_nodes", "strategy", "precision")}
    try:
        Trainer(
            **asked, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"trainer.accelerator={config.accelerator}, devices={config.devices}, strategy={config.strategy}, "
            f"precision={config.precision}: not on this machine ({reason})"
        ) from None


def build_trainer(
    run: Run, config: TrainerConfig, callbacks: list[Callback], monitor: str, mode: Literal["max", "min"]
) -> Trainer:
    """The Trainer of a run: checkpoints, loggers, seeding and the recipe's switches."""
    folder = run.folder / "checkpoints"
    common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
    # "last" is written after "best": what a killed training resumes from has seen the best of its epochs.
    checkpoints = [
        Checkpoint(filename="best", monitor=monitor, mode=mode, save_top_k=1, **common),
        Checkpoint(filename="last", every_n_epochs=1, save_on_train_epoch_end=True, save_top_k=1, **common),
    ]
    if config.checkpoint_steps:
        checkpoints.append(Checkpoint(filename="last", every_n_train_steps=config.checkpoint_steps, **common))
    added: list[Callback] = []
    if config.weight_average:
        added.append(EMAWeightAveraging(decay=config.weight_average))
    if config.patience is not None:
        added.append(Patience(monitor, mode, config.patience))
    return Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        precision=config.precision,
        max_epochs=config.max_epochs,
        accumulate_grad_batches=config.accumulate_grad_batches,
        gradient_clip_val=config.gradient_clip_val,
        check_val_every_n_epoch=min(config.check_val_every_n_epoch, config.max_epochs),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=_loggers(run, config),
        plugins=[AtomicCheckpoints()],
        callbacks=[SeedEveryStep(run.seed), WithinEpoch(), Divergence(), *added, *callbacks, *checkpoints],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=10,
    )


def _loggers(run: Run, config: TrainerConfig) -> list[Logger]:
    loggers: list[Logger] = [TensorBoardLogger(run.folder, name="", version="tensorboard")]
    if config.wandb:
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            if error.name not in ("wandb", None):
                raise UserError(f"trainer.wandb=true: the package wandb does not import ({error})") from None
            raise UserError("trainer.wandb=true needs the package wandb: .venv/bin/uv pip install wandb") from None
        from lightning.pytorch.loggers import WandbLogger

        loggers.append(
            WandbLogger(project=run.task.name, name=f"{run.recipe}-{run.number}", save_dir=run.folder, id=None)
        )
    return loggers


def _best(history: list[dict[str, float]], monitor: str, mode: Literal["max", "min"]) -> dict[str, float]:
    scored = [row for row in history if monitor in row]
    if not scored:
        return {}
    return (max if mode == "max" else min)(scored, key=lambda row: row[monitor])


def quiet() -> None:
    """Lightning's remarks are for its developers; progress and errors are shown by us."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
    warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
    threading.excepthook = _thread_failed


def _thread_failed(of: threading.ExceptHookArgs) -> None:
    """TensorBoard's writer raises what failed in its thread, a full disk, in the caller too: once is enough."""
    if type(of.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(of)


def gather_in_order(parts: Sequence[tuple[Tensor, ...]], world_size: int) -> tuple[np.ndarray, ...]:
    """What all processes predicted for a set: (rows in ascending order, each once; the other tensors in that order).

    parts: of every batch its rows (batch,) and tensors (batch, ...).
    """
    arrays = [(rows.cpu().numpy(), *(of.float().cpu().numpy() for of in others)) for rows, *others in parts]
    if world_size > 1:
        arrays = [part for of_rank in of_all_processes(arrays) for part in of_rank]
    joined = [np.concatenate(column) for column in zip(*arrays, strict=True)]
    _, first = np.unique(joined[0], return_index=True)
    return tuple(column[first] for column in joined)


def of_all_processes(value: Any) -> list[Any]:
    """What each process of a training has for `value`, in their order; all of them wait for each other."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    return found


def folder_of(trainer: Trainer) -> Path:
    """A folder of the run that a Trainer of `build_trainer` works on, for what does not fit into memory."""
    folder = Path(str(trainer.log_dir))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
