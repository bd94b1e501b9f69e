"""The frame-wise encoders: wave -> mel -> patches -> blocks -> sequence -> 250 frames -> logits, stage by stage."""

import importlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.encoders.base import FrameEncoder, resample_frames
from common.tests.helpers import seeded_state

FRAMES = 250  # whatever the length of the clip, as the published weights were trained
CLASS_STEP = 40  # strong_a_classes
# folder -> module, model, its blocks, options
MODELS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "fpasst": ("transformer", "fpasst", "blocks", {}),
    "atst_frame": ("transformer", "atst-f", "blocks", {"top_db_per_batch": True}),
    "m2d": ("transformer", "m2d", "blocks", {}),
    "asit": ("transformer", "asit", "blocks", {}),
    "beats": ("beats", "beats", "encoder.layers", {}),
    "frame_mn06": ("mobilenet", "frame_mn06", "features", {}),
    "frame_mn10": ("mobilenet", "frame_mn10", "features", {}),
}
# Largest errors of mel, patches, blocks (feature maps), sequence and frames, strong, weak.
BOUNDS: dict[str, tuple[float, ...]] = {
    "fpasst": (2e-3, 5e-4, 5e-4, 1e-4, 1e-4, 1e-4),
    "atst_frame": (1e-3, 1e-4, 1e-4, 1e-4, 2e-4, 1e-4),
    "m2d": (1e-3, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4),
    "asit": (1e-3, 5e-4, 1e-3, 2e-4, 2e-4, 1e-4),
    "beats": (5e-3, 2e-3, 2e-3, 2e-3, 5e-4, 1e-4),
    "frame_mn06": (2e-3, 2e-3, 2e-3, 5e-4, 5e-4, 1e-4),
    "frame_mn10": (2e-3, 2e-3, 2e-3, 5e-3, 2e-3, 2e-4),
}
STAGES = ("mel", "patch", "block", "seq", "strong", "weak")


def tolerances(folder: str) -> dict[str, dict[str, float]]:
    """A mean error above a fifth of the largest allowed one is not a matter of rounding."""
    found = {stage: {"max": bound, "mean": bound / 5} for stage, bound in zip(STAGES, BOUNDS[folder], strict=True)}
    return found | {"mel": {"max": BOUNDS[folder][0], "mean": 1e-5}}


@lru_cache(maxsize=1)  # the groups of a folder follow each other, and the models are large
def build(folder: Path) -> FrameEncoder:
    module, name, _, options = MODELS[folder.name]
    encoder = importlib.import_module(f"common.encoders.{module}").MODELS[name](**options)
    encoder.load_state_dict(encoder.canonical(seeded_state(folder)))
    return encoder.eval()


def wave(io: Any, group: str, sample_rate: int) -> Tensor:
    """Group c, longer than 10 s: the first clip, then 3 s of the second."""
    if f"wave_{group}" in io.files:
        stored = io[f"wave_{group}"]
    else:
        stored = np.concatenate((io["wave_a"][0], io["wave_a"][1][: 3 * sample_rate]))[None]
    return torch.from_numpy(stored.astype(np.float32) / 32768.0)


