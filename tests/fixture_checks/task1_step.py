"""`task1_step`: a whole training step of Task 1 with forced draws, by the training system itself, and its schedule.

Draws, cases, seeds, settings and what was kept of an array (`every_8_4`) are read from the folder.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from common.augment import MaskDraw, Mix
from common.tests.helpers import seeded_state
from task1_asc.config import AugmentConfig, Config, DataConfig, FrontEndConfig, ModelConfig, OptimizerConfig
from task1_asc.data.batches import Batch
from task1_asc.model.networks import build_network
from task1_asc.training import system as training
from task1_asc.training.system import SceneSystem

PREFIX = "model."
WAVE = {"max": 1e-6}
MEL = {"max": 1e-5, "rel": 1e-4}
LOG_MEL = {"max": 1e-3}
LOGITS = {"max": 1e-3}
LOSS = {"max": 0.0, "rel": 1e-5}
GRADIENT = {"max": 1e-6, "rel": 5e-3}
STATISTICS = {"max": 1e-5, "rel": 1e-4}
WEIGHTS = {"max": 2e-5}
RATE = {"max": 1e-15, "rel": 1e-9}


def of_manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def config_of(settings: dict[str, Any]) -> Config:
    """The recipe that a manifest's settings describe."""
    config = Config(
        data=DataConfig(sample_rate=settings["orig_sample_rate"], batch=settings["batch_size"]),
        front_end=FrontEndConfig(
            window=settings["win_length"],
            fft=settings["n_fft"],
            hop=settings["hop_length"],
            num_mels=settings["n_mels"],
            fmax=settings["f_max"],
        ),
        augment=AugmentConfig(
            roll_seconds=settings["roll_sec"],
            frequency_mask=settings["freqm"],
            time_mask=settings["timem"],
            mixstyle_probability=settings["mixstyle_p"],
            mixstyle_beta=settings["mixstyle_alpha"],
        ),
        optimizer=OptimizerConfig(
            lr=settings["lr"], weight_decay=settings["weight_decay"], warmup_steps=settings["warmup_steps"]
        ),
    )
    config.trainer.max_epochs = settings["n_epochs"]
    return config


def system_of(folder: Path, steps_per_epoch: int) -> SceneSystem:
    state = {name.removeprefix(PREFIX): value for name, value in seeded_state(folder).items()}
    network = build_network(ModelConfig(num_classes=len(state["feed_forward.0.weight"])))
    network.load_state_dict(state)
    config, nobody = config_of(of_manifest(folder)["settings"]), np.zeros(1, int)
    return SceneSystem(config, network, steps_per_epoch, nobody, nobody)


@contextmanager
def forced(io: Any, mixes: bool) -> Iterator[dict[str, Tensor]]:
    """The draws of the file in place of random ones; gives the rolled waveform, once it is there."""
    drawn = {name: torch.from_numpy(io[name]) for name in io.files if name.startswith("draw/")}
    draws = {
        "draw_roll": drawn["draw/roll"],
        "draw_spec_mask": MaskDraw(drawn["draw/mask/width"], drawn["draw/mask/start"]),
        "draw_mix": Mix(drawn["draw/mixstyle/lambda"], drawn["draw/mixstyle/perm"]),
    }
    seen: dict[str, Tensor] = {}

    def roll(x: Tensor, shift: Tensor, of: Any = training.roll) -> Tensor:
        seen["rolled_wave"] = of(x, shift)
        return seen["rolled_wave"]

    def coin(probability: float) -> bool:
        return mixes and probability > 0

    with ExitStack() as stack:
        for name, value in draws.items():
            stack.enter_context(patch.object(training, name, return_value=value))
        stack.enter_context(patch.object(training, "roll", roll))
        stack.enter_context(patch.object(training, "coin", coin))
        stack.enter_context(patch.object(SceneSystem, "log"))  # there is no Trainer
        yield seen


def kept(name: str, x: Tensor) -> Tensor:
    """What a file keeps of an array: `every_8_4` is every 8th and 4th along the last axes."""
    steps = re.search(r"_every((?:_\d+)+)$", name)
    every = [] if steps is None else [int(step) for step in steps[1].strip("_").split("_")]
    for axis, step in enumerate(every, start=x.dim() - len(every)):
        x = x.index_select(axis, torch.arange(0, x.shape[axis], step))
    return x


