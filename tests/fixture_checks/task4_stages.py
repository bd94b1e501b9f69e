"""The `task4_stage*_step` fixtures: training steps of the winner's stages, by the training system of its recipes.

`pytest tests/test_fixtures.py -k task4_stage -s` prints every figure, the published one and the own.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.augment import BandGains, Mix, Span, Warp, band_boundaries, fold
from common.encoders.transformer import ATST_F, FPASST, SpectrogramTransformer
from common.frontends import Jitter
from common.run.config import load_config
from common.tests.helpers import seeded
from task4_sed.config import Config
from task4_sed.data.batches import Batch
from task4_sed.data.classes import CLASSES
from task4_sed.model.embedder import Embedder
from task4_sed.training.augmentation import Draws, View
from task4_sed.training.losses import Blocks, Targets, interpolated
from task4_sed.training.stages import StagedSystem

RECIPES = Path(__file__).parents[2] / "task4_sed" / "recipes"
ENCODERS = {"atst": ATST_F, "fpasst": FPASST}
BLOCKS = ("strong", "weak", "unlabeled")  # groups of mixed clips, in the order of a batch
# As their READMEs expect of an own implementation that starts at the waves.
LOSS, NORM, FACTOR, EMA, MOVED = ({"max": 1e-12, "rel": rel} for rel in (2e-5, 5e-4, 1e-6, 1e-5, 1e-3))
PARAMETER = {"max": 1e-5, "rel": 2e-3}
HEARD, PROBABILITY, TARGET, STATISTIC = ({"max": value} for value in (1e-3, 1e-4, 1e-6, 1e-2))


class At(StagedSystem):
    """The system after `done` optimiser steps, with the file's draws, keeping what the networks get and give."""

    done, jitter = 0, None

    @property
    def global_step(self) -> int:
        return self.done

    def predict(self, network: Any, mel: Tensor, beside: Tensor | None, class_mask: Tensor | None) -> Any:
        found = super().predict(network, mel, beside, class_mask)
        which = "student" if network is self.student else "teacher"
        self.seen[which] = (mel, beside, class_mask, found)
        return found


class Heard(Embedder):
    """With the file's draw of the mel range."""

    drawn: Jitter | None = None

    def draw_jitter(self) -> Jitter | None:
        return self.drawn


def stage_of(folder: Path) -> int:
    return 1 if "stage1" in folder.name else 2


def weights(folder: Path, which: str, net: str) -> dict[str, Tensor]:
    manifest = json.loads((folder / "manifest.json").read_text())
    state = seeded(folder.parent)["state_from_manifest"](folder, manifest[which])
    inside = "as_model.model."

    def of_net(name: str) -> bool:
        return not name.startswith(inside) or (name.startswith(f"{inside}atst.") == (net == "atst"))

    return {name: torch.from_numpy(value) for name, value in state.items() if of_net(name)}


def build(folder: Path, io: Any, net: str) -> At:
    """The recipe without dropout, at the widths of the file's networks."""
    stage, student = stage_of(folder), weights(folder, "seed", net)
    sizes = dict(zip(Blocks._fields, io["sizes"].tolist(), strict=True))
    batches = [f"data.blocks.{name}.batch={size}" for name, size in sizes.items()]
    config = load_config(Config, RECIPES, f"iteration2_stage{stage}_{net}", ["model.dropout=0", *batches])
    pos = "as_model.model.atst.pos_embed" if net == "atst" else "as_model.model.cls_token"
    inner = "as_model.model.atst." if net == "atst" else "as_model.model."
    dim, hidden = student[pos].shape[-1], len(student[f"{inner}blocks.0.mlp.fc1.weight"])
    depth = 1 + max(int(name.split("blocks.")[1].split(".")[0]) for name in student if "blocks." in name)
    shrunk = replace(ENCODERS[net], dim=dim, depth=depth, heads=HEADS, mlp_ratio=hidden / dim)
    # In stage 1 it stands inside the networks as well here, frozen: the file's student and teacher have two of them.
    settings = replace(config.encoder, train=True)
    with torch.device("cpu"):
        embedder = Heard(settings, SpectrogramTransformer(shrunk, num_classes=None))
    projection = student["as_model.head_linear_layer.weight"]
    embedder.projection, embedder.dim = nn.Linear(dim, len(projection)).requires_grad_(False), len(projection)
    embedder.drawn = Jitter(0, int(io["fpasst/fmax_draw"])) if net == "fpasst" and stage == 2 else None
    system = At(config, CLASSES, 1, {}, embedder).train()
    for which, network in {"seed": system.student, "teacher_seed": system.teacher}.items():
        network.load_state_dict(network.from_published(weights(folder, which, net)))
    if stage == 1:
        system.student.encoder.requires_grad_(False)
    system.seen = {}
    # On CPUs the statistics of batch norm are good to 1e-4 only in float32, where the memory has channels last.
    return system.double()


