"""What a training has left in a machine's folder of a run -> its network, or the normal clips that it has learnt."""

from pathlib import Path

from torch import nn

from common.run.checkpoints import checkpoint_of, fill, network_state, read_checkpoint
from common.run.config import load_config
from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file
from common.run.imports import as_stored
from common.run.verbs import Run, Task
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine, parse_machine
from task2_anomaly.data.front_end import front_end
from task2_anomaly.data.sets import of_machine
from task2_anomaly.model.backends import NORMAL_CLIPS, Normal, read_normal
from task2_anomaly.model.networks import build_network


def load_network(run: Run, machine: Machine) -> nn.Module:
    """The trained network of a machine of a run. Raises UserError where it is not trained, damaged or another."""
    folder = of_machine(run, machine).folder
    path, recorded = checkpoint_of(folder)
    network = build_network(as_stored(run.config.model, folder), front_end(run.config.front_end).num_mels)
    return fill(network, network_state(read_checkpoint(path, recorded), "network", path), path)


def load_normal(run: Run, machine: Machine) -> Normal:
    """The normal clips of a machine of a run, as embeddings. Raises UserError where `train` has not stored them."""
    folder = of_machine(run, machine).folder
    if not (folder / NORMAL_CLIPS).is_file():
        raise UserError(f"{folder}: no finished training; `train` makes one")
    return read_normal(folder / NORMAL_CLIPS)


def run_of(checkpoint: Path, machine: str | None = None) -> tuple[Run, Machine]:
    """The run and the machine of `<run>/machines/<network>`, or of a checkpoint file in that folder.

    Its settings are those that training has written there. Raises UserError for anything else, and where the network
    is one of several machines and none of them is named.
    """
    folder = checkpoint.resolve()
    if folder.is_file():
        folder = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
    settings = existing_file(folder / "config.yaml", f"settings of the training of {checkpoint}")
    if folder.parent.name != "machines":
        raise UserError(f"{checkpoint}: not the folder of one machine, expected <run>/machines/<machine>")
    run = folder.parent.parent
    config = load_config(Config, settings.parent, str(settings))
    known = config.data.machines or [folder.name]
    if machine is None and len(known) > 1:
        raise UserError(f"{checkpoint}: a network of {', '.join(known)}; machine= says whose recording it is")
    if machine is not None and machine not in known:
        raise UserError(f"machine: {checkpoint} has no {machine!r}{did_you_mean(machine, known)}")
    found = parse_machine(machine or known[0])
    return Run(Task("task2_anomaly", "", Config, ()), run.parent.name, 1, run, config), found
