"""The convolutional encoders: seeded weights, from the wave and from the stored front-end output to every output."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoders import cp_resnet, mobilenet, panns, vggish
from common.encoders.base import Encoder
from common.tests.helpers import seeded_state

MODELS = {**mobilenet.MODELS, **panns.MODELS, **vggish.MODELS, **cp_resnet.MODELS}
MEL = {"max": 2e-3, "mean": 2e-5}
MOBILENETS = {
    "mn04_as": "mn04",
    "mn10_as": "mn10",
    "mn10_as_fc_s2221": "mn10-fc-s2221",
    "mn40_as_ext": "mn40",
}
PANNS = {"panns_cnn10": "panns-cnn10", "panns_cnn14": "panns-cnn14"}
CP_RESNETS: dict[str, tuple[str, dict[str, Any]]] = {
    "cpresnet_task2_normal64": ("cp-resnet", {}),
    "cpresnet_task2_larger128": ("cp-resnet-a-bit-larger-128", {}),
    "cpresnet_nobn_smaller32": ("cp-resnet", {"setting": "a_bit_smaller", "channels": 32, "batch_norm": False}),
    "cpresnet_dcase22_student": ("cp-resnet-asc22", {}),
}
# The retrieval test of vocal imitations: seconds to which the clips are filled with silence.
VGGISH_SECONDS, MOBILENET_SECONDS = 15.4, 10.0


@functools.cache
def seeded(folder: Path) -> dict[str, Tensor]:
    """The state of the published file; tables that the folder only describes are there without values."""
    derived = json.loads((folder / "manifest.json").read_text()).get("derived", {})
    tables = {name: torch.empty(entry["shape"], device="meta") for name, entry in derived.items()}
    return seeded_state(folder) | tables


@functools.cache
def built(folder: Path, name: str, classes: int | None, prefix: str = "", **options: Any) -> Encoder:
    state = {key.removeprefix(prefix): value for key, value in seeded(folder).items() if key.startswith(prefix)}
    encoder = MODELS[name](num_classes=classes, **options)
    encoder.load_state_dict(encoder.canonical(state))
    return encoder.eval()


def wave(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32) / 32768.0)


def traces(
    network: nn.Module, io: Any, channels: str, run: Callable[[], Any]
) -> tuple[Any, list[tuple], dict[str, Tensor]]:
    """`run()`, the comparisons of the stored slices (the first channels, or every C/16-th), and the whole maps."""
    names = {key: key.removeprefix("trace/").removeprefix("net.") for key in io.files if key.startswith("trace/")}
    found: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _m, _i, output, name=name: found.update({name: output})
        )
        for name in names.values()
    ]
    output = run()
    for hook in hooks:
        hook.remove()
    comparisons = []
    for key, name in names.items():
        count, bands, frames = io[key].shape
        x = found[name][0]
        x = x[:count] if channels == "first" else x[:: len(x) // 16]
        comparisons.append((key, x[:, :bands, :frames], io[key], {"max": 5e-4, "rel": 1e-3}))
    return output, comparisons, found


@torch.inference_mode()
def check_mobilenet(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    encoder = built(folder, MOBILENETS[folder.name], io["logits"].shape[1])
    if group == "wave":
        mel = encoder.mel(wave(io["wave"]))
        yield "mel", mel, io["mel"], MEL
        out, tolerance = encoder.from_mel(mel), {"max": 1e-3, "rel": 2e-3, "mean": 1e-4}
    else:
        stored = torch.from_numpy(io["mel"])
        out, comparisons, found = traces(encoder, io, "first", lambda: encoder.from_mel(stored))
        yield from comparisons
        maps, tolerance = found[f"features.{len(encoder.features) - 1}"], {"max": 2e-4, "rel": 1e-3, "mean": 2e-5}
        yield "feature_maps_shape", maps.shape, io["feature_maps_shape"], {}
        step = maps.shape[1] // len(io["feature_maps_0"])
        yield "feature_maps_0", maps[0, ::step], io["feature_maps_0"], tolerance
        yield "frames", out.frames, maps.mean(dim=2).transpose(1, 2), {"max": 1e-5}
    yield "logits", out.logits, io["logits"], tolerance
    yield "features", out.clip, io["features"], tolerance


@torch.inference_mode()
def check_panns(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    encoder = built(folder, PANNS[folder.name], io["clipwise_output"].shape[1])
    bank = seeded(folder)["logmel_extractor.melW"]
    if group == "wave":
        mel = encoder.mel(wave(io["wave"]))
        yield "melW", encoder.front_end.bank.T, bank, {"max": 1e-6}
        yield "logmel", mel.transpose(1, 2), io["logmel"], {"max": 1e-2, "mean": 5e-4}
        out = encoder.from_mel(mel)
        tolerances = {"max": 2e-3, "rel": 5e-3, "mean": 1e-4}, {"max": 2e-3, "mean": 1e-4}
    else:
        stored = torch.from_numpy(io["logmel"]).transpose(1, 2)
        out, comparisons, _ = traces(encoder, io, "spread", lambda: encoder.from_mel(stored))
        yield from comparisons
        tolerances = {"max": 2e-4, "rel": 1e-3, "mean": 1e-5}, {"max": 2e-4, "mean": 1e-5}
    yield "embedding", out.clip, io["embedding"], tolerances[0]
    yield "clipwise_output", out.logits.sigmoid(), io["clipwise_output"], tolerances[1]


@torch.inference_mode()
def check_cp_resnet(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    name, options = CP_RESNETS[folder.name]
    encoder = built(folder, name, io["output"].shape[1], **options)
    stored = torch.from_numpy(io["mel"][:, None] if "mel" in io.files else io["observation"])
    if group == "wave":
        mel = encoder.mel(wave(io["wave"]))[..., : stored.shape[-1]]
        decibels = encoder.front_end.setting.log == "db"
        yield "mel", mel, stored[:, 0], {"max": 2e-2, "mean": 5e-4} if decibels else MEL
        output = encoder.from_mel(mel).logits
    else:
        output, comparisons, _ = traces(encoder.network, io, "spread", lambda: encoder.network(stored))
        yield from comparisons
    yield "output", output, io["output"], {"max": 1e-3, "rel": 2e-3 if group == "wave" else 1e-3}


@torch.inference_mode()
def check_vggish(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    encoder = built(folder, "vggish", None)
    tolerance = {"max": 5e-4, "rel": 1e-3, "mean": 5e-5}
    clips = {key.removeprefix("wave_"): wave(io[key])[None] for key in io.files if key.startswith("wave_")}
    filled = {f"padded_{k}": fill(clips[k], VGGISH_SECONDS, encoder) for k in clips if f"vggish_padded_{k}" in io.files}
    vectors = {}
    for key, clip in {**clips, **filled}.items():
        mel = encoder.mel(clip)
        if key in clips:
            yield (
                f"examples_{key}",
                encoder.examples(mel)[0, :, None],
                io[f"examples_{key}"],
                {"max": 1e-3, "mean": 1e-5},
            )
        yield f"vggish_{key}", encoder.from_mel(mel).frames[0], io[f"vggish_{key}"], tolerance
        vectors[key] = vector = encoder.similarity_features(clip)[0]
        stored = io[f"mvggish_{key}"]
        yield f"mvggish_{key}", vector[:: len(vector) // len(stored)], stored, tolerance
    norms = [vector.norm() for vector in vectors.values()]
    yield "mvggish_norms", norms, io["mvggish_norms"], {"max": 0.0, "rel": 1e-5}
    first, second = list(clips)[:2]
    cosine = F.cosine_similarity(vectors[first], vectors[second], dim=0)
    yield "mvggish_cosine", cosine, io[f"mvggish_cosine_{first}{second}"], {"max": 1e-5}


def fill(clips: Tensor, seconds: float, encoder: Encoder) -> Tensor:
    """Silence at the end up to `seconds`."""
    return F.pad(clips, (0, round(seconds * encoder.sample_rate) - clips.shape[1]))


@torch.inference_mode()
def check_dual_encoder(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    sides = {"im.": "imitation", "ref.": "recording"}
    embeddings = {}
    for prefix, side in sides.items():
        classes = len(seeded(folder)[f"{prefix}classifier.5.bias"])
        encoder = built(folder, "mn10", classes, prefix)
        mel = encoder.mel(fill(wave(io[f"wave_{side}"]), MOBILENET_SECONDS, encoder))
        if f"mel_{side}_head" in io.files:
            head = io[f"mel_{side}_head"]
            yield f"mel_{side}_head", mel[..., : head.shape[-1]], head, MEL
        embeddings[side] = encoder.from_mel(mel).clip
        yield side, embeddings[side], io[f"embedding_{side}"], {"max": 5e-4, "rel": 2e-3, "mean": 1e-4}
    queries, items = embeddings["imitation"], embeddings["recording"]
    cosine = F.cosine_similarity(queries[:, None], items[None], dim=-1, eps=1e-6)
    yield "cosine_matrix", cosine, io["cosine_matrix"], {"max": 2e-4}
    yield "similarity_01", (cosine.diagonal() + 1) / 2, io["similarity_01"], {"max": 2e-4}


def two_groups(io: Any) -> list[str]:
    return ["front_end_output", "wave"]


CHECKERS = {
    **dict.fromkeys(MOBILENETS, (two_groups, check_mobilenet)),
    **dict.fromkeys(PANNS, (two_groups, check_panns)),
    **dict.fromkeys(CP_RESNETS, (two_groups, check_cp_resnet)),
    "vggish": (lambda io: ["all"], check_vggish),
    "qbv_dual_encoder": (lambda io: ["all"], check_dual_encoder),
}
