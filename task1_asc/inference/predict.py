"""Trained networks in the arithmetic of their deployment, over data sets and over any audio."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.audio import reading
from common.frontends import LogMel
from common.run.errors import UserError
from common.run.progress import progress
from task1_asc.config import Config
from task1_asc.data.batches import eval_loader
from task1_asc.data.sets import Clips
from task1_asc.model.networks import deployed

WINDOW_SECONDS = 1.0


class Predictor:
    """A network and its front end on a device, in evaluation mode; the given network stays as it is.

    precision: as in the recipe. int8 means that the network is a converted one already; it runs on the CPU.
    """

    def __init__(self, network: nn.Module, front_end: LogMel, precision: str, device: str | None = None) -> None:
        gpu = torch.cuda.is_available() and precision != "int8"
        self.device = torch.device(device or ("cuda" if gpu else "cpu"))
        self.front_end = front_end.to(self.device).eval()
        network = network if precision == "int8" else deployed(network, precision)
        self.network = network.to(self.device).eval()

    @torch.inference_mode()
    def logits(self, waveform: Tensor, device: Tensor | None = None) -> Tensor:
        """Waveforms (batch, samples), recording devices (batch,) for device-specific networks -> (batch, classes)."""
        mel = self.front_end(waveform.to(self.device))[:, None]
        logits: Tensor = self.network(mel) if device is None else self.network(mel, device)
        return logits.float()

    def clips(self, clips: Clips, config: Config, what: str, by_device: bool = False) -> np.ndarray:
        """Logits (clips, classes) float32, in the order of `clips`."""
        found: np.ndarray | None = None
        with progress(what, len(clips.names)) as advance:
            for batch in eval_loader(clips, config):
                logits = self.logits(batch.waveform, batch.device if by_device else None).cpu().numpy()
                if found is None:
                    found = np.empty((len(clips.names), logits.shape[1]), np.float32)
                found[batch.row.numpy()] = logits
                advance(len(logits))
        if found is None:
            raise UserError(f"{what}: no clips")
        return found

    def recording(self, waveform: np.ndarray, sample_rate: int, batch: int) -> np.ndarray:
        """Probabilities (classes,) of a waveform (samples,) of any length: the mean over its windows of one second.

        The last window ends with the recording; what is shorter than one second is filled up with silence.
        """
        length = round(WINDOW_SECONDS * sample_rate)
        padded = np.pad(waveform, (0, max(0, length - len(waveform))))
        starts = np.minimum(np.arange(0, len(padded), length), len(padded) - length)
        windows = np.lib.stride_tricks.sliding_window_view(padded, length)
        parts = [self.logits(torch.from_numpy(windows[starts[i : i + batch]])) for i in range(0, len(starts), batch)]
        mean: np.ndarray = torch.cat(parts).softmax(dim=-1).mean(dim=0).cpu().numpy()
        return mean


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (clips, classes) in double precision."""
    probabilities: np.ndarray = torch.from_numpy(logits).double().softmax(dim=-1).numpy()
    return probabilities


def predict_file(predictor: Predictor, path: Path, config: Config) -> tuple[float, np.ndarray]:
    """Length in seconds and probabilities (classes,) of an audio file of any length, rate and channels."""
    waveform = reading.load(path, config.data.sample_rate)
    if len(waveform) == 0:
        raise UserError(f"{path}: no audio in it")
    probabilities = predictor.recording(waveform, config.data.sample_rate, config.data.eval_batch)
    return len(waveform) / config.data.sample_rate, probabilities