HEADS = 3  # of the networks of both files: a README says it, the weights do not


def joined(io: Any, pattern: str, suffix: str = "") -> Mix:
    sizes, lam, perm, start = io["sizes"], [], [], 0
    for block, size in zip(BLOCKS, (sizes[:3].sum(), sizes[3], sizes[4]), strict=True):
        raw = torch.from_numpy(io[pattern.format("raw", block) + suffix].astype(np.float32)).reshape(-1)
        lam.append(fold(raw))
        perm.append(torch.from_numpy(io[pattern.format("perm", block) + suffix]) + start)
        start += int(size)
    return Mix(torch.cat(lam), torch.cat(perm))


def gains(io: Any, which: str, bands: int) -> BandGains:
    count, border = int(io[f"filter/bands_{which}"]), io[f"filter/raw_border_{which}"].tolist()
    assert len(border) == count - 1
    return BandGains(band_boundaries(border, bands, 6), torch.from_numpy(io[f"filter/raw_gain_{which}"]) * 12 - 6)


def draws(folder: Path, io: Any, case: str, system: At) -> Draws:
    parts = set(case.split("/")[1].split("+"))
    found: dict[str, Any] = {}
    if "mixup" in parts:
        found["mix"] = joined(io, "mixup/{}_{}")
    if stage_of(folder) == 2:
        width, start = io["time_mask/width_start"].tolist()
        found["mask"] = Span(start, width)
    if "mixstyle" in parts:
        found["style"] = tuple(joined(io, "mixstyle/{}_{}", f"_{which}") for which in ("mel", "transformer"))
    if "warp" in parts:
        drawn = zip(io["warp/height"].tolist(), io["warp/offset"].tolist(), strict=True)
        found["warp"] = [Warp(height, offset) for height, offset in drawn]
    if "filter" in parts:
        bands = {"mel": system.front_end.num_mels, "transformer": system.augmenter.setting.num_mels}
        found["filter"] = tuple(gains(io, which, count) for which, count in bands.items())
    return Draws(**found)


def batch_of(io: Any) -> Batch:
    wave, labels, mask, pseudo = (torch.from_numpy(io[name]) for name in ("wave", "labels", "class_mask", "pseudo"))
    return Batch(wave.float() / 32768, labels, mask, torch.arange(len(wave)), pseudo=pseudo.float())


def published_name(name: str, net: str) -> str:
    inner = "as_model.model.atst." if net == "atst" else "as_model.model."
    if name.startswith("crnn."):
        return name.removeprefix("crnn.")
    if name.startswith("projection."):
        return name.replace("projection", "as_model.head_linear_layer")
    name = name.replace("encoder.", inner, 1)
    if net == "atst":
        name = name.replace("patch_embed.proj", "patch_embed.patch_embed")
        name = name.replace("atst.norm.", "atst.norm_frame.")
    return name


def gradients(system: At, net: str) -> dict[str, float]:
    """{published name: norm}; NaN without a gradient."""
    named = system.student.named_parameters()
    return {published_name(n, net): float("nan") if p.grad is None else float(p.grad.norm()) for n, p in named}


def total(norms: Mapping[str, float], start: str = "") -> float:
    """NaN where no parameter has a gradient."""
    found = [norm for name, norm in norms.items() if name.startswith(start) and norm == norm]
    return float(np.linalg.norm(found)) if found else float("nan")


