"""The `pretrain_student_step` fixture: labels, augmentations, losses, gradients, rates and optimiser groups."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.augment import BandGains, Mix, Span, Warp, band_boundaries, fold, mix_pair, wavmix
from common.encoders import models
from common.encoders.mobilenet import FrameMobileNet
from common.encoders.transformer import ATST_F, SpectrogramTransformer
from common.frontends import Jitter, LogMel
from common.run.config import load_config
from common.tests.helpers import seeded
from task4_sed.config import Config, OptimizerConfig, SequenceConfig
from task4_sed.data.annotations import Event
from task4_sed.data.audioset import StrongLabels, output_classes
from task4_sed.data.labels import EventTable
from task4_sed.metrics.truth import merge_intervals
from task4_sed.model.framewise import FramewiseNetwork
from task4_sed.training.framewise import (
    STEPS,
    FrameDraws,
    Frames,
    FramewiseSystem,
    frame_loss,
    optimizer_of,
    parameter_groups,
)

RECIPES = Path(__file__).parents[2] / "task4_sed" / "recipes"
TARGET, LOSS, NORM = {"max": 1e-6}, {"max": 1e-9, "rel": 1e-5}, {"max": 1e-9, "rel": 1e-3}
# Of a single layer: the mel of quiet frames lies at the floor, where float32 decides.
PARAMETER = {"max": 1e-9, "rel": 2e-3}
MEL, WARPED, WAVE = {"max": 1e-4}, {"max": 1e-3}, {"max": 2e-6}
HEADS = 3  # of the transformer: the README says it, the weights do not
FRONT_ENDS = {"frame_mn": "mel_16k_symmetric_7000"}  # all others have that of ATST-Frame
# Full-size networks by the names in `layer_decay`; the decay that their rates have.
FULL_SIZE = {"ATST-F": "atst-f", "BEATs": "beats", "fpasst": "fpasst", "M2D": "m2d", "ASIT": "asit"}


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def classes_of(io: Any) -> tuple[str, ...]:
    return tuple(output_classes()[index] for index in io["class_index"])


def labels_of(io: Any) -> StrongLabels:
    classes, count = classes_of(io), len(io["wave"])
    events: list[list[Event]] = [[] for _ in range(count)]
    for clip, onset, offset, label in io["events"]:
        if label >= 0:
            events[int(clip)].append(Event(onset, offset, classes[int(label)]))
    return StrongLabels(tuple(map(str, range(count))), classes, EventTable.build(events, classes))


def labels(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    found = labels_of(io)
    yield "targets", found.targets(np.arange(len(found.clips))), io["targets/clips"], TARGET
    merged = []
    for clip, of in enumerate(found.by_clip().values()):
        for label, name in enumerate(found.classes):
            spans = merge_intervals((event.onset, event.offset) for event in of if event.label == name)
            merged += [(clip, onset, offset, label) for onset, offset in spans]
    expected = [row for row in io["events_merged"].tolist() if row[3] >= 0]
    yield "merged events", np.array(sorted(merged)), np.array(sorted(map(tuple, expected))), TARGET


def batch(folder: Path, case: str, io: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Waves, targets and pseudo labels after wave mixing."""
    found = labels_of(io)
    waves = torch.from_numpy(io["wave"].astype(np.float32) / 32768)
    targets = torch.from_numpy(found.targets(np.arange(len(waves))))
    pseudo = torch.from_numpy(io["pseudo_logits"].astype(np.float32)).sigmoid()
    items = slice(0, len(io["draw/wavmix/coin"]))
    probability = next(s["wavmix"] for name, s in manifest(folder)["settings"].items() if name.endswith(f"/{case}"))
    lam = fold(torch.from_numpy(io["draw/wavmix/beta"].astype(np.float32)))
    partner = torch.from_numpy(io["draw/wavmix/partner"])
    chosen = torch.from_numpy(io["draw/wavmix/coin"]) < probability

    def mixed(x: Tensor, mix: Any) -> Tensor:
        other = mix(x[items], x[partner], lam)
        return torch.where(chosen.reshape(-1, *[1] * (x.dim() - 1)), other, x[items])

    return mixed(waves, wavmix), mixed(targets, mix_pair), mixed(pseudo, mix_pair)


