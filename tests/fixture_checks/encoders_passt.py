"""PaSST: stages from the wave to the logits, patchout with given indices, HEAR embeddings."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.encoders.hear import scene_embeddings, timestamp_embeddings
from common.encoders.transformer import MODELS, Draws, PaSST
from common.tests.helpers import seeded_state

MEL = {"max": 1e-3, "mean": 1e-5}
PATCH = {"max": 1e-4, "mean": 2e-5}
BLOCK = {"max": 2e-4, "mean": 4e-5}
TOKENS = {"max": 1e-4, "mean": 2e-5}
LOGITS = {"max": 1e-4, "mean": 2e-5}
# Samples of wave_b that timestamp_b was made from, and the step between its stored dimensions.
TIMESTAMP_PART = slice(16000, 48000)
TIMESTAMP_STEP = 5


@lru_cache(maxsize=1)
def build(folder: Path) -> PaSST:
    encoder = MODELS["passt"]()
    assert isinstance(encoder, PaSST)
    encoder.load_state_dict(encoder.canonical(seeded_state(folder)))
    return encoder.eval()


def wave(io: Any, group: str) -> Tensor:
    """Group c, longer than 10 s: the first clip, then 3 s of the second."""
    a = io["wave_a"]
    stored = np.concatenate((a[0], a[1][:96000]))[None] if group == "c" else io[f"wave_{group}"]
    return torch.from_numpy(stored.astype(np.float32) / 32768.0)


def stages(encoder: PaSST, io: Any, group: str) -> list[tuple]:
    """One pass at any length."""
    seen: list[tuple[Tensor, Tensor]] = []  # input and output of every block, and of the last norm
    layers = [*encoder.blocks, encoder.get_submodule("norm")]
    handles = [layer.register_forward_hook(lambda _m, i, o: seen.append((i[0], o))) for layer in layers]
    mel = encoder.mel(wave(io, group))
    out = encoder.from_mel(mel)
    for handle in handles:
        handle.remove()
    kept = io[f"idx_tok_{group}"]
    found: list[tuple] = []
    if f"mel_{group}" in io.files:
        got = mel[..., io[f"idx_mel_{group}"]].reshape(io[f"mel_{group}"].shape)
        rms = torch.stack([x.double().square().mean(dim=(1, 2)).sqrt() for _, x in seen[:-1]])
        found = [
            ("mel", got, io[f"mel_{group}"], MEL),
            ("patch", seen[0][0][:, kept][..., io["idx_dims"]], io[f"patch_{group}"], PATCH),
            ("block0", seen[0][1][:, kept][..., io["idx_dims"]], io[f"block0_{group}"], BLOCK),
            ("block_rms", rms, io[f"block_rms_{group}"], BLOCK),
        ]
    tokens = seen[-1][1]
    patches = tokens[:, encoder.config.special_tokens :]
    by_column = patches.reshape(len(tokens), -1, *out.frames.shape[1:]).mean(dim=1)
    found += [
        ("tokens", tokens[:, kept][..., io["idx_dims"]], io[f"tokens_{group}"], TOKENS),
        ("frames", out.frames, by_column.numpy(), TOKENS),
        ("features", out.clip, io[f"features_{group}"], TOKENS),
        ("logits", out.logits, io[f"logits_{group}"], LOGITS),
    ]
    return found


def patchout(encoder: PaSST, io: Any) -> list[tuple]:
    columns, rows, tokens = (
        torch.from_numpy(io[f"patchout_{name}"].astype(np.int64)) for name in ("time", "freq", "tokens")
    )
    mel = encoder.mel(wave(io, "a"))
    structured = encoder.from_mel(mel, draws=Draws(columns=columns, rows=rows))
    unstructured = encoder.from_mel(mel, draws=Draws(tokens=tokens))
    return [
        ("structured logits", structured.logits, io["patchout_structured_logits"], LOGITS),
        ("structured features", structured.clip, io["patchout_structured_features"], TOKENS),
        ("unstructured logits", unstructured.logits, io["patchout_unstructured_logits"], LOGITS),
    ]


def hear(encoder: PaSST, io: Any) -> list[tuple]:
    part = wave(io, "b")[:, TIMESTAMP_PART]
    embeddings, times = timestamp_embeddings(encoder, part)
    return [
        ("timestamps", embeddings[..., ::TIMESTAMP_STEP], io["timestamp_b"], LOGITS),
        ("times", times, io["timestamp_b_ms"], {"max": 1e-3}),
        ("scene", scene_embeddings(encoder, wave(io, "c")), io["scene_c"], LOGITS),
    ]


@torch.inference_mode()
def check(folder: Path, group: str, io: Any) -> list[tuple]:
    encoder = build(folder)
    if group == "patchout":
        return patchout(encoder, io)
    return hear(encoder, io) if group == "hear" else stages(encoder, io, group)


def groups(io: Any) -> list[str]:
    return [*sorted(n.removeprefix("logits_") for n in io.files if n.startswith("logits_")), "patchout", "hear"]


CHECKERS = {"passt": (groups, check)}