def step(folder: Path, case: str, io: Any) -> Iterator[tuple]:
    net, stage = case.split("/")[0], stage_of(folder)
    system = build(folder, io, net)
    system.done = int(io["global_step"])
    drawn = draws(folder, io, case, system)
    student, teacher, targets = system.inputs(batch_of(io), drawn)
    loss, terms = system.losses(student, teacher, targets, drawn)
    yield from heard(io, case, system, student, teacher, targets)
    yield "loss", loss.item(), io[f"{case}/loss"], LOSS
    names = {"maestro": "bce_maestro", "strong": "bce_real", "synth": "bce_synth", "weak": "bce_weak"}
    names |= {"ssl_strong": "mt_strong", "ssl_weak": "mt_weak"} if drawn.mix is None or stage == 1 else {}
    names |= {"pseudo_desed": "pseudo_desed", "pseudo_maestro": "pseudo_maestro"} if stage == 1 else {}
    for ours, theirs in names.items():
        yield theirs, terms[ours].item(), io[f"{case}/term/{theirs}"], LOSS
    yield "ssl weight", float(terms["ssl_weight"]), io[f"{case}/log/ssl_weight"], FACTOR
    if drawn.mix is not None and stage == 2:
        yield from ict(io, case, system, terms, drawn.mix)
    for which, network in {"student": system.student, "teacher": system.teacher}.items():
        norms = [m for m in network.crnn.cnn.modules() if isinstance(m, nn.BatchNorm2d)]
        found = np.array([[float(m.running_mean.norm()), float(m.running_var.norm())] for m in norms])
        yield f"batch norm of the {which}", found, io[f"{case}/bn/{which}"], {"max": 1e-4, "rel": 1e-4}
    loss.backward()
    yield from of_gradients(io, case, gradients(system, net))


def heard(io: Any, case: str, system: At, student: View, teacher: View, targets: Targets) -> Iterator[tuple]:
    """Inputs, outputs and targets."""
    for which, view in {"student": student, "teacher": teacher}.items():
        yield f"mel of the {which}", view.mel[:, ::8, ::25], io[f"{case}/{which}/mel"], HEARD
        yield f"encoder's mel of the {which}", view.beside[:, ::8, ::40], io[f"{case}/{which}/transformer_mel"], HEARD
        prediction = system.seen[which][3]
        outputs = {"": prediction} | ({"_unmasked": prediction.unmasked()} if which == "student" else {})
        for suffix, found in outputs.items():
            strong, weak = found.strong.detach(), found.weak.detach()
            yield f"strong{suffix} of the {which}", strong[..., ::6], io[f"{case}/{which}/strong{suffix}"], PROBABILITY
            yield f"weak{suffix} of the {which}", weak, io[f"{case}/{which}/weak{suffix}"], PROBABILITY
    blocks, mask = system.blocks, targets.class_mask
    yield "class mask", mask, io[f"{case}/class_mask_mixed"], {}
    used = system.seen["teacher"][2]
    yield "teacher's class mask", torch.ones_like(mask) if used is None else used, io[f"{case}/teacher_class_mask"], {}
    strong, weak = targets.strong * mask[..., None], targets.weak * mask
    yield "strong targets", strong[: blocks.framewise], io[f"{case}/target/strong"], TARGET
    yield "weak targets", weak[blocks.slices["weak"]], io[f"{case}/target/weak"], TARGET
    if f"{case}/target/pseudo" in io.files:
        yield "pseudo labels", (targets.pseudo * mask[..., None])[..., ::6], io[f"{case}/target/pseudo"], TARGET


def ict(io: Any, case: str, system: At, terms: Mapping[str, Tensor], mix: Mix) -> Iterator[tuple]:
    wanted = interpolated(system.seen["teacher"][3], mix)
    framewise, weak = system.blocks.framewise, system.blocks.slices["weak"]
    parts = {"strong": slice(0, framewise), "weak": weak, "unlabeled": slice(weak.stop, None)}
    for name, clips in parts.items():
        of_frames, of_clips = (io[f"{case}/term/ict_{name}_{kind}"] for kind in ("strong", "weak"))
        yield f"ICT of {name}", terms[f"ict_{name}"].item(), of_frames + of_clips / 2, LOSS
        target = io[f"{case}/ict_target/{name}_strong"]
        yield f"ICT target of {name}", wanted.strong[clips][..., ::6], target, PROBABILITY
        target = io[f"{case}/ict_target/{name}_weak"]
        if target.shape[1] == wanted.weak.shape[1]:
            yield f"ICT clip target of {name}", wanted.weak[clips], target, PROBABILITY