def draws_of(settings: dict[str, float], io: Any, bands: int) -> FrameDraws:
    def mix(which: str) -> Mix:
        lam = torch.from_numpy(io[f"draw/{which}/beta"].astype(np.float32))
        return Mix(fold(lam), torch.from_numpy(io[f"draw/{which}/perm"]))

    found: dict[str, Any] = {}
    if settings["shift"]:
        found["shift"] = torch.from_numpy(io["draw/shift/gauss"]).trunc().long()
    if settings["mixup"]:
        found["mix"] = mix("mixup")
    if settings["mixstyle"]:
        found["style"] = mix("mixstyle")
    if settings["tm"]:
        width, start = io["draw/timemask/width_low"].tolist()
        found["mask"] = Span(start, width)
    if settings["filt"]:
        borders = band_boundaries(io["draw/filter/boundaries"].tolist(), bands, 6)
        assert len(borders) == int(io["draw/filter/bands"]) + 1
        found["filter"] = BandGains(borders, torch.from_numpy(io["draw/filter/rand"].astype(np.float32)) * 12 - 6)
    if settings["warp"]:
        share, start = io["draw/warp/uniform_i"].tolist()
        found["warp"] = Warp(int(share * bands), int(start))
    return FrameDraws(**found)


def front_end(net: str) -> LogMel:
    return LogMel(FRONT_ENDS.get(net, ATST_F.front_end), top_db_per_batch=True)


def frames_of(folder: Path, net: str, case: str, io: Any) -> tuple[Tensor, Frames]:
    """Waves, and log-mel and labels before the augmentations of the mel."""
    waves, targets, pseudo = batch(folder, case, io)
    kind = front_end(net)
    jitter = Jitter(*io["draw/melrange/min_max"].tolist()) if kind.setting.fmax_range > 1 else None
    kept = pseudo if manifest(folder)["settings"][f"{net}/{case}"]["kd"] else None
    return waves, Frames(kind(waves, jitter), targets, kept)


def config_of(folder: Path, net: str, case: str) -> Config:
    """The published student recipe, with the case's share of the pseudo labels."""
    share = manifest(folder)["settings"][f"{net}/{case}"]["kd"]
    return load_config(Config, RECIPES, "pretrain_student", [f"loss.distillation={share}", "data.pseudo_labels=x"])


