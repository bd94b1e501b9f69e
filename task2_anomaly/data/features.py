"""Log-mel spectrograms of packed clips, computed once for a front end and kept on disk.

Nothing random comes before the spectrogram in this task, so it need not be computed in every epoch. They lie in
`<packs>/features/<front end's key>/`, one array (frames of all clips, mel) a pack.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from common.audio import arrays
from common.audio.packs import open_pack
from common.frontends import LogMel
from common.run.errors import UserError
from common.run.processes import working_device
from task2_anomaly.config import FrontEndConfig
from task2_anomaly.data.front_end import front_end

CLIPS_AT_ONCE = 32
SMALLEST_DEVIATION = 1e-6
Frames = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Features:
    """Spectrograms of the clips of one pack: clip i has `num_frames[i]` of `frames` (all, mel) from `starts[i]` on."""

    def __init__(self, names: Sequence[str], frames: Frames, starts: Indices, num_frames: Indices) -> None:
        self.names, self.frames, self.starts, self.num_frames = list(names), frames, starts, num_frames

    def __len__(self) -> int:
        return len(self.names)

    def clip(self, i: int) -> Frames:
        """(mel, frames) of clip `i`."""
        return np.ascontiguousarray(self.frames[self.starts[i] : self.starts[i] + self.num_frames[i]].T)

    def cut(self, clips: Indices, offsets: Indices, length: int) -> Frames:
        """(len(clips), mel, length) from the given first frames on; a shorter clip is repeated."""
        sizes = self.num_frames[clips]
        columns = (offsets[:, None] + np.arange(length)) % sizes[:, None] + self.starts[clips][:, None]
        return self.frames[columns].transpose(0, 2, 1)


def features_of(pack: Path, config: FrontEndConfig) -> Features:
    """The spectrograms of a pack's clips, computed when they are not there yet.

    They are made again when the pack has changed. Raises UserError for clips that are too short for one frame.
    """
    if not (pack / "pack.json").is_file():
        raise UserError(f"{pack}: not packed yet; `prepare` packs the data set")
    ears, source = front_end(config), open_pack(pack)
    key = hashlib.sha256(repr((sorted(asdict(ears.setting).items()), config.standardise)).encode()).hexdigest()[:12]
    sizes = np.array([ears.num_frames(int(n)) for n in source.lengths])
    if (sizes == 0).any():
        raise UserError(f"{pack}: {source.names[int(np.argmin(sizes))]} is too short for one frame")
    device = torch.device(working_device())
    ears = ears.to(device)

    @torch.inference_mode()
    def compute(waveform: Frames) -> Frames:
        mel = spectrogram(ears, torch.from_numpy(waveform).to(device), config.standardise)
        return mel.transpose(1, 2).cpu().numpy()

    folder = pack.parent / "features" / key
    stored = arrays.store(source, folder, compute, CLIPS_AT_ONCE, sizes=sizes, dtype="<f4")
    return Features(list(source.names), stored.rows, stored.starts, stored.sizes)


def spectrogram(ears: LogMel, waveform: torch.Tensor, standardise: bool) -> torch.Tensor:
    """(batch, samples) -> log-mel (batch, mel, frames); each band standardised over time where `standardise` is set."""
    mel = ears(waveform)
    if not standardise:
        return mel
    return (mel - mel.mean(dim=2, keepdim=True)) / mel.std(dim=2, keepdim=True).clamp(min=SMALLEST_DEVIATION)
