"""Log-mel spectrograms of packed clips, computed once for a front end and kept on disk.

Nothing random comes before the spectrogram in this task, so it need not be computed in every epoch. Files lie in
`<packs>/features/<front end's key>/`, one array (frames of all clips, mel) and one of where clips begin.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock

from common.audio.packs import open_pack
from common.frontends import LogMel
from common.run.errors import UserError
from common.run.files import write_then_rename
from task2_anomaly.config import FrontEndConfig
from task2_anomaly.data.front_end import front_end

CLIPS_AT_ONCE = 32
SMALLEST_DEVIATION = 1e-6
Frames = npt.NDArray[np.float32]


class Features:
    """Spectrograms of the clips of one pack. `frames` (frames of all clips, mel), `starts` (clips + 1,)."""

    def __init__(self, names: Sequence[str], frames: Frames, starts: npt.NDArray[np.int64]) -> None:
        self.names, self.frames, self.starts = list(names), frames, starts

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_frames(self) -> npt.NDArray[np.int64]:
        """Frames of every clip, (clips,)."""
        return np.diff(self.starts)

    def clip(self, i: int) -> Frames:
        """(mel, frames) of clip `i`."""
        return np.ascontiguousarray(self.frames[self.starts[i] : self.starts[i + 1]].T)

    def cut(self, clips: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], length: int) -> Frames:
        """(len(clips), mel, length) from the given first frames on; a shorter clip is repeated."""
        sizes = self.num_frames[clips]
        columns = (offsets[:, None] + np.arange(length)) % sizes[:, None] + self.starts[clips][:, None]
        return self.frames[columns].transpose(0, 2, 1)


def features_of(pack: Path, config: FrontEndConfig) -> Features:
    """The spectrograms of a pack's clips, computed when they are not there yet.

    They are made again when the pack has changed. Raises UserError for clips that are too short for one frame.
    """
    ears = front_end(config)
    key = hashlib.sha256(repr((sorted(asdict(ears.setting).items()), config.standardise)).encode()).hexdigest()[:12]
    folder = pack.parent / "features" / key
    array, starts = folder / f"{pack.name}.npy", folder / f"{pack.name}.starts.npy"
    made_of = (pack / "pack.json").stat().st_mtime_ns if (pack / "pack.json").is_file() else 0
    if not made_of:
        raise UserError(f"{pack}: not packed yet; `prepare` packs the data set")

    def stale() -> bool:
        return not array.is_file() or array.stat().st_mtime_ns < made_of

    if stale():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{pack.name}.lock"):  # trainings that start together need the same clips
            if stale():
                _compute(pack, ears, config.standardise, array, starts)
    names = list(open_pack(pack).names)
    return Features(names, np.load(array, mmap_mode="r"), np.load(starts))


def spectrogram(ears: LogMel, waveform: torch.Tensor, standardise: bool) -> torch.Tensor:
    """(batch, samples) -> log-mel (batch, mel, frames); each band standardised over time where `standardise` is set."""
    mel = ears(waveform)
    if not standardise:
        return mel
    return (mel - mel.mean(dim=2, keepdim=True)) / mel.std(dim=2, keepdim=True).clamp(min=SMALLEST_DEVIATION)


@torch.inference_mode()
def _compute(pack: Path, ears: LogMel, standardise: bool, array: Path, starts: Path) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ears = ears.to(device)
    source = open_pack(pack)
    lengths = np.asarray(source.lengths)
    sizes = np.array([ears.num_frames(int(n)) for n in lengths])
    if (sizes == 0).any():
        raise UserError(f"{pack}: {source.names[int(np.argmin(sizes))]} is too short for one frame")
    first = np.concatenate(([0], np.cumsum(sizes)))
    with write_then_rename(starts) as partial, partial.open("wb") as file:
        np.save(file, first)
    # The array comes last: where it stands, both are whole.
    with write_then_rename(array) as partial:
        out = np.lib.format.open_memmap(partial, "w+", np.float32, (int(first[-1]), ears.num_mels))
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            for chosen in np.split(rows, range(CLIPS_AT_ONCE, len(rows), CLIPS_AT_ONCE)):
                waveform = torch.from_numpy(source.read_many(chosen, 0, int(length))).to(device)
                mel = spectrogram(ears, waveform, standardise)
                columns = first[chosen][:, None] + np.arange(mel.shape[2])
                out[columns.ravel()] = mel.transpose(1, 2).reshape(-1, ears.num_mels).cpu().numpy()
        out.flush()
        del out
