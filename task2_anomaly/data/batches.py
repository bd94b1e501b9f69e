"""Batches: snippets of one machine's normal clips, and beside them as many snippets of proxy outliers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from common.audio.loading import Requests, training_loader
from common.audio.packs import Pack
from common.run.errors import UserError
from common.run.seeds import mix_seed
from task2_anomaly.data.features import Features, Frames

Indices = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """Log-mel snippets: normal (clips, mel, frames), proxy (other clips, mel, frames), which may be empty."""

    normal: torch.Tensor
    proxy: torch.Tensor


class Clips:
    """Clips of several machines, by one number each."""

    def __init__(self, parts: Sequence[Features], rows: Sequence[Indices] | None = None) -> None:
        self.parts = list(parts)
        rows = [np.arange(len(part)) for part in parts] if rows is None else rows
        self.part = np.concatenate([np.full(len(of), number) for number, of in enumerate(rows)] or [np.empty(0, int)])
        self.row = np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.row)

    def windows(self, length: int) -> Indices:
        """(clips,): places of a snippet in each clip; 1 in a clip that is too short, which is repeated."""
        frames = [of.num_frames for of in self.parts]
        sizes = np.array([frames[part][row] for part, row in zip(self.part, self.row, strict=True)], np.int64)
        return np.maximum(sizes - length, 0) + 1

    def subset(self, chosen: Indices) -> "Clips":
        """Only these clips."""
        return Clips(self.parts, [self.row[chosen][self.part[chosen] == number] for number in range(len(self.parts))])

    def snippets(self, clips: Indices, seeds: Indices, length: int) -> Frames:
        """(len(clips), mel, length), each from a first frame that its seed decides; every position can be drawn."""
        out: Frames | None = None
        for number in np.unique(self.part[clips]):
            here = np.flatnonzero(self.part[clips] == number)
            rows, of = self.row[clips[here]], self.parts[number]
            room = np.maximum(of.num_frames[rows] - length, 0)
            found = of.cut(rows, seeds[here] % (room + 1), length)
            if out is None:
                out = np.empty((len(clips), *found.shape[1:]), np.float32)
            out[here] = found
        assert out is not None
        return out


class Draw(NamedTuple):
    """The clips of one batch and the seeds of their snippets."""

    normals: Indices
    proxies: Indices
    seeds: Indices


class SnippetDataset(Dataset[Batch]):
    """Whole batches out of normals and proxies. The sampler's items are `Draw`s."""

    def __init__(self, normals: Clips, proxies: Clips | None, length: int) -> None:
        self.normals, self.proxies, self.length = normals, proxies, length

    def __len__(self) -> int:
        return len(self.normals)

    def __getitems__(self, draw: Draw) -> Batch:
        count = len(draw.normals)
        normal = self.normals.snippets(draw.normals, draw.seeds[:count], self.length)
        proxy = normal[:0]
        if self.proxies is not None:
            proxy = self.proxies.snippets(draw.proxies, draw.seeds[count:], self.length)
        return Batch(torch.from_numpy(normal), torch.from_numpy(proxy))


