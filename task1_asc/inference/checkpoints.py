"""Checkpoint files -> networks: of the parts of a run, as deployed or for export, or of a single file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from common.frontends import LogMel
from common.run.checkpoints import checkpoint_of, fill, read_checkpoint
from common.run.config import config_of, load_config
from common.run.errors import UserError
from common.run.export import CARD, WEIGHTS, read_card
from common.run.files import existing_file
from common.run.results.store import recorded
from common.run.verbs import Run
from task1_asc.config import SPLITS, Config, Precision, of_device, of_split
from task1_asc.data.batches import eval_loader
from task1_asc.data.classes import DEVICES
from task1_asc.data.sets import load_clips, own_devices
from task1_asc.deployment import quantize
from task1_asc.deployment.export import float_twin
from task1_asc.model.devices import MultiDevice
from task1_asc.model.front_end import example_input, front_end
from task1_asc.model.networks import load_weights, new_network

CALIBRATION_CLIPS = 256
RECIPES = Path(__file__).parents[1] / "recipes"


def check_trained(run: Run, wanted: Sequence[int]) -> None:
    """UserError where some splits of the run have been trained, but not all that are wanted."""

    def trained(split: int) -> bool:
        return recorded(of_split(run, split).folder, "checkpoint") is not None

    there = [split for split in SPLITS if trained(split)]
    if there and (missing := [split for split in wanted if split not in there]):
        raise UserError(
            f"{run.folder}: no finished training of split {', '.join(map(str, missing))}, only of "
            f"{', '.join(map(str, there))}; data.splits=[{','.join(map(str, there))}] takes what is there"
        )


def load_network(run: Run, split: int) -> tuple[nn.Module, bool]:
    """The deployed form of a trained split before its precision, and whether it asks for the recording device.

    int8: the converted network. With device-specific training: the container. Else the network as trained. Raises
    UserError where a training is not finished.
    """
    check_trained(run, [split])
    part = of_split(run, split)
    config: Config = part.config
    network = load_weights(new_network(config, part.folder), *checkpoint_of(part.folder))
    if config.precision == "int8":
        path = quantize.of_int8(part).folder / quantize.FILE_NAME
        return quantize.load_network(path, network, example_input(config)), False
    if not config.finetune.epochs:
        return network, False
    devices = own_devices(config.data, split)
    container = MultiDevice(network, devices, DEVICES)
    for device in devices:
        load_weights(container.device_models[device], *checkpoint_of(of_device(part, device).folder))
    return container, True


def load_file(path: Path, precision: Precision | None = None) -> tuple[nn.Module, Config]:
    """The network of one file, before its precision, and the recipe that `train` stored beside it.

    path: a checkpoint of a training, its int8 network (`int8/network_int8.pt`), or a folder that `export` wrote. Raises
    UserError for any other file, for one without its recipe, and for int8 where the file is a float network and the
    other way round.
    """
    if path.is_dir():
        return _exported(path, precision)
    existing_file(path, "checkpoint")
    folder = next((of for of in path.resolve().parents[:2] if (of / "config.yaml").is_file()), None)
    if folder is None:
        raise UserError(f"{path}: no config.yaml of its training beside it or in the folder above")
    config = load_config(Config, RECIPES, str(folder / "config.yaml"))
    config = config if precision is None else replace(config, precision=precision)
    is_int8 = path.name == quantize.FILE_NAME
    if is_int8 != (config.precision == "int8"):
        expected = f"{quantize.FOLDER}/{quantize.FILE_NAME} of its split" if not is_int8 else "a checkpoint"
        raise UserError(f"{path}: precision is {config.precision}, expected {expected}, or another precision")
    network = new_network(config)
    if is_int8:
        return quantize.load_network(path, network, example_input(config)), config
    return load_weights(network, path), config


def _exported(folder: Path, precision: Precision | None) -> tuple[nn.Module, Config]:
    """The network of a folder that `export --format folder` wrote."""
    config = config_of(Config, read_card(folder, "task1_asc").config, str(folder / CARD))
    config = config if precision is None else replace(config, precision=precision)
    if config.precision == "int8":
        raise UserError(f"{folder}: holds a float network; precision int8 is that of its run")
    return fill(new_network(config), dict(read_checkpoint(folder / WEIGHTS)), folder / WEIGHTS), config


def float_network(run: Run, split: int) -> nn.Module:
    """A trained split's float network, also where it is deployed as int8."""
    check_trained(run, [split])
    part = of_split(run, split)
    network = load_weights(new_network(run.config, part.folder), *checkpoint_of(part.folder))
    if not run.config.quantize.epochs:
        return network
    prepared = quantize.prepare_network(network, example_input(run.config))
    return float_twin(load_weights(prepared, *checkpoint_of(quantize.of_int8(part).folder)), network)


def load_exportable(run: Run, split: int) -> tuple[nn.Module, LogMel, Tensor]:
    """A trained split's float network, also where it is deployed as int8; its front end; clips for calibration."""
    network, config = float_network(run, split), run.config
    whole = replace(config, data=replace(config.data, cropped=False, eval_batch=CALIBRATION_CLIPS, workers=0))
    clips = load_clips(whole.data, "train", split)
    waveform = next(iter(eval_loader(clips, whole))).waveform
    return network, front_end(config.front_end, config.data.sample_rate), waveform
