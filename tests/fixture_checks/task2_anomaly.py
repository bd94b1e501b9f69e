"""The autoencoders of Task 2: a wave through front end and seeded network to codes, reconstructions and scores."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.frontends import LogMel
from common.tests.helpers import seeded_state
from task2_anomaly.model.autoencoder import Autoencoder, ConvAutoencoder, DenseAutoencoder

MEL = {"max": 2e-3, "mean": 2e-5}


def relative(expected: np.ndarray) -> dict[str, float]:
    """The folder's tolerance: 1e-4 of the root mean square."""
    return {"max": 1e-4 * float(np.sqrt(np.square(expected, dtype=np.float64).mean()))}


def filled(folder: Path, network: Autoencoder) -> Autoencoder:
    network.load_state_dict(seeded_state(folder))
    return network.eval()


def compared(network: Autoencoder, codes: Tensor, io: Any) -> list[tuple]:
    windows = torch.from_numpy(io["observation"])[:, 0]
    scores = network.residual(windows).square().mean(dim=1)
    measured = {
        "codes": codes,
        "reconstruction": network(windows)[:, None],
        "scores": scores,
        "loss": scores.mean(),
    }
    mel = LogMel("task2_workshop")(torch.from_numpy(io["wave"].astype(np.float32) / 32768.0))
    cut = [mel[..., start : start + windows.shape[2]] for start in io["start_frames"].tolist()]
    found = [(name, value, io[name], relative(io[name])) for name, value in measured.items()]
    # The windows of a clip follow each other.
    return [("windows of the waves", torch.stack(cut, dim=1).flatten(0, 1), io["observation"][:, 0], MEL), *found]


@torch.inference_mode()
def dense(folder: Path, group: str, io: Any) -> list[tuple]:
    network = filled(folder, DenseAutoencoder(io["observation"].shape[2], "ae_workshop"))
    assert isinstance(network, DenseAutoencoder)
    return compared(network, network.encoder(torch.from_numpy(io["observation"]).flatten(1)), io)


@torch.inference_mode()
def convolutional(folder: Path, group: str, io: Any) -> list[tuple]:
    _, _, mels, frames = io["observation"].shape
    network = filled(folder, ConvAutoencoder(mels, frames, code=io["codes"].shape[1]))
    assert isinstance(network, ConvAutoencoder)
    return compared(network, network.encode(torch.from_numpy(io["observation"])[:, 0]), io)


CHECKERS = {
    "task2_ae_dense": (lambda io: ["all"], dense),
    "task2_ae_conv": (lambda io: ["all"], convolutional),
}
