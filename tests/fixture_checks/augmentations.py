"""The `augmentations` fixture: inputs and stored random draws -> outputs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import augment
from common.augment import BandGains, ImpulseDraw, MaskDraw, Mix, Span, Stripes, Warp
from common.encoders.transformer import Draws, kept

Inputs = dict[str, Tensor]
Outputs = dict[str, Tensor]
EXACT: dict[str, float] = {}
CLOSE = {"max": 1e-5}
LOOSE = {"max": 1e-4}


def mixstyle(x: Inputs, per_channel: bool) -> Outputs:
    lam = augment.fold(x["lam_raw"]) if per_channel else x["lam"]
    return {"out": augment.freq_mixstyle(x["x"], Mix(lam, x["perm"]), per_channel)}


def task4_mixup(x: Inputs, hard: bool) -> Outputs:
    mix = Mix(x["c_raw"] if hard else augment.fold(x["c_raw"]), x["perm"])
    labels = augment.mixup_hard_labels if hard else augment.mixup_soft_labels
    out = {
        "out_data": augment.mixup(x["data"], mix),
        "out_embeddings": augment.mixup(x["embeddings"], mix),
        "out_targets": labels(x["targets"], mix),
    }
    if not hard:
        out["out_pseudo_strong"] = augment.mixup_soft_labels(x["pseudo_strong"], mix)
        out["out_valid_class_mask"] = augment.mixup_class_mask(x["valid_class_mask"], x["targets"], mix)
    return out


def mixup_lam(x: Inputs) -> Outputs:
    lam = augment.fold(x["beta_raw"])
    return {"lam": lam, "out": augment.mixup(x["x"], Mix(lam, x["perm"]))}


def wavmix(x: Inputs) -> Outputs:
    lam = augment.fold(x["beta_raw"])[None]
    pairs = {name: (x[f"{name}_1"][None], x[f"{name}_2"][None]) for name in ("labels", "pseudo_strong", "pseudo_weak")}
    out = {f"out_{name}": augment.mix_pair(*pair, lam)[0] for name, pair in pairs.items()}
    return out | {"out_wave": augment.wavmix(x["wave_1"][None], x["wave_2"][None], lam)[0]}


def device_impulse(x: Inputs) -> Outputs:
    chosen = ImpulseDraw(torch.tensor([0]), torch.tensor([True]))
    return {"out": augment.device_impulse(x["wave"][None], x["impulse"][None], chosen)[0]}


def filter_augment(x: Inputs) -> Outputs:
    out = {}
    for name in x:
        if not name.startswith("n_bands_"):
            continue
        draw = name.removeprefix("n_bands_")
        bands, count = x["x"].shape[-2], int(x[name])
        width = min(6, bands // count)
        boundaries = augment.band_boundaries(x[f"raw_boundaries_{draw}"].tolist(), bands, width)
        gains = x[f"factors_uniform_{draw}"] * 12.0 - 6.0
        out[f"out_{draw}"] = augment.filter_augment(x["x"], BandGains(boundaries, gains))
    return out


def frame_shift(x: Inputs) -> Outputs:
    frames = x["mels"].shape[-1]
    shift = x["gauss"].trunc().long()
    out = {"out_mels": augment.roll(x["mels"], shift)}
    for name in ("labels", "pseudo_labels", "embeddings"):
        out[f"out_{name}"] = augment.roll(x[name], augment.scaled_shift(shift, frames / x[name].shape[-1]))
    return out


def time_mask(x: Inputs) -> Outputs:
    span = Span(int(x["start"]), int(x["width"]))
    frames = x["labels"].shape[-1]
    # The fixture's pseudo labels stay unmasked, a mistake of the official code; they are masked here like labels.
    return {
        f"out_{name}": augment.time_mask(x[name], span, x[name].shape[-1] / frames)
        for name in ("mels", "labels", "embeddings")
    }


def mask(x: Inputs, widest: int, axis: int = -1, share: float = 1.0) -> Outputs:
    return {"out": augment.spec_mask(x["x"], MaskDraw(x["u_width"], x["u_start"]), widest, axis, share)}


def specaug_panns(x: Inputs) -> Outputs:
    shape = x["x_shape"].tolist()
    width, start = x["draws"].reshape(2, shape[0], -1, 2).unbind(-1)
    masked = augment.stripe_mask(torch.ones(shape), Stripes(width[0], start[0]), axis=-2)
    masked = augment.stripe_mask(masked, Stripes(width[1], start[1]))
    return {"out_mask": masked == 0}


def patchout(x: Inputs) -> Outputs:
    first, columns = int(x["time_offset"]), x["tokens"].shape[-1]
    patches = x["tokens"] + x["time_pos"][..., first : first + columns] + x["freq_pos"]
    tokens, _ = kept(patches, Draws(x.get("keep_time"), x.get("keep_freq"), x.get("keep")))
    special = torch.cat((x["cls_token"], x["dist_token"]), dim=1) + x["token_pos"]
    return {"out": torch.cat((special.expand(len(tokens), -1, -1), tokens), dim=1)}


def gain(x: Inputs) -> Outputs:
    return {"out": augment.gain(x["x"], x["draw"] - 5)}


def roll(x: Inputs) -> Outputs:
    return {"out": augment.roll(x["x"][None], x["shift"][None])[0]}


def blur(x: Inputs) -> Outputs:
    sigmas = [name.removeprefix("out_") for name in x if name.startswith("out_")]
    return {f"out_{sigma}": augment.gaussian_blur(x["observation"], float(sigma)) for sigma in sigmas}


def warp(x: Inputs) -> Outputs:
    return {"out": augment.freq_warp(x["x"], Warp(int(x["height"]), int(x["start"])))}


# By the start of a group's name; the longest that fits counts.
CHECKS: dict[str, tuple[Callable[[Inputs], Outputs], dict[str, float]]] = {
    "freq_mixstyle": (lambda x: mixstyle(x, per_channel=False), CLOSE),
    "freq_mixstyle_task4": (lambda x: mixstyle(x, per_channel=True), CLOSE),
    "mixup_task4_soft": (lambda x: task4_mixup(x, hard=False), CLOSE),
    "mixup_task4_hard": (lambda x: task4_mixup(x, hard=True), CLOSE),
    "mixup_lam": (mixup_lam, CLOSE),
    "mixup_panns": (lambda x: {"out": augment.mixup_adjacent(x["x"], x["lam"])}, CLOSE),
    "wavmix_task4": (wavmix, CLOSE),
    "device_impulse": (device_impulse, LOOSE),
    "freq_warp": (warp, LOOSE),
    "filter_augment": (filter_augment, CLOSE),
    "frame_shift": (frame_shift, EXACT),
    "time_mask": (time_mask, EXACT),
    "mask_frequency": (lambda x: mask(x, 5, axis=-2), EXACT),
    "mask_time": (lambda x: mask(x, 8), EXACT),
    "mask_shared": (lambda x: mask(x, 8), EXACT),
    "dropstep": (lambda x: mask(x, 16, share=0.3), EXACT),
    "specaug_panns": (specaug_panns, EXACT),
    "patchout": (patchout, CLOSE),
    "gain_batch": (gain, CLOSE),
    "roll": (roll, EXACT),
    "task2_blur": (blur, CLOSE),
}


def check(folder: Path, group: str, io: Any) -> Iterator[tuple] | None:
    names = [name for name in CHECKS if group == name or group.startswith(f"{name}_")]
    if not names:
        return None
    function, tolerance = CHECKS[max(names, key=len)]
    return outputs(group, io, function, tolerance)


def outputs(group: str, io: Any, function: Callable[[Inputs], Outputs], tolerance: dict[str, float]) -> Iterator[tuple]:
    names = [name.split("/", 1)[1] for name in io.files if name.startswith(f"{group}/")]
    inputs = {name: torch.from_numpy(np.asarray(io[f"{group}/{name}"])) for name in names}
    for name, value in function(inputs).items():
        yield name, value.numpy(), io[f"{group}/{name}"], tolerance


CHECKERS = {"augmentations": (lambda io: list(dict.fromkeys(name.split("/")[0] for name in io.files)), check)}
