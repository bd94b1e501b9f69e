"""The `task4_baseline_step` fixture: training steps of the published baseline, by the training system of its recipes.

`pytest tests/test_fixtures.py -k task4_baseline_step -s` prints every figure, the published one and the own.
"""

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.augment import Mix
from common.run.config import load_config
from common.tests.helpers import seeded
from task4_sed.config import Config
from task4_sed.data.batches import Batch
from task4_sed.data.classes import CLASSES
from task4_sed.model.networks import front_end
from task4_sed.training.losses import Blocks
from task4_sed.training.system import SedSystem

RECIPES = Path(__file__).parents[1] / "recipes"
NETS = {"cnn": "baseline", "beats": "baseline_beats"}
FILE_ORDER = ("maestro", "synth", "strong", "weak", "unlabeled")
TERMS = {  # what the published code logs -> what the system logs
    "student_loss_strong": "train/strong",
    "student_loss_weak": "train/weak",
    "student_strong_self_sup_loss": "train/ssl_strong",
    "student_weak_self_sup_loss": "train/ssl_weak",
    "weight": "train/ssl_weight",
}
LOSS, GRADIENT, FACTOR = ({"max": 0.0, "rel": rel} for rel in (1e-5, 1e-4, 1e-6))
PARAMETER = {"max": 1e-6, "rel": 1e-4}  # sums that nearly cancel


class Forced(SedSystem):
    """The system after `done` optimiser steps, with the given draws; keeps what it logs."""

    done = 0

    @property
    def global_step(self) -> int:
        return self.done

    def force(self, mixes: list[Mix]) -> None:
        self.mixes, self.logged = list(mixes), dict[str, Tensor]()

    def _draw_mix(self, device: torch.device) -> Mix:
        return self.mixes.pop(0)

    def log_dict(self, dictionary: Any, **_: Any) -> None:
        self.logged |= dictionary


def weights(folder: Path, which: str, net: str) -> dict[str, Tensor]:
    seed = json.loads((folder / "manifest.json").read_text())[which]
    state = seeded(folder.parent)["state_from_manifest"](folder, seed)
    return {name: torch.from_numpy(v) for name, v in state.items() if net == "beats" or not name.startswith("cat_tf")}


def configured(io: Any, state: dict[str, Tensor], net: str, mix: str) -> Config:
    """The recipe, without random draws, for the file's blocks and the sizes of its network."""
    batches = [f"data.blocks.{name}.batch={size}" for name, size in zip(FILE_ORDER, io["sizes"].tolist(), strict=True)]
    sure = f"augment.mixup_probability={int(mix != 'none')}"
    config = load_config(Config, RECIPES, NETS[net], ["model.dropout=0", "model.dropstep=0", sure, *batches])
    channels = tuple(len(state[f"cnn.cnn.conv{index}.weight"]) for index in range(len(config.model.channels)))
    fusion = state.get("cat_tf.weight")
    sizes: dict[str, Any] = {"embedding_dim": None} if fusion is None else {
        "embedding_dim": fusion.shape[1] - channels[-1], "fusion_dim": len(fusion)
    }  # fmt: skip
    hidden, classes = state["rnn.rnn.weight_hh_l0"].shape[1], io["labels"].shape[1]
    model = replace(config.model, channels=channels, rnn_hidden=hidden, num_classes=classes, **sizes)
    return replace(config, model=model)


def steps_per_epoch(io: Any, config: Config) -> int:
    """Out of the first rates of the warm-up, which the recipe counts in epochs."""
    step, rate = next((n, r) for n, r in zip(io["lr/step"], io["lr/value"], strict=True) if n > 1)
    done = 1 - np.sqrt(-np.log(rate / config.optimizer.lr) / 5)
    return round(step / done / config.optimizer.warmup_epochs)


def build(folder: Path, io: Any, net: str, mix: str) -> Forced:
    student = weights(folder, "seed", net)
    config = configured(io, student, net, mix)
    system = Forced(config, CLASSES, steps_per_epoch(io, config), {})
    system.student.load_state_dict(student)
    system.teacher.load_state_dict(weights(folder, "teacher_seed", net))
    return system.train()


def order(io: Any) -> Tensor:
    """Positions of the file's clips, in the order of the blocks here."""
    parts = dict(zip(FILE_ORDER, torch.arange(int(io["sizes"].sum())).split(io["sizes"].tolist()), strict=True))
    return torch.cat([parts[name] for name in Blocks._fields])


def mix_of(io: Any, perms: dict[str, np.ndarray], coefficients: np.ndarray) -> Mix:
    """A draw of the file for the whole batch, in the order of the blocks here."""
    size, clips = dict(zip(FILE_ORDER, io["sizes"].tolist(), strict=True)), order(io)
    lam, perm, start = torch.ones(len(clips)), torch.arange(len(clips)), 0
    groups = {"maestro": size["maestro"], "synth_strong": size["synth"] + size["strong"], "weak": size["weak"]}
    named = dict(zip(("weak", "synth_strong", "maestro"), coefficients.tolist(), strict=True))
    for name, count in groups.items():
        lam[start : start + count] = named[name]
        perm[start : start + count] = torch.from_numpy(perms[name].copy()) + start
        start += count
    return Mix(lam[clips], clips.argsort()[perm[clips]])