def stages(system: SceneSystem, batch: Batch, io: Any) -> list[tuple]:
    """What lies between waveform and network."""
    with forced(io, mixes=False) as seen:
        mel = system.front_end.mel(training.roll(batch.waveform, torch.from_numpy(io["draw/roll"])))
        log_mel = system.augmented(batch)[0][:, 0]
    silence = system.front_end.compress(torch.zeros(1, 1, 1)).item()
    found = {
        "rolled_wave": (seen["rolled_wave"], WAVE),
        "mel": (mel, MEL),
        "masked_log_mel": (log_mel, LOG_MEL),
        "mask_rows": ((log_mel - silence).abs().amax(dim=-1) < LOG_MEL["max"], {}),
    }
    names = [name for name in io.files if name.startswith("stage/")]
    of = {name: found[re.sub(r"_every.*", "", name.removeprefix("stage/"))] for name in names}
    return [(name, kept(name, value), io[name], tolerance) for name, (value, tolerance) in of.items()]


def weights_of(network: nn.Module, io: Any, group: str) -> list[tuple[str, Tensor]]:
    """(name in the file, our tensor) of the parameters and buffers below `group`."""
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    names = [name for name in io.files if name.startswith(f"{group}/")]
    return [(name, own[name.rpartition("/")[2].removeprefix(PREFIX)]) for name in names]


def step(folder: Path, case: str, io: Any) -> Iterator[tuple]:
    """One training step of a case, then one update at the learning rate that the file names."""
    manifest = of_manifest(folder)
    system = system_of(folder, next(iter(manifest["settings"]["steps_per_epoch"].values())))
    labels = torch.from_numpy(io["labels"])
    wave = torch.from_numpy(io["wave"].astype(np.float32) / 32768.0)
    batch = Batch(wave, labels, torch.full_like(labels, -1), torch.arange(len(labels)))
    yield from stages(system, batch, io)

    taken: list[Tensor] = []
    hooks = [
        system.network.register_forward_pre_hook(lambda _m, given: taken.append(given[0][:, 0].detach())),
        system.network.register_forward_hook(lambda _m, _i, logits: taken.append(logits.detach())),
    ]
    made = system.configure_optimizers()
    optimizer = made["optimizer"]
    with forced(io, mixes=any(call[0] == "Beta" for call in manifest["draw_calls"][case])):
        loss = system.training_step(batch, 0)
    loss.backward()
    for hook in hooks:
        hook.remove()
    gradients = {name: value.grad for name, value in system.network.named_parameters() if value.grad is not None}
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    seen = next(name for name in io.files if name.startswith(f"{case}/network_input"))
    yield seen, kept(seen, taken[0]), io[seen], LOG_MEL
    yield f"{case}/logits", taken[1], io[f"{case}/logits"], LOGITS
    yield f"{case}/loss", loss.detach(), io[f"{case}/loss"], LOSS
    yield f"{case}/grad_norm_float64", norm, io[f"{case}/grad_norm_float64"], GRADIENT
    yield f"{case}/lr_logged", optimizer.param_groups[0]["lr"], io[f"{case}/lr_logged"], RATE
    for name in (name for name in io.files if name.startswith(f"{case}/grad_of/")):
        yield name, gradients[name.rpartition("/")[2].removeprefix(PREFIX)].norm(), io[name], GRADIENT
    for name, value in weights_of(system.network, io, f"{case}/after_forward"):
        yield name, value, io[name], STATISTICS
    groups = {name.split("/")[1] for name in io.files if name.startswith(f"{case}/after_update_at_lr_")}
    for group in groups:
        optimizer.param_groups[0]["lr"] = float(group.rpartition("_")[2])
        optimizer.step()
        for name, value in weights_of(system.network, io, f"{case}/{group}"):
            yield name, value.detach(), io[name], WEIGHTS


def rates(folder: Path, split: str, io: Any) -> list[tuple]:
    """The learning rate of optimiser step n, counted from 1."""
    of_split = of_manifest(folder)["settings"]["steps_per_epoch"]
    made = system_of(folder, of_split[split.removeprefix("lr/split")]).configure_optimizers()
    assert made["lr_scheduler"]["interval"] == "step"
    (peak,), (factor,) = made["lr_scheduler"]["scheduler"].base_lrs, made["lr_scheduler"]["scheduler"].lr_lambdas
    ours = np.array([peak * factor(int(n) - 1) for n in io[f"{split}/step"]])
    return [(split, ours, io[f"{split}/value"], RATE)]


def groups(io: Any) -> list[str]:
    cases = [name.removesuffix("/loss") for name in io.files if name.endswith("/loss")]
    return cases + [name.removesuffix("/value") for name in io.files if name.endswith("/value")]


def check(folder: Path, group: str, io: Any) -> Any:
    return rates(folder, group, io) if group.startswith("lr/") else step(folder, group, io)


CHECKERS = {"task1_step": (groups, check)}
