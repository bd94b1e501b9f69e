"""Batches: every training clip once an epoch in random order, or sequences of clips for evaluation."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from common.audio.loading import Requests, ShuffledSampler, sequential_loader, share_of, training_loader
from common.run.errors import UserError
from common.run.progress import progress
from task1_asc.config import Config
from task1_asc.data.classes import PARTS_PER_SEGMENT
from task1_asc.data.sets import Clips


class Batch(NamedTuple):
    """Clips of a batch."""

    waveform: torch.Tensor  # (batch, samples) float32, one second at data.sample_rate
    label: torch.Tensor  # (batch,) int64 index into SCENES, -1: unknown
    device: torch.Tensor  # (batch,) int64 index into DEVICES, -1: unknown
    row: torch.Tensor  # (batch,) int64 position of the clip in its `Clips`


class ClipDataset(Dataset[Batch]):
    """Loads whole batches; where the clips know their segments, a random second of each one's segment."""

    def __init__(self, clips: Clips) -> None:
        self.clips, self.samples = clips, clips.pack.sample_rate

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, requests: Requests) -> Batch:
        """The batch of the requested clips, in their order."""
        row, draw = requests.T
        if self.clips.segments is None:
            waveform = self.clips.pack.read_many(self.clips.rows[row], 0, self.samples)
        else:
            waveform = self._windows(self.clips.segments[row], draw)
        arrays = (waveform, self.clips.labels[row], self.clips.devices[row], row.copy())
        return Batch(*map(torch.from_numpy, arrays))

    def _windows(self, segments: NDArray[np.int64], draw: NDArray[np.int64]) -> NDArray[np.float32]:
        """A second from a random start of each re-joined segment (batch, 10): parts of two neighbouring clips."""
        last = PARTS_PER_SEGMENT - 1
        first, offset = np.divmod(draw % (last * self.samples + 1), self.samples)
        clip = np.arange(len(segments))
        pair = [segments[clip, np.minimum(first + k, last)] for k in (0, 1)]
        joined = np.concatenate([self.clips.pack.read_many(rows, 0, self.samples) for rows in pair], axis=1)
        return np.lib.stride_tricks.sliding_window_view(joined, self.samples, axis=1)[clip, offset]


def train_loader(
    clips: Clips, config: Config, seed: int, epoch: Callable[[], int] = lambda: 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Batch]:
    """Shuffled batches of `data.batch` clips per process; `epoch` is asked at the start of every iteration."""
    sampler = ShuffledSampler(
        len(clips), share_of(config.data.batch, ranks, config.trainer.divide_batch), seed, epoch, rank, ranks
    )
    return training_loader(ClipDataset(clips), sampler, config.data.workers)


def eval_loader(clips: Clips, config: Config, rank: int = 0, ranks: int = 1) -> DataLoader[Batch]:
    """Every clip in order, in batches of `data.eval_batch`."""
    return sequential_loader(ClipDataset(clips), len(clips), config.data.eval_batch, config.data.workers, rank, ranks)


def over_clips(
    network: Callable[[Batch], torch.Tensor], clips: Clips, config: Config, what: str
) -> NDArray[np.float32]:
    """Logits (clips, classes) of every clip, in the order of `clips`; progress is shown as `what`."""
    found: NDArray[np.float32] | None = None
    with progress(what, len(clips)) as advance:
        for batch in eval_loader(clips, config):
            logits = network(batch).cpu().numpy()
            if found is None:
                found = np.empty((len(clips), logits.shape[1]), np.float32)
            found[batch.row.numpy()] = logits
            advance(len(logits))
    if found is None:
        raise UserError(f"{what}: no clips")
    return found