def draws(folder: Path, io: Any, net: str, mix: str) -> list[Mix]:
    """The draws that the system asks for: beside embeddings two, which in the case "once" are the same.

    So the labels are mixed twice in both cases.
    """
    if mix == "none":
        return []
    first = "coefficient/weak_synthstrong_maestro"
    perms = {name: io[f"perm/{name}"] for name in ("weak", "synth_strong", "maestro")}
    found = [mix_of(io, perms, io[first])] * (2 if net == "beats" else 1)
    if mix == "twice":  # the second draw's coefficients: in the file, or in words beside it
        other = [io[name] for name in io.files if name.startswith("coefficient") and name != first]
        words = re.search(r"permutations reversed, coefficients ([\d., ]+\d)", (folder / "README.md").read_text())
        second = other[0] if other else np.array(words[1].split(","), float) if words else None
        if second is None:
            pytest.skip("the second draw's coefficients are neither in io.npz nor in README.md")
        found[1] = mix_of(io, {name: perm[::-1] for name, perm in perms.items()}, second)
    return found


def batch_of(io: Any, net: str) -> Batch:
    clips = order(io)
    wave, labels, mask = (torch.from_numpy(io[name])[clips] for name in ("wave", "labels", "class_mask"))
    embeddings = torch.from_numpy(io["embeddings"])[clips] if net == "beats" else None
    return Batch(wave.float() / 32768, labels, mask, torch.arange(len(clips)), embeddings)


def norm(parameters: Iterator[nn.Parameter]) -> float:
    return float(torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in parameters if p.grad is not None])))


def step(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """Loss terms and gradients of one training step."""
    net, mix = group.split("/")
    system = build(folder, io, net, mix)
    counter = int(io[f"{group}/log/step"])
    system.done = counter - 1
    system.force(draws(folder, io, net, mix))
    loss = system.training_step(batch_of(io, net), 0)
    loss.backward()
    assert not system.mixes, "the system has not asked for all draws"
    own = {name: float(value) for name, value in system.logged.items()}
    yield "step counter", system.schedule_step, counter, {}
    yield "loss", loss.item(), io[f"{group}/loss"], LOSS
    for there, here in TERMS.items():
        yield there, own[here], io[f"{group}/log/{there}"], LOSS
    consistency = own["train/ssl_weight"] * (own["train/ssl_strong"] + own["train/ssl_weak"])
    yield "student_tot_self_loss", consistency, io[f"{group}/log/student_tot_self_loss"], {"max": 1e-7, "rel": 1e-5}
    yield "grad_norm", norm(system.student.parameters()), io[f"{group}/grad_norm"], GRADIENT
    parameters = dict(system.student.named_parameters())
    for name in io.files:
        if name.startswith(f"{group}/grad_of/"):
            of = name.removeprefix(f"{group}/grad_of/")
            yield f"gradient of {of}", norm(iter([parameters[of]])), io[name], PARAMETER


def rates(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """The optimiser's learning rate in steps 1, 2, ..."""
    made = build(folder, io, "cnn", "none").configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    wanted, step = dict(zip(io["lr/step"].tolist(), io["lr/value"].tolist(), strict=True)), 0
    with warnings.catch_warnings(action="ignore"):  # the schedule moves without the optimiser
        while wanted:
            step += 1
            if step in wanted:
                yield f"lr in step {step}", optimizer.param_groups[0]["lr"], wanted.pop(step), FACTOR
            schedule.step()


def teacher(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """How much of itself the teacher keeps when it moves in steps 1, 2, ..."""
    system = build(folder, io, "cnn", "none")
    optimizer = system.configure_optimizers()["optimizer"]
    for step, decay in zip(io["teacher/step"].tolist(), io["teacher/decay"].tolist(), strict=True):
        system.done = step - 1
        for network, value in ((system.teacher, 1.0), (system.student, 0.0)):
            for parameter in network.parameters():
                nn.init.constant_(parameter, value)
        system.on_before_zero_grad(optimizer)
        kept = {float(value) for p in system.teacher.parameters() for value in (p.min(), p.max())}
        yield f"one decay for all in step {step}", len(kept), 1, {}
        yield f"teacher decay in step {step}", kept.pop(), decay, FACTOR


def groups(io: Any) -> list[str]:
    cases = [name.removesuffix("/loss") for name in io.files if name.endswith("/loss")]
    return cases + [part for part in ("lr", "teacher") if f"{part}/step" in io.files] + ["frames"]


def frames(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """The network has a frame for each of the labels'."""
    model = configured(io, weights(folder, "seed", "cnn"), "cnn", "none").model
    count = model.num_frames(front_end(model).num_frames(io["wave"].shape[1]))
    yield "frames", count, io["labels"].shape[2], {}


def check(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    special = {"lr": rates, "teacher": teacher, "frames": frames}
    for what, own, official, tolerance in special.get(group, step)(folder, group, io):
        relative = abs(own - float(official)) / abs(float(official))
        print(f"{group:12s} {what:40s} official {float(official):<14.9g} own {own:<14.9g} relative {relative:.1e}")
        yield what, own, official, tolerance


CHECKERS = {"task4_baseline_step": (groups, check)}
