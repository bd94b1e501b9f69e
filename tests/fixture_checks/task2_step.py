"""One training step and the clip scores of Task 2's classifier, by recipe: wave, windows, losses, gradients, Adam.

Groups: `EDITION/LOSS`, a step with the windows that the folder draws; `EDITION/clips`, scores of whole clips; `lr`. The
recipe of the edition's name says everything but the network's width and kernels, which the stored weights have.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import task2_anomaly
from common.encoders.cp_resnet import TASK2_KERNELS, CPResNet, CPResNetEncoder
from common.run.config import load_config
from common.tests.helpers import seeded_state
from task2_anomaly.config import Config
from task2_anomaly.data.batches import Batch, Clips, Draw, SnippetDataset
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.features import Features, spectrogram
from task2_anomaly.data.front_end import front_end
from task2_anomaly.inference.scorers import NetworkScorer
from task2_anomaly.inference.windows import window_scores
from task2_anomaly.model.networks import build_network
from task2_anomaly.training.system import AnomalySystem

RECIPES = Path(task2_anomaly.__file__).parent / "recipes"
MEL, SCORES, LOSS = {"max": 1e-3}, {"max": 1e-3}, {"max": 1e-7, "rel": 1e-5}
GRADIENT = {"max": 1e-6, "rel": 2e-3}
EVERY = re.compile(r"(?P<name>.+)_every_(?P<bands>\d+)_(?P<frames>\d+)")

Comparison = tuple[str, Any, Any, dict[str, float]]


def groups(io: Any) -> list[str]:
    steps = [name.removesuffix("/loss") for name in io.files if re.fullmatch(r"\w+/\w+/loss", name)]
    clips = [name.removesuffix("_window_scores").replace("/clip", "/clips") for name in io.files if "window_sc" in name]
    return [*steps, *clips, *(f"lr/{name[3:]}" for name in io.files if name.startswith("lr/") and name != "lr/epoch")]


@cache
def state_of(folder: Path) -> dict[str, Tensor]:
    canonical = CPResNetEncoder.canonical(seeded_state(folder))
    return {name.removeprefix("network."): value for name, value in canonical.items()}


def own_name(name: str) -> str:
    named = CPResNetEncoder.canonical({"network.net.in_c.0.weight": torch.empty(0), name: torch.empty(1)})
    return next(own for own, value in named.items() if len(value)).removeprefix("network.")


def recipe(folder: Path, edition: str, *overrides: str) -> Config:
    """The edition's recipe, with the kernels and the width of the stored weights."""
    state = state_of(folder)
    first = f"model.base_channels={len(state['in_c.0.weight'])}"
    for kernels in TASK2_KERNELS:
        config: Config = load_config(Config, RECIPES, edition, [first, f"model.kernels={kernels}", *overrides])
        shapes = {name: value.shape for name, value in build_network(config.model, 1).state_dict().items()}
        if shapes == {name: value.shape for name, value in state.items()}:
            return config
    raise AssertionError(f"{folder}: no kernels of the recipes have these weights")


def system_of(folder: Path, config: Config) -> AnomalySystem:
    network = build_network(config.model, front_end(config.front_end).num_mels)
    network.load_state_dict(state_of(folder))
    system = AnomalySystem(config, network).train()
    system.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return system


@torch.inference_mode()
def observation(io: Any, config: Config) -> Tensor:
    """Log-mel (clips, bands, frames) of the waves."""
    wave = torch.from_numpy(io["wave"].astype(np.float32) / 32768.0)
    return spectrogram(front_end(config.front_end), wave, config.front_end.standardise)


def thinned(io: Any, name: str, value: Tensor, axes: tuple[int, int]) -> Comparison:
    """Every so many bands and frames of a spectrogram, as the stored array's name says."""
    (stored,) = (match for file in io.files if (match := EVERY.fullmatch(file)) and match["name"] == name)
    for axis, step in zip(axes, (int(stored["bands"]), int(stored["frames"])), strict=True):
        value = value.index_select(axis, torch.arange(0, value.shape[axis], step))
    return name, value, io[stored[0]], MEL


def batch_of(io: Any, config: Config, mel: Tensor) -> Batch:
    """The windows that the folder draws, cut as training cuts them."""
    frames = mel.transpose(1, 2)
    sizes = np.full(len(frames), frames.shape[1])
    names = [str(number) for number in range(len(frames))]
    clips = Clips([Features(names, frames.flatten(0, 1).numpy(), np.cumsum(sizes) - sizes, sizes)])
    draw, offset, proxy = io["draw/clip"], io["draw/offset"], io["outlier"] == 1
    seeds = np.concatenate([offset[~proxy], offset[proxy]])  # a seed below the number of places is the place
    return SnippetDataset(clips, clips, config.data.snippet_frames).__getitems__(Draw(draw[~proxy], draw[proxy], seeds))


