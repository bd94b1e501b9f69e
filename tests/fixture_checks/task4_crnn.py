"""The `task4_crnn_*` fixtures: a wave and frame embeddings through the seeded CRNN of Task 4."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.frontends import LogMel
from common.tests.helpers import seeded, seeded_state
from task4_sed.config import ModelConfig
from task4_sed.model.crnn import CRNN, Prediction

PROBABILITIES = {"max": 5e-4}
SETTINGS: dict[str, dict[str, Any]] = {
    "task4_crnn_baseline": {"activation": "glu", "embedding_pooling": "aap"},
    "task4_crnn_atst": {"activation": "cg", "embedding_pooling": "aap"},
    "task4_crnn_beats": {"activation": "cg", "embedding_pooling": "int"},
}


def inputs(folder: Path) -> tuple[dict[str, Tensor], Tensor]:
    """The state dict and the embeddings (batch, dim, frames) of a folder."""
    state = seeded_state(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["inputs"]["input/embeddings"]
    embeddings = torch.from_numpy(seeded(folder.parent)["seeded_array"]("input/embeddings", entry, manifest["seed"]))
    if folder.name != "task4_crnn_baseline":  # the other two hold (batch, frames, dim)
        embeddings = embeddings.transpose(1, 2)
    if "as_model.head_linear_layer.weight" in state:  # a layer of the encoder's side
        weight, bias = (state.pop(f"as_model.head_linear_layer.{name}") for name in ("weight", "bias"))
        embeddings = weight @ embeddings + bias[:, None]
    return state, embeddings


def build(folder: Path, state: dict[str, Tensor], classes: int) -> CRNN:
    layers = sum(name.startswith("rnn.rnn.weight_hh_l") and not name.endswith("reverse") for name in state)
    convolutions = [state[f"cnn.cnn.conv{index}.weight"] for index in range(7)]
    channels = tuple(len(weight) for weight in convolutions)
    config = ModelConfig(
        channels=channels,
        rnn_hidden=state["rnn.rnn.weight_hh_l0"].shape[1],
        rnn_layers=layers,
        num_classes=classes,
        fusion_dim=len(state["cat_tf.weight"]),
        embedding_dim=state["cat_tf.weight"].shape[1] - channels[-1],
        **SETTINGS[folder.name],
    )
    model = CRNN(config)
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def check(folder: Path, group: str, io: Any) -> list[tuple]:
    state, embeddings = inputs(folder)
    model = build(folder, state, io["strong"].shape[1])
    traces: dict[str, Tensor] = {}
    for name in ("cnn", "cat_tf", "rnn"):
        getattr(model, name).register_forward_hook(lambda _m, _i, output, name=name: traces.update({name: output}))
    features = LogMel("task4_crnn")(torch.from_numpy(io["wave"].astype(np.float32) / 32768.0))
    class_mask = torch.from_numpy(io["classes_mask"])
    plain = model(features, embeddings)
    masked = model(features, embeddings, class_mask)
    frames = io["trace/cnn"].shape[1]
    found = [
        ("mel_in", features[:, ::4, ::6].reshape(io["mel_in"].shape), io["mel_in"], {"mean": 2e-5, "max": 2e-3}),
        ("strong", plain.strong, io["strong"], PROBABILITIES),
        ("weak", plain.weak, io["weak"], PROBABILITIES),
        ("cnn", traces["cnn"][0, ::8, :frames, 0], io["trace/cnn"], {"max": 2e-3}),
    ]
    for prediction in (masked, plain.masked(class_mask)):
        found.append(("strong_masked", prediction.strong, io["strong_masked"], PROBABILITIES))
        found.append(("weak_masked", prediction.weak, io["weak_masked"], PROBABILITIES))
    return found + deeper_traces(io, traces, plain)


def deeper_traces(io: Any, traces: dict[str, Tensor], plain: Prediction) -> list[tuple]:
    found = []
    if "trace/cat_tf" in io.files:
        expected = io["trace/cat_tf"]
        found.append(("cat_tf", traces["cat_tf"][0, : len(expected), ::16], expected, {"max": 2e-3}))
    if "trace/rnn" in io.files:
        found.append(("rnn", traces["rnn"][0, ::4, ::16], io["trace/rnn"], {"max": 2e-3}))
    if "strong_logits_head" in io.files:
        expected = io["strong_logits_head"]
        got = plain.logits.transpose(1, 2)[:, : expected.shape[1]]
        found.append(("logits", got, expected, {"max": 2e-3}))
    return found


CHECKERS = {folder: (lambda io: ["all"], check) for folder in SETTINGS}
