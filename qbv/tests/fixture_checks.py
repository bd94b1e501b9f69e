"""The `qbv_step` fixture: whole training steps of the published systems, schedules, losses, published measures."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.augment import MaskDraw, Mix
from common.frontends import Jitter
from common.losses import nt_xent
from common.run.config import load_config
from common.run.numbers import unit_rows
from common.tests.helpers import seeded
from qbv.config import Config
from qbv.data.batches import Batch
from qbv.metrics import mrr_bounds, ndcg, ranks_of
from qbv.model.networks import PUBLISHED, DualEncoder, own_names
from qbv.training.system import Draws, DualSystem, changed_mel, learning_rate

RECIPES = Path(__file__).parents[1] / "recipes"
LOSS, NORM, FIRST = ({"max": 0.0, "rel": rel} for rel in (1e-4, 1e-3, 3e-3))
EMBEDDING, ALONE = {"max": 1e-3}, {"max": 1e-6, "rel": 1e-5}
EXACT: dict[str, float] = {}
SIDES = ("imitation", "recording")


def groups(io: Any) -> list[str]:
    names = dict.fromkeys(name.split("/")[0] for name in io.files if "/" in name)
    return [name for name in names if name != "draw"]


def check(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    whole = {"loss": losses, "lr": rates, "coarse": coarse, "fine": fine, "qvim_measures": qvim_measures}
    if group in whole:
        yield from whole[group](io)
    elif group == "accumulated":
        yield from accumulated(folder, io)
    else:
        yield from step(folder, group, io)


# --- steps


def state_of(folder: Path, *parts: str) -> dict[str, Tensor]:
    manifest = json.loads((folder / "manifest.json").read_text())
    make = seeded(folder.parent)["seeded_array"]
    return {
        name: torch.from_numpy(np.asarray(make(name, entry, manifest["seed"])))
        for part in parts
        for name, entry in manifest[part].items()
    }


def config_of(case: str, io: Any) -> Config:
    config = load_config(Config, RECIPES, "qvim2025" if case.startswith("qvim") else "coarse_doubled")
    network = "network" if case == "bce_network" else "cosine"
    model = replace(config.model, checkpoint=None, shared=case == "shared_encoder", similarity=network, dropout=0.0)
    model = replace(model, temperature_trained="tau_learned" in case)
    frequency, time = io["draw/mask_width"].tolist() if "masks" in case else (0, 0)
    augment = replace(config.augment, frequency_mask=frequency, time_mask=time, roll_samples=0)
    loss = "bce" if case.startswith("bce") else config.loss
    return replace(config, model=model, augment=augment, loss=loss)


def draws_of(case: str, io: Any) -> tuple[Draws, Draws]:
    found = []
    for side, short in enumerate(("im", "rec")):
        low, high = io["draw/fmin_fmax"][2 * side : 2 * side + 2].tolist()
        frequency = time = mix = None
        if "masks" in case:
            uniform = torch.from_numpy(io["draw/mask_uniform"][side])
            frequency, time = MaskDraw(uniform[0], uniform[1]), MaskDraw(uniform[2], uniform[3])
        if "mixstyle" in case:
            drawn = (io[f"draw/mixstyle_{what}_{short}"] for what in ("coefficient", "partner"))
            mix = Mix(*(torch.from_numpy(of) for of in drawn))
        found.append(Draws(Jitter(low, high), frequency, time, mix))
    return found[0], found[1]


def batch_of(io: Any, case: str, which: str = "") -> Batch:
    audio = (torch.from_numpy(io[f"{side}{which}"] / np.float32(32768)) for side in SIDES)
    label = torch.from_numpy(io[f"label{which}"])
    number = torch.arange(len(label))
    if case == "qvim_same_imitation_twice":
        number[2] = number[0]
    return Batch(*audio, label, number, torch.from_numpy(io["pair_is_positive"]))


def system_of(folder: Path, case: str, io: Any) -> DualSystem:
    config = config_of(case, io)
    network = DualEncoder(config.model)
    parts = ("state", "state_fnn") if case == "bce_network" else ("state",)
    state = state_of(folder, *parts)
    if config.model.shared:
        state = {name: value for name, value in state.items() if not name.startswith("ref.")}
    missing, unexpected = network.load_state_dict(own_names(state), strict=False)
    assert (missing, unexpected) == (["temperature"], [])
    in_double(network)
    return DualSystem(config, network, 1)


def in_double(network: DualEncoder) -> None:
    """The networks, behind a front end in single precision as published: else gradients of the first layers differ by
    up to 0.4 % from one order of sums to another."""
    network.double()
    for encoder in dict.fromkeys((network.imitation_encoder, network.recording_encoder)):
        encoder.front_end.float()
        encoder.features[0].register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))


def own_parameter(network: DualEncoder, name: str) -> Tensor:
    if name == "tau":
        return network.temperature
    old = next(start for start in PUBLISHED if name.startswith(start))
    return network.get_parameter(PUBLISHED[old] + name.removeprefix(old))


def norm(values: Any) -> float:
    return float(torch.stack([value.double().norm() for value in values]).norm())


def gradients(case: str, io: Any, network: DualEncoder) -> Iterator[tuple]:
    for key in (name for name in io.files if name.startswith(f"{case}/grad")):
        _, kind, name = key.split("/", 2)
        expected = io[key]
        if kind == "grad_norm":
            part = network.get_submodule(next(new for old, new in PUBLISHED.items() if old == f"{name}.").strip("."))
            yield key, norm(p.grad for p in part.parameters() if p.grad is not None), expected, NORM
            continue
        gradient = own_parameter(network, name).grad
        assert gradient is not None
        if kind == "grad_norm_of":
            yield key, norm([gradient]), expected, FIRST if re.search(r"features\.[0-4]\.", name) else NORM
        else:
            largest = 3e-3 * float(np.abs(expected).max())
            yield key, gradient.flatten()[: expected.size].numpy(), expected.ravel(), {"max": largest}


def step(folder: Path, case: str, io: Any) -> Iterator[tuple]:
    system, batch, draws = system_of(folder, case, io), batch_of(io, case), draws_of(case, io)
    network, config = system.network, system.config
    for side, of in zip(SIDES, draws, strict=True):
        if (key := f"{case}/mel_{side}") in io.files:
            mel = changed_mel(network.imitation_encoder, getattr(batch, side), config.augment, of)
            yield key, mel[: len(io[key]), :, : io[key].shape[2]].numpy(), io[key], EMBEDDING
            yield f"{key}_mean", mel.mean(dim=(1, 2)).numpy(), io[f"{key}_mean"], {"max": 1e-5}
    vectors = system.vectors(batch, draws)
    loss = system.loss(*vectors, batch)
    loss.backward()
    yield "loss", loss.item(), io[f"{case}/loss"], LOSS
    for side, of in zip(SIDES, vectors, strict=True):
        if (key := f"{case}/embedding_{side}") in io.files:
            yield key, of.detach().numpy(), io[key], EMBEDDING
    with torch.no_grad():
        if (key := f"{case}/similarity") in io.files:
            yield key, network.similarities(*vectors).numpy(), io[key], {"max": 2e-4}
        if (key := f"{case}/score") in io.files:
            found = network.similarities(*vectors).diagonal().double().numpy()
            yield key, found if network.comparison is not None else (1 + found) / 2, io[key], {"max": 2e-4}
    yield from gradients(case, io, network)
    yield from statistics(case, io, network)
    if (key := f"{case}/lr") in io.files:
        yield key, learning_rate(config.optimizer, 0.37), io[key], ALONE


def statistics(case: str, io: Any, network: DualEncoder) -> Iterator[tuple]:
    for key in (name for name in io.files if name.startswith(f"{case}/after/")):
        name = next(iter(own_names({key.removeprefix(f"{case}/after/"): torch.empty(0)})))
        yield key, network.get_buffer(name)[: len(io[key])].numpy(), io[key], {"max": 1e-4, "rel": 1e-3}


def accumulated(folder: Path, io: Any) -> Iterator[tuple]:
    system, draws = system_of(folder, "plain", io), draws_of("plain", io)
    batches = [batch_of(io, "plain", which) for which in ("", "_2")]
    optimizer = system.configure_optimizers()["optimizer"]
    yield "groups", len(optimizer.param_groups), io["accumulated/groups"], EXACT
    yield "lr", optimizer.param_groups[0]["lr"], io["accumulated/lr"], ALONE
    found = []
    for batch in batches:
        loss = system.loss(*system.vectors(batch, draws), batch)
        (loss / len(batches)).backward()
        found.append(loss.item())
    yield from gradients("accumulated", io, system.network)
    optimizer.step()
    with torch.no_grad():
        found += [system.loss(*system.vectors(batch, draws), batch).item() for batch in batches]
    yield "loss", np.array(found), io["accumulated/loss"], {"max": 0.0, "rel": 1e-3}
    for key in (name for name in io.files if name.startswith("accumulated/after/")):
        value = own_parameter(system.network, key.removeprefix("accumulated/after/")).detach().numpy()
        yield key, value, io[key], {"max": 2e-5}


# --- losses, rates, measures


def losses(io: Any) -> Iterator[tuple]:
    vectors = [torch.from_numpy(io[f"loss/{side}"].astype(np.float32)) for side in SIDES]
    for case in dict.fromkeys(name.split("/")[1] for name in io.files if re.match("loss/.*/loss", name)):
        imitation, recording = (of.clone().requires_grad_() for of in vectors)
        labels = torch.arange(len(imitation))
        given = imitation
        if place := re.search(r"zero_vector_at_(\d+)", case):
            given = imitation * (labels != int(place[1]))[:, None]
        else:
            labels = torch.from_numpy(io[f"loss/{case}/label"])
        loss = nt_xent(given, recording, labels)
        loss.backward()
        yield f"{case} loss", loss.item(), io[f"loss/{case}/loss"], ALONE
        for side, of in zip(SIDES, (imitation, recording), strict=True):
            if (key := f"loss/{case}/grad_{side}") in io.files:
                yield key, of.grad.numpy(), io[key], {"max": 1e-6, "rel": 1e-4}


def rates(io: Any) -> Iterator[tuple]:
    coarse_recipe, qvim = (load_config(Config, RECIPES, name).optimizer for name in ("coarse_doubled", "qvim2025"))
    epochs = range(len(io["lr/epoch"]))
    yield (
        "lr/epoch",
        [learning_rate(coarse_recipe, epoch) for epoch in epochs],
        io["lr/epoch"],
        {"max": 1e-12, "rel": 1e-6},
    )
    found = [learning_rate(qvim, epoch + batch / 100) for epoch, batch in io["lr/qvim_epoch_batch"].tolist()]
    yield "lr/qvim", found, io["lr/qvim"], {"max": 1e-12, "rel": 1e-6}


def coarse(io: Any) -> Iterator[tuple]:
    ranks = ranks_of(unit_rows(io["coarse/imitation"]) @ unit_rows(io["coarse/recording"]).T, io["coarse/label"])
    yield "rank", ranks.expected, io["coarse/rank"], {"max": 0.0}
    found = [of.mean() for of in (ranks.reciprocal(), ranks.recall(1), ranks.recall(2))]
    yield "figures", found, io["coarse/mrr_r1_r2"], {"max": 1e-9}


def fine(io: Any) -> Iterator[tuple]:
    ends = [np.cumsum(io[f"fine/{what}"]) for what in ("candidates", "queries")]
    recordings, imitations = (
        np.split(unit_rows(io[f"fine/{name}"]), at[:-1])
        for name, at in zip(("candidate", "imitation"), ends, strict=True)
    )
    ranks = [
        ranks_of(queries @ items.T, np.zeros(len(queries), np.int64))
        for items, queries in zip(recordings, imitations, strict=True)
        if len(items) > 1
    ]
    by_class = np.array([of.reciprocal().mean() for of in ranks])
    yield "rank", np.concatenate([of.expected for of in ranks]), io["fine/rank"], {"max": 0.0}
    yield "mrr_per_class", by_class, io["fine/mrr_per_class"], {"max": 1e-9}
    yield "mrr", by_class.mean(), io["fine/mrr"], {"max": 1e-9}
    for k in (1, 2):  # as published over all queries, also those that have no contest
        recalled = sum(of.recall(k).sum() for of in ranks) / io["fine/queries"].sum()
        yield f"r{k}", recalled, io[f"fine/r{k}"], {"max": 1e-9}


def qvim_measures(io: Any) -> Iterator[tuple]:
    _, first = np.unique(io["qvim_measures/query_number"], return_index=True)
    target, concept = io["qvim_measures/target"][first], io["qvim_measures/item_class"]
    relevant = concept[None] == concept[target][:, None]
    for kind in ("plain", "ties"):
        scores = io[f"qvim_measures/{kind}/similarity"][first]
        ranks = ranks_of(scores, target)
        found, published = float(ranks.reciprocal().mean()), float(io[f"qvim_measures/{kind}/mrr"])
        low, high = mrr_bounds(ranks)
        yield f"{kind} mrr within its bounds", np.clip(published, low, high), published, {"max": 1e-9}
        if low == high:
            yield f"{kind} mrr", found, published, {"max": 1e-9}
            yield f"{kind} ndcg", ndcg(scores, relevant).mean(), io[f"qvim_measures/{kind}/ndcg"], {"max": 1e-9}


CHECKERS = {"qbv_step": (groups, check)}