def stage(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """Waves, mel, targets and pseudo labels after every augmentation."""
    case = group.split("/")[1]
    net = next(name.split("/")[0] for name in manifest(folder)["settings"] if name.endswith(f"/{case}"))
    waves, frames = frames_of(folder, net, case, io)
    measured = np.stack((waves.mean(dim=1), waves.square().mean(dim=1).sqrt()))
    yield "mean and rms", measured, io[f"{group}/wave_mean_rms"], WAVE
    yield "waves", waves[:, ::1000], io[f"{group}/wave_every_1000"], WAVE
    other = f"{group}/frame_mn_mel_input_every_25"
    if other in io.files:
        yield "mel of frame_mn", frames_of(folder, "frame_mn", case, io)[1].mel[:, :, ::25], io[other], MEL
    config, settings = config_of(folder, net, case), manifest(folder)["settings"][f"{net}/{case}"]
    kind = front_end(net)
    draws = draws_of(settings, io, kind.num_mels)
    yield from seen("batch", "input", frames, group, io)
    for name, step in STEPS.items():
        frames = step(frames, draws, config.augment, kind.setting)
        yield from seen(name, name, frames, group, io)


def seen(name: str, mel: str, frames: Frames, group: str, io: Any) -> Iterator[tuple]:
    for what, own in (("targets", frames.targets), ("pseudo", frames.pseudo)):
        if own is not None and f"{group}/{name}/{what}" in io.files:
            yield f"{what} after {name}", own, io[f"{group}/{name}/{what}"], TARGET
    key = f"{group}/mel_{mel}_every_25"
    if key in io.files:
        yield f"mel after {name}", frames.mel[:, :, ::25], io[key], WARPED if mel == "freq_warp" else MEL


def build(folder: Path, net: str) -> tuple[FramewiseNetwork, dict[str, str]]:
    """The network of the file, and {published name: own name}."""
    entries, content = manifest(folder)["state"][net], manifest(folder)
    make = seeded(folder.parent)["seeded_array"]
    state = {name: torch.from_numpy(np.asarray(make(name, entry, content["seed"]))) for name, entry in entries.items()}
    hidden = state.get("seq_model.rnn.weight_hh_l0")
    layers = sum("weight_hh_l" in name and "reverse" not in name for name in state)
    sequence = None if hidden is None else SequenceConfig("gru", hidden.shape[1], layers)
    encoder = mobile(state) if net == "frame_mn" else transformer(state)
    network = FramewiseNetwork(encoder, len(state["strong_head.bias"]), sequence)
    return network, loaded(network, state)


def loaded(network: FramewiseNetwork, state: dict[str, Tensor]) -> dict[str, str]:
    own = network.from_published(state)
    network.load_state_dict(own)
    return names_of(own, state)


def names_of(own: dict[str, Tensor], published: dict[str, Tensor]) -> dict[str, str]:
    at = {value.data_ptr(): name for name, value in own.items()}
    return {name: at[value.data_ptr()] for name, value in published.items() if value.data_ptr() in at}


def transformer(state: dict[str, Tensor]) -> SpectrogramTransformer:
    dim, blocks = state["model.atst.pos_embed"].shape[-1], [name for name in state if ".blocks." in name]
    depth = 1 + max(int(name.split(".blocks.")[1].split(".")[0]) for name in blocks)
    ratio = len(state["model.atst.blocks.0.mlp.fc1.bias"]) / dim
    small = replace(ATST_F, dim=dim, depth=depth, heads=HEADS, mlp_ratio=ratio)
    return SpectrogramTransformer(small, num_classes=None, top_db_per_batch=True)


def mobile(state: dict[str, Tensor]) -> FrameMobileNet:
    """At the least width that has the shapes of the file."""
    shapes = {name: value.shape for name, value in FrameMobileNet.canonical(state).items() if "features" in name}
    for tenths in range(1, 50):
        with torch.device("meta"):
            found = FrameMobileNet(None, tenths / 10).state_dict()
        if {name: found[name].shape if name in found else None for name in shapes} == shapes:
            return FrameMobileNet(None, tenths / 10)
    raise AssertionError("no width has these shapes")


def step(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """Loss, its terms and gradients of a network, or of given logits."""
    net, case = group.split("/")
    _, frames = frames_of(folder, net, case, io)
    config, settings = config_of(folder, net, case), manifest(folder)["settings"][group]
    draws = draws_of(settings, io, front_end(net).num_mels)
    if net == "logits":
        leaf = torch.from_numpy(io["logits"]).requires_grad_()
        for name in STEPS:
            frames = STEPS[name](frames, draws, config.augment, front_end(net).setting)
        terms, trained = frame_loss(leaf, frames.targets, frames.pseudo, config.loss.distillation), {"logits": leaf}
        names: dict[str, str] = {}
    else:
        network, names = build(folder, net)
        # On CPUs the statistics of batch norm are good to 1e-4 only in float32, where the memory has channels last.
        system = FramewiseSystem(config, classes_of(io), 1, network.train()).double()
        frames = Frames(*(None if value is None else value.double() for value in frames))
        terms, trained = system.losses(system.augmented(frames, draws)), dict(network.named_parameters())
    terms["loss"].backward()
    yield "loss", terms["loss"], io[f"{group}/loss"], LOSS
    for ours, theirs in (("labels", "strong_supervised_loss"), ("distillation", "strong_distillation_loss")):
        yield theirs, terms[ours], io[f"{group}/log/{theirs}"], LOSS
    norms = {name: float(p.grad.norm()) for name, p in trained.items() if p.grad is not None}
    yield "gradient norm", np.linalg.norm(list(norms.values())), io[f"{group}/grad_norm"], NORM
    for name in io.files:
        if name.startswith(f"{group}/grad_of/"):
            yield name, norms[names[name.split("/grad_of/")[1]]], io[name], PARAMETER
    without = {names[name] for name in manifest(folder)["no_gradient"][group] if name in names}
    yield "without gradient", sorted(set(trained) - set(norms)), sorted(without), {}


def rates(folder: Path, group: str, io: Any) -> Iterator[tuple] | None:
    recipe = RECIPES / f"pretrain_{group.split('/')[1]}.yaml"
    return rates_of(recipe.stem, group, io) if recipe.is_file() else None


def rates_of(recipe: str, group: str, io: Any) -> Iterator[tuple]:
    config = load_config(Config, RECIPES, recipe)
    steps = -(-config.data.draws // config.data.batch) * config.trainer.max_epochs
    network = FramewiseNetwork(models()["atst-f-tiny"](num_classes=None), 3)
    for reading, optimizer in (
        ("as_run", config.optimizer),
        ("as_flag", replace(config.optimizer, warmup_as_run=None)),
    ):
        schedule = optimizer_of(network, optimizer, steps)[1]
        base, factor = schedule.base_lrs[0], schedule.lr_lambdas[0]
        own = [base * factor(step - 1) for step in io[f"{group}/step"].tolist()]
        yield reading, own, io[f"{group}/{reading}"], {"max": 1e-15, "rel": 1e-6}


def optimiser_groups(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    network, names = build(folder, "atst")
    for which, groups in manifest(folder)["groups_audioset"].items():
        decay = max(of["weight_decay"] for of in groups if any(n.endswith("_embed") for n in of["names"]))
        vector = next(of["weight_decay"] for of in groups if "strong_head.bias" in of["names"])
        lr = groups[0]["lr"]
        config = OptimizerConfig(lr=lr, encoder_lr=lr, weight_decay=decay, vector_decay=vector)
        own = {id(p): (g["lr"], g["weight_decay"]) for g in parameter_groups(network, config) for p in g["params"]}
        parameters = dict(network.named_parameters())
        trained = {name for name in names if name in names and parameters[names[name]].requires_grad}
        expected = {name: (of["lr"], of["weight_decay"]) for of in groups for name in of["names"]}
        yield f"{which}: what is left out", sorted(set(expected) - trained), ["model.atst.mask_embed"], {}
        found = {name: own[id(parameters[names[name]])] for name in sorted(trained)}
        yield which, list(found.values()), [expected[name] for name in found], {"max": 0.0}


def layer_decay(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """Powers of the rate's decay, by the published names of full-size networks."""
    net = group.split("/")[1]
    content = manifest(folder)["layer_decay"][net]
    model = FULL_SIZE.get(net, "frame_mn06")
    with torch.device("meta"):
        network = FramewiseNetwork(models()[model](num_classes=None), 447, SequenceConfig("gru", 8))  # type: ignore
    published = {name: torch.empty(1) for name in content["power"]}
    names = names_of(network.from_published(published), published)
    config = OptimizerConfig(lr=1.0, encoder_lr=1.0, encoder_decay=0.5, weight_decay=1e-3, vector_decay=1e-3)
    own = {id(p): g for g in parameter_groups(network, config) for p in g["params"]}
    parameters = {name: p for name, p in network.named_parameters(remove_duplicate=False) if p.requires_grad}
    there = sorted(name for name in names if names[name] in parameters)
    missing = {name for name in content["power"] if name not in there}
    yield "what is left out", all(name.endswith(("mask_embed", "norm_stats")) for name in missing), True, {}
    chosen = [own[id(parameters[names[name]])] for name in there]
    yield "powers", [-np.log2(g["lr"]) for g in chosen], [content["power"][name] for name in there], {"max": 1e-9}
    if "weight_decay" in content:
        decays = [content["weight_decay"][name] for name in there]
        yield "weight decay", [g["weight_decay"] for g in chosen], decays, {"max": 1e-12}


def groups(io: Any) -> list[str]:
    steps = [name.removesuffix("/grad_norm") for name in io.files if name.endswith("/grad_norm")]
    stages = [name.removesuffix("/wave_mean_rms") for name in io.files if name.endswith("/wave_mean_rms")]
    recipes = [name.removesuffix("/as_run") for name in io.files if name.endswith("/as_run")]
    decays = [f"layer_decay/{name}" for name in (*FULL_SIZE, "fmn06 (EfficientSED, decay 0.9)")]
    return ["labels", *stages, *steps, *recipes, "groups", *decays]


def check(folder: Path, group: str, io: Any) -> Iterator[tuple] | None:
    special = {"labels": labels, "stage": stage, "lr": rates, "groups": optimiser_groups, "layer_decay": layer_decay}
    found = special.get(group.split("/")[0], step)(folder, group, io)
    return None if found is None else plain(found)


def plain(comparisons: Iterator[tuple]) -> Iterator[tuple]:
    for what, own, official, tolerance in comparisons:
        yield what, own.detach().numpy() if isinstance(own, Tensor) else own, official, tolerance


CHECKERS = {"pretrain_student_step": (groups, check)}