class Trace:
    """Input of the first block and output of each, of the first pass."""

    def __init__(self, blocks: nn.Module) -> None:
        self.first: Tensor | None = None
        self.outputs: dict[int, Tensor] = {}
        layers = list(blocks.children())
        self.handles = [layers[0].register_forward_pre_hook(self.before)]
        self.handles += [layer.register_forward_hook(self.after(index)) for index, layer in enumerate(layers)]

    def before(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.first = inputs[0] if self.first is None else self.first

    def after(self, index: int) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.outputs.setdefault(index, output)

        return keep

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def rms(self) -> Tensor:
        """(blocks, batch)."""
        return torch.stack([x.double().square().flatten(1).mean(1).sqrt() for _, x in sorted(self.outputs.items())])


def spread(x: Tensor, expected: np.ndarray) -> Tensor:
    """Every n-th entry along each axis, so that the shape is that of `expected`."""
    steps = [max(1, size // kept) for size, kept in zip(x.shape, expected.shape, strict=True)]
    return x[tuple(slice(None, None, step) for step in steps)]


def blocks_checks(io: Any, group: str, trace: Trace, allowed: dict[str, dict[str, float]]) -> list[tuple]:
    found = []
    if f"patch_{group}" in io.files:
        assert trace.first is not None
        for name, x, stage in (("patch", trace.first, "patch"), ("block0", trace.outputs[0], "block")):
            got = x[:, io[f"idx_tok_{group}"]][..., io["idx_dims"]]
            found.append((name, got, io[f"{name}_{group}"], allowed[stage]))
    for name in ("block_rms", "features_rms"):
        if f"{name}_{group}" in io.files:
            found.append((name, trace.rms(), io[f"{name}_{group}"], allowed["block"]))
    for index, x in trace.outputs.items():
        if f"f{index}_{group}" in io.files:
            expected = io[f"f{index}_{group}"]
            found.append((f"f{index}", spread(x, expected), expected, allowed["block"]))
    return found


def extra_checks(encoder: Any, io: Any, mel: Tensor, x: Tensor, allowed: dict[str, dict[str, float]]) -> list[tuple]:
    """Other readouts of the first group; `x` is the 250 frames."""
    encoder.head_kind = "attention"
    attention = encoder.readout(x).logits.sigmoid()
    encoder.head_kind = "linear"
    found = [("attention_weak", attention, io["attention_weak_a"], allowed["weak"])]
    if "mel_a_item1_alone" in io.files:
        alone = encoder.mel(wave(io, "a", encoder.sample_rate)[1:2])[..., io["idx_mel_a"]]
        found.append(("mel alone", alone[:, None], io["mel_a_item1_alone"], allowed["mel"]))
    if "last3_a" in io.files:
        last = torch.cat(list(encoder.blocks_out(mel, 3)), dim=-1)
        found.append(("last3", spread(last, io["last3_a"]), io["last3_a"], allowed["seq"]))
    if "scene12_a" in io.files:
        valid = torch.full((len(mel),), mel.shape[2] // 4)
        scene = encoder.scene(mel, 12, valid)
        found.append(("scene12", spread(scene, io["scene12_a"]), io["scene12_a"], allowed["seq"]))
    if "state/model.to_spec.mel_basis" in io.files:
        bank = encoder.front_end.bank
        found.append(("mel bank", bank, io["state/model.to_spec.mel_basis"], {"max": 1e-7, "rel": 1e-5}))
    return found


@torch.inference_mode()
def check(folder: Path, group: str, io: Any) -> list[tuple]:
    encoder, allowed = build(folder), tolerances(folder.name)
    mel = encoder.mel(wave(io, group, encoder.sample_rate))
    with Trace(encoder.get_submodule(MODELS[folder.name][2])) as trace:
        x = encoder.sequence(mel)
    out = encoder.readout(resample_frames(x, FRAMES))
    dims = io["idx_seq_dims"] if "idx_seq_dims" in io.files else io["idx_dims"]
    assert out.frame_logits is not None
    strong = out.frame_logits.transpose(1, 2)
    found = blocks_checks(io, group, trace, allowed)
    if f"mel_{group}" in io.files:
        found.insert(0, ("mel", mel[:, None][..., io[f"idx_mel_{group}"]], io[f"mel_{group}"], allowed["mel"]))
    frames, times = io[f"frames_{group}"], io[f"strong_{group}_times"]
    positions = io[f"idx_seq_{group}"]
    assert positions[-1] < x.shape[1], f"{x.shape[1]} positions"
    found += [
        ("seq", x[:, positions][..., dims], io[f"seq_{group}"], allowed["seq"]),
        ("frames", out.frames[:, :: FRAMES // frames.shape[1]][..., dims], frames, allowed["seq"]),
        ("strong", strong[..., :: FRAMES // times.shape[2]], times, allowed["strong"]),
        ("weak", out.logits, io[f"weak_{group}"], allowed["weak"]),
    ]
    if f"strong_{group}_classes" in io.files:
        found.append(("classes", strong[:, ::CLASS_STEP], io[f"strong_{group}_classes"], allowed["strong"]))
    if f"clip_mean_{group}" in io.files:
        found.append(("clip mean", x.mean(dim=1)[:, dims], io[f"clip_mean_{group}"], allowed["seq"]))
    if f"attention_weak_{group}" in io.files:
        found += extra_checks(encoder, io, mel, out.frames, allowed)
    if f"scene1_{group}" in io.files:
        scene = encoder.scene(mel, 1, torch.full((len(mel),), mel.shape[2] // 4))  # type: ignore
        found.append(("scene1", spread(scene, io[f"scene1_{group}"]), io[f"scene1_{group}"], allowed["seq"]))
    return found


def groups(io: Any) -> list[str]:
    return sorted(name.removeprefix("weak_") for name in io.files if name.startswith("weak_"))


CHECKERS = dict.fromkeys(MODELS, (groups, check))
