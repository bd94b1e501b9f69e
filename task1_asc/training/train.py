"""A recipe's data and network, put together for the Trainer: one training per split, and the stages that follow it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.audio.coverage import made_of, root_of
from common.audio.impulses import load_impulses
from common.audio.loading import turn_of
from common.run.checkpoints import checkpoint_of
from common.run.energy import cost_text, energy_text
from common.run.results.store import read_results, record
from common.run.results.tables import NOT_AVAILABLE, print_table
from common.run.training import BEST, LAST, claim, finished, fit, is_first_process
from common.run.verbs import Run
from task1_asc.config import Config, of_device, of_split
from task1_asc.data.batches import Batch, eval_loader, over_clips, train_loader
from task1_asc.data.sets import Clips, load_clips, own_devices
from task1_asc.data.teachers import averaged, teacher_files
from task1_asc.deployment import quantize
from task1_asc.deployment.complexity import counts_of
from task1_asc.metrics import scene_metrics, top_scene
from task1_asc.model.front_end import example_input, front_end
from task1_asc.model.networks import build_network, check_own, load_weights, new_network
from task1_asc.training.system import PARTS, QuantizeSystem, SceneSystem, steps_of

MONITOR = "val/macro_avg_acc"


class SceneData(LightningDataModule):
    """Training and validation batches of one split."""

    def __init__(self, config: Config, split: int, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.training: Clips = load_clips(config.data, "train", split)
        self.validation: Clips = load_clips(config.data, "validation", split)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Every clip of the split once an epoch."""
        return train_loader(self.training, self.config, self.seed, *turn_of(self.trainer))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation clips in order."""
        return eval_loader(self.validation, self.config, *turn_of(self.trainer)[1:])


def build(
    run: Run, split: int, network: nn.Module | None = None, quantized: bool = False
) -> tuple[SceneSystem, SceneData]:
    """System and data of one split; the initial weights depend on the seed alone, or are those of `network`."""
    config: Config = run.config
    data = SceneData(config, split, run.seed)
    if network is None:
        torch.manual_seed(run.seed)
        network = build_network(config.model)
        check_own(config.model, network, example_input(config))
    kind = QuantizeSystem if quantized else SceneSystem
    system = kind(
        config,
        network,
        steps_of(len(data.training), config.data.batch, config.trainer.accumulate_grad_batches),
        data.validation.labels,
        data.validation.devices,
        _teacher(run, data.training, split),
        _impulses(config),
    )
    return system, data


def _teacher(run: Run, clips: Clips, split: int) -> Tensor | None:
    """Mean logits of the teachers for the training clips."""
    distill = run.config.distill
    if not distill.teachers:
        return None
    return torch.from_numpy(averaged(teacher_files(distill, runs_folder(run), split), clips.names, split))


def runs_folder(run: Run) -> Path:
    """Where the runs of all recipes lie: above run<N>, whatever stage of it `run` is."""
    of_run = next(folder for folder in (run.folder, *run.folder.parents) if folder.name == f"run{run.number}")
    return of_run.parent.parent


def _impulses(config: Config) -> Tensor | None:
    if not config.augment.impulse_response_probability:
        return None
    return load_impulses(config.augment.impulse_responses, config.data.sample_rate)


def train_run(run: Run, restart: bool = False) -> Mapping[str, Any]:
    """Train every split of a run and its further stages, each from where it was interrupted; prints what it took.

    Returns what was recorded of each split; an empty mapping in all processes but the first.
    """
    for split in run.config.data.splits:
        part = of_split(run, split)
        _fit(part, split, restart)
        if is_first_process():
            print(f"{part.folder}: trained", flush=True)
        if run.config.finetune.epochs:
            for device in own_devices(part.config.data, split):
                _fit(of_device(part, device), split, restart, _trained(part))
        if run.config.quantize.epochs:
            _quantize(part, split, restart)
    return _summary(run) if is_first_process() else {}


def _summary(run: Run) -> Mapping[str, Any]:
    done = {}
    for split in run.config.data.splits:
        values = read_results(run.folder / f"split{split}")["train"]["values"]
        done[str(split)] = {key: values[key] for key in ("clips", "epochs", "steps", "kwh", "best")}
    rows = []
    for split, of in done.items():
        energy = energy_text(of["kwh"]) if run.config.energy.enabled else NOT_AVAILABLE
        rows.append([f"{split} %", *(f"{of[key]:,}" for key in ("clips", "epochs", "steps")), energy])
    kwh = sum(of["kwh"] for of in done.values())
    cost = cost_text(kwh, run.config.energy)
    print_table(f"{run.folder}: trained", ["split", "clips", "epochs", "steps", "energy"], rows, cost)
    return {"run": run.number, "seed": run.seed, "splits": done, "kwh": kwh}


def _trained(run: Run) -> nn.Module:
    """The network of a split's run. By its fixed name: other processes may come here before its hash is recorded."""
    file = LAST if run.config.checkpoint == "last" else BEST
    return load_weights(new_network(run.config, run.folder), run.folder / file)


def _fit(run: Run, split: int, restart: bool, network: nn.Module | None = None, quantized: bool = False) -> None:
    if finished(run) and not restart:
        if is_first_process():
            claim(run)  # says so when the folder holds other settings
        return
    system, data = build(run, split, network, quantized)
    notes: dict[str, Any] = {"data": made_of(root_of(run.config.data)), "split": split, "clips": len(data.training)}
    notes["network"] = counts_of(run.config)
    if system.impulses is not None:
        notes["impulse_responses"] = {"from": run.config.augment.impulse_responses, "count": len(system.impulses)}
    batch = min(run.config.data.batch, len(data.training))
    model = run.config.checkpoint
    fit(run, system, data, monitor=MONITOR, batch_size=batch, restart=restart, notes=notes, model=model, percent=True)


def _quantize(run: Run, split: int, restart: bool) -> None:
    """Quantisation-aware training, conversion, and the accuracy of both networks on the test list."""
    stage, example = quantize.of_int8(run), example_input(run.config)
    path = stage.folder / quantize.FILE_NAME
    done = finished(stage) and path.is_file() and not restart
    _fit(stage, split, restart, quantize.prepare_network(_trained(run), example), quantized=True)
    if done or not is_first_process():
        return
    prepared = quantize.prepare_network(new_network(run.config), example)
    converted = quantize.convert_network(load_weights(prepared, *checkpoint_of(stage.folder)))
    quantize.save_network(converted, path)
    networks = {"float32": _trained(run), "int8": converted}
    accuracies = {
        name: _test_accuracy(network, run.config, f"{name} split {split}") for name, network in networks.items()
    }
    values = {"file": quantize.FILE_NAME, "bytes_on_disk": path.stat().st_size, "macro_accuracy": accuracies}
    record(stage.folder, "quantize", values)


@torch.inference_mode()
def _test_accuracy(network: nn.Module, config: Config, what: str) -> float:
    """Macro accuracy of a network on the test list, on the CPU, where int8 operators are."""
    ears, network = front_end(config.front_end, config.data.sample_rate).eval(), network.cpu().eval()
    clips = load_clips(config.data, "test")
    logits = over_clips(lambda batch: network(ears(batch.waveform)[:, None]).float(), clips, config, what)
    accuracy: float = scene_metrics(PARTS, clips.labels, top_scene(logits))["macro_accuracy"]
    return accuracy