def of_gradients(io: Any, case: str, norms: Mapping[str, float]) -> Iterator[tuple]:
    for part in ("all", "cnn", "rnn", "cat_tf", "dense.", "dense_softmax", "head_linear_layer", "transformer"):
        official = io[f"{case}/grad_norm/{part.rstrip('.')}"]
        start = {"all": "", "head_linear_layer": "as_model.head", "transformer": "as_model.model."}.get(part, part)
        yield (
            f"gradient exists: {part}",
            bool(total(norms, start) == total(norms, start)),
            bool(official == official),
            {},
        )
        if official == official:
            yield f"gradient of {part}", total(norms, start), official, NORM
    for name, official in zip(io[f"{case}/grad/names"], io[f"{case}/grad/norms"], strict=True):
        own = norms[str(name)]
        yield f"gradient exists: {name}", own == own, bool(official == official), {}
        if official == official and not (name.startswith("cnn.cnn.conv") and name.endswith("bias")):
            yield f"gradient of {name}", own, official, PARAMETER


def rates(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """Learning rates in steps 1, 2, ..., of every parameter by its name."""
    for net in ENCODERS:
        system = build(folder, io, net)
        wanted = (
            io["lr/value"]
            if "lr/value" in io.files
            else io[f"{net}/lr/value"]
            if f"{net}/lr/value" in io.files
            else None
        )
        if wanted is None:
            continue
        wanted = wanted.reshape(len(io["lr/step"]), -1)
        system.config.trainer.max_epochs = int(io["lr/step"].max())
        made = system.configure_optimizers()
        optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
        group_of = {}
        if f"{net}/group/names" in io.files:
            group_of = dict(zip(io[f"{net}/group/names"].tolist(), io[f"{net}/group/of_name"].tolist(), strict=True))
        names = {id(p): published_name(n, net) for n, p in system.student.named_parameters()}
        at = dict(zip(io["lr/step"].tolist(), wanted, strict=True))
        for done in range(max(at)):
            if done + 1 in at:
                rows = [(names[id(p)], g["lr"]) for g in optimizer.param_groups for p in g["params"]]
                expected = [at[done + 1][group_of.get(name, 0)] for name, _ in rows]
                yield (
                    f"{net}: rates in step {done + 1}",
                    [rate for _, rate in rows],
                    expected,
                    {"max": 1e-18, "rel": 1e-6},
                )
            with warnings.catch_warnings(action="ignore"):  # the schedule moves without the optimiser
                schedule.step()
        decay = {g["weight_decay"] for g in optimizer.param_groups}
        yield f"{net}: one weight decay", decay, {system.config.optimizer.weight_decay}, {}


def consistency(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    system = build(folder, io, "atst")
    own = [system.ssl_weight(step) for step in io["ssl/global_step"].tolist()]
    yield "ssl weight", own, io["ssl/weight"], {"max": 1e-12, "rel": 1e-6}


def teacher(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    """How far the teacher is, and moves after so many optimiser steps."""
    net = group.split("/")[1]
    system = build(folder, io, net)

    def distance(one: nn.Module, other: list[Tensor]) -> float:
        return float(
            sum(float((p.double() - q.double()).square().sum()) for p, q in zip(one.parameters(), other, strict=True))
            ** 0.5
        )

    first = [p.detach().clone() for p in system.teacher.parameters()]
    yield "distance", distance(system.student, first), io[f"{net}/mixup/ema/distance"], EMA
    for name in io.files:
        if name.startswith(f"{net}/mixup/ema/moved_"):
            for p, q in zip(system.teacher.parameters(), first, strict=True):
                p.data.copy_(q)
            system.done = int(name.rsplit("_", 1)[1])
            system.on_before_zero_grad(None)
            yield name, distance(system.teacher, first), io[name], {"max": 1e-12, "rel": 1e-4}


def groups(io: Any) -> list[str]:
    cases = [name.removesuffix("/loss") for name in io.files if name.endswith("/loss") and name.count("/") == 2]
    return [*cases, "rates", "consistency", *(f"teacher/{net}" for net in ENCODERS)]


def check(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    special = {"rates": rates, "consistency": consistency, "teacher": teacher}
    for what, own, official, tolerance in special.get(group.split("/")[0], step)(folder, group, io):
        own = own.detach().numpy() if isinstance(own, Tensor) else own
        if np.ndim(own) == 0 and tolerance:
            print(f"{group:28s} {what:40s} official {float(official):<14.9g} own {float(own):<14.9g}")
        yield what, own, official, tolerance


CHECKERS = {"task4_stage1_step": (groups, check), "task4_stage2_step": (groups, check)}
