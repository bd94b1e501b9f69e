"""The parts of a run, one per split and stage, and the networks that were trained in them."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from common.run.checkpoints import checkpoint_of, network_state, read_checkpoint
from common.run.errors import UserError
from common.run.verbs import Run
from task1_asc.config import Config
from task1_asc.data.classes import TRAIN_DEVICES
from task1_asc.data.layout import parse_name, read_split
from task1_asc.data.sets import root_of
from task1_asc.deployment import quantize
from task1_asc.inference.predict import Predictor
from task1_asc.model.front_end import example_input, front_end
from task1_asc.model.networks import MultiDevice, build_model


def load_weights(network: nn.Module, path: Path, expected_sha256: str | None = None) -> nn.Module:
    """Fill a network with the weights of one of this task's checkpoints. Raises UserError for any other file."""
    state = network_state(read_checkpoint(path, expected_sha256), "network", path)
    try:
        network.load_state_dict(state)  # observers of quantisation take shapes of their own
    except RuntimeError as error:
        raise UserError(f"{path}: no checkpoint of this recipe's network ({str(error).splitlines()[0]})") from None
    return network


def of_split(run: Run, split: int) -> Run:
    """The part of a run that belongs to one training split; it has a folder of its own."""
    config: Config = run.config
    return replace(
        run, folder=run.folder / f"split{split}", config=replace(config, data=replace(config.data, splits=[split]))
    )


def of_device(run: Run, device: str) -> Run:
    """The stage of a split's run that makes the network of one device (2025)."""
    config: Config = run.config
    of = config.finetune
    return replace(
        run,
        folder=run.folder / "devices" / device,
        config=replace(
            config,
            data=replace(config.data, devices=[device]),
            augment=replace(config.augment, mixstyle_probability=of.mixstyle_probability),
            optimizer=replace(config.optimizer, lr=of.lr, warmup_steps=of.warmup_steps),
            trainer=replace(
                config.trainer, max_epochs=of.epochs, check_val_every_n_epoch=min(of.check_every, of.epochs)
            ),
        ),
    )


def own_devices(config: Config, split: int) -> list[str]:
    """The devices that get a network of their own: those that the split has clips of."""
    there = {parse_name(name).device for name, _ in read_split(root_of(config.data), split)}
    return [device for device in TRAIN_DEVICES if device in there]


def of_int8(run: Run) -> Run:
    """The stage of a split's run that makes its int8 network."""
    return replace(run, folder=run.folder / quantize.FOLDER, config=quantize.quantize_config(run.config))


def new_network(config: Config) -> nn.Module:
    """The network without pre-trained weights, to be filled with those of a checkpoint."""
    return build_model(replace(config.model, checkpoint=None))


def load_network(run: Run, split: int) -> tuple[nn.Module, bool]:
    """The deployed form of a trained split before its precision, and whether it asks for the recording device.

    int8: the converted network. With device-specific training: the container. Else the network as trained. Raises
    UserError where a training is not finished.
    """
    part = of_split(run, split)
    config: Config = part.config
    network = load_weights(new_network(config), *checkpoint_of(part.folder))
    if config.precision == "int8":
        path = of_int8(part).folder / quantize.FILE_NAME
        return quantize.load_network(path, network, example_input(config)), False
    if not config.finetune.epochs:
        return network, False
    devices = own_devices(config, split)
    container = MultiDevice(network, devices)
    for device in devices:
        load_weights(container.device_models[device], *checkpoint_of(of_device(part, device).folder))
    return container, True


def predictor_of(run: Run, split: int, precision: str | None = None) -> tuple[Predictor, bool]:
    """The predictor of a trained split in the recipe's precision, or another one."""
    config: Config = run.config if precision is None else replace(run.config, precision=precision)
    network, by_device = load_network(replace(run, config=config), split)
    ears = front_end(config.front_end, config.data.sample_rate)
    return Predictor(network, ears, config.precision), by_device