class EpochSampler(Sampler[Draw]):
    """Every normal clip once an epoch, `per_clip` snippets of each; beside a batch of them `batch` proxies.

    The proxies are one endless pass over their set through all epochs: each once, in a shuffled order, before any
    comes again. `ends`: what becomes of the end of the set, see `DataConfig.proxy_ends`. The draws depend on
    (seed, epoch) alone, so that a resumed training goes on as it would have gone.
    """

    def __init__(
        self,
        normals: int,
        proxies: int,
        batch: int,
        seed: int,
        epoch: Callable[[], int],
        per_clip: int = 1,
        ends: Literal["joined", "kept", "dropped"] = "joined",
    ) -> None:
        self.normals, self.proxies, self.batch = normals, proxies, batch
        self.seed, self.epoch, self.per_clip = seed, epoch, per_clip
        self.ends = ends if proxies >= batch else "joined"

    def __len__(self) -> int:
        return -(-self.normals * self.per_clip // self.batch)

    def __iter__(self) -> Iterator[Draw]:
        epoch = self.epoch()
        random = np.random.default_rng(mix_seed(self.seed, epoch, 0))
        order = random.permutation(np.repeat(np.arange(self.normals), self.per_clip))
        for step in range(len(self)):
            chosen = order[step * self.batch : (step + 1) * self.batch]
            proxies = self._proxies(epoch * len(self) + step) if self.proxies else np.empty(0, np.int64)
            yield Draw(chosen, proxies, random.integers(0, 2**31, len(chosen) + len(proxies)))

    def _proxies(self, number: int) -> Indices:
        """Those of a batch, counted through all epochs."""
        if self.ends == "joined":
            first, last = number * self.batch, (number + 1) * self.batch
        else:
            whole, rest = divmod(self.proxies, self.batch)
            turn, place = divmod(number, whole + (1 if rest and self.ends == "kept" else 0))
            first = turn * self.proxies + place * self.batch
            last = min(first + self.batch, (turn + 1) * self.proxies)
        turns = range(first // self.proxies, -(-last // self.proxies))
        orders = np.concatenate([self._order(turn) for turn in turns])
        return orders[first - turns[0] * self.proxies : last - turns[0] * self.proxies]

    def _order(self, turn: int) -> Indices:
        return np.random.default_rng(mix_seed(self.seed, turn, 2)).permutation(self.proxies)


class WindowSampler(Sampler[Draw]):
    """Every window of every clip once an epoch, shuffled anew; but for the last share `left_out` of the windows.

    windows (clips,): their numbers of windows. The windows of a clip follow each other, and the clips, as the clips
    are numbered: Keras' validation_split, which the organisers' baseline of 2020 has.
    """

    def __init__(
        self, windows: Indices, batch: int, seed: int, epoch: Callable[[], int], left_out: float = 0.0
    ) -> None:
        self.ends, self.batch, self.seed, self.epoch = np.cumsum(windows), batch, seed, epoch
        self.kept = int(self.ends[-1] * (1 - left_out))

    def __len__(self) -> int:
        return -(-self.kept // self.batch)

    def __iter__(self) -> Iterator[Draw]:
        order = np.random.default_rng(mix_seed(self.seed, self.epoch(), 0)).permutation(self.kept)
        starts = np.append(0, self.ends)
        for first in range(0, self.kept, self.batch):
            chosen = order[first : first + self.batch]
            clips = np.searchsorted(self.ends, chosen, side="right")
            yield Draw(clips, np.empty(0, np.int64), chosen - starts[clips])


def choose(clips: Clips, count: int | None, seed: int) -> Clips:
    """`count` of the clips, drawn once for a run; all of them where count is None.

    Raises UserError where there are fewer.
    """
    if count is None:
        return clips
    if count > len(clips):
        raise UserError(f"data.proxy_clips: {count}, but the proxy set has only {len(clips)} clips")
    return clips.subset(np.sort(np.random.default_rng(mix_seed(seed, 1)).permutation(len(clips))[:count]))


def train_loader(normals: Clips, proxies: Clips | None, length: int, sampler: Sampler[Draw]) -> DataLoader[Any]:
    """Batches as the sampler draws them; reading mapped arrays needs no further process."""
    return training_loader(SnippetDataset(normals, proxies, length), sampler, workers=0)


class PieceDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Whole batches (waveform (batch, samples), label (batch,)): random pieces of packed clips."""

    def __init__(self, packs: Sequence[Pack], rows: Sequence[Indices], labels: Indices) -> None:
        """`rows`: of each pack, those of its clips that are used; `labels` of all of them (clips,)."""
        self.packs, self.labels = list(packs), labels
        self.pack = np.repeat(np.arange(len(rows)), [len(of) for of in rows])
        self.row = np.concatenate(rows)
        self.samples = min(int(np.asarray(pack.lengths).min()) for pack in packs)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, requests: Requests) -> tuple[torch.Tensor, torch.Tensor]:
        """A piece of every requested clip, of the shortest clip's length."""
        position, seeds = requests.T
        waveform = np.empty((len(position), self.samples), np.float32)
        for number in np.unique(self.pack[position]):
            here = np.flatnonzero(self.pack[position] == number)
            pack, rows = self.packs[number], self.row[position[here]]
            starts = seeds[here] % (np.asarray(pack.lengths)[rows] - self.samples + 1)
            waveform[here] = pack.read_many(rows, starts, self.samples)
        return torch.from_numpy(waveform), torch.from_numpy(self.labels[position])