def step(folder: Path, group: str, io: Any) -> Iterator[Comparison]:
    edition, loss_name = group.split("/")
    config = recipe(folder, edition, f"loss.name={loss_name}")
    mel, system = observation(io, config), system_of(folder, config)
    yield thinned(io, f"observation/{edition}", mel, (1, 2))
    batch, proxy = batch_of(io, config, mel), io["outlier"] == 1
    order = np.concatenate([np.flatnonzero(~proxy), np.flatnonzero(proxy)])
    seen: list[tuple[Tensor, Tensor]] = []
    system.network.register_forward_hook(lambda _m, inputs, output: seen.append((inputs[0], output)))
    optimizer = system.configure_optimizers()["optimizer"]
    loss = system.training_step(batch, 0)
    loss.backward()

    x, scores = (of.detach()[np.argsort(order)] for of in seen[0])
    yield thinned(io, f"{group}/network_input", x[:, 0], (1, 2))
    yield "scores", scores[:, 0], io[f"{group}/scores"], SCORES
    yield "loss", loss.detach(), io[f"{group}/loss"], LOSS
    for name, of in (("normal", scores[~proxy]), ("outlier", scores[proxy])):
        yield f"mean of {name} scores", of.mean(), io[f"{group}/log/{name}_scores_mean"], SCORES
        yield f"deviation of {name} scores", of.std(), io[f"{group}/log/{name}_scores_std"], SCORES
    gradients = {name: of.grad for name, of in system.network.named_parameters() if of.grad is not None}
    yield "gradient norm", norm_of(gradients.values()), io[f"{group}/grad_norm"], GRADIENT
    for name in of_prefix(io, f"{group}/grad_of/"):
        yield f"gradient of {name}", gradients[own_name(name)].norm(), io[f"{group}/grad_of/{name}"], GRADIENT
    for name in of_prefix(io, f"{group}/after_forward/"):
        stored = io[f"{group}/after_forward/{name}"]
        yield f"after forward {name}", system.network.get_buffer(own_name(name)), stored, SCORES
    rate = optimizer.param_groups[0]["lr"]
    yield "lr", rate, io[f"lr/{edition}"][io["lr/epoch"] == 0][0], LOSS
    optimizer.step()
    # Adam's first step is the learning rate by the gradient's sign: one that is nearly 0 may have the other.
    signs = {"max": 2.01 * rate, "mean": 0.02 * rate}
    for name in of_prefix(io, f"{group}/after_update/"):
        stored = io[f"{group}/after_update/{name}"]
        yield f"after update {name}", system.network.get_parameter(own_name(name)).detach(), stored, signs

    exact = system_of(folder, config).double()
    exact.training_step(Batch(*(of.double() for of in batch)), 0).backward()
    gradients = {name: of.grad for name, of in exact.network.named_parameters() if of.grad is not None}
    yield "gradient norm, float64", norm_of(gradients.values()), io[f"{group}/grad_norm_float64"], GRADIENT


def of_prefix(io: Any, prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in io.files if name.startswith(prefix)]


def norm_of(gradients: Any) -> Tensor:
    return torch.stack([gradient.norm() for gradient in gradients]).norm()


def clips(folder: Path, group: str, io: Any) -> Iterator[Comparison]:
    edition, stored = group.split("/")[0], group.replace("/clips", "/clip")
    config = recipe(folder, edition)
    mel, network = observation(io, config), system_of(folder, config).network.eval()
    assert isinstance(network, CPResNet)
    with torch.inference_mode():
        windows = window_scores(network, mel, config.data.snippet_frames, config.scoring.hop)
    yield "window scores", windows, io[f"{stored}_window_scores"], SCORES
    for aggregate in ("mean", "max"):
        settings = recipe(folder, edition, f"scoring.aggregate={aggregate}")
        scores = NetworkScorer(network, settings, Machine("fan", 0), device="cpu").scores(mel)
        yield f"clip scores, {aggregate}", scores, io[f"{stored}_score_{aggregate}"], SCORES


def rates(folder: Path, group: str, io: Any) -> Iterator[Comparison]:
    system = system_of(folder, recipe(folder, group.removeprefix("lr/")))
    made = system.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "epoch"
    optimizer.step()  # without gradients: nothing moves
    found = []
    for _ in range(int(io["lr/epoch"].max()) + 1):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    yield "lr", np.array(found)[io["lr/epoch"]], io[group], {"max": 0.0, "rel": 1e-9}


def check(folder: Path, group: str, io: Any) -> Iterator[Comparison]:
    if group.startswith("lr/"):
        return rates(folder, group, io)
    return clips(folder, group, io) if group.endswith("/clips") else step(folder, group, io)


CHECKERS = {"task2_step": (groups, check)}
