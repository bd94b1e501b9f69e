"""Writing packs of clips: in parallel, shard by shard, going on where an earlier call was stopped."""

import errno
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.audio.packs import open_pack
from common.audio.shards import (
    FORMAT,
    INDEX_DTYPE,
    VERSION,
    Compression,
    Settings,
    Shard,
    Source,
    Storage,
    encode_name,
    fingerprint,
    read_shard,
    write_shard,
    write_tables,
)
from common.run.errors import UserError, did_you_mean
from common.run.files import alone, read_json, remove_partials, sha256, write_json
from common.run.processes import each

Progress = Callable[[int, int], None]

_MOST_SHARDS = 512  # of a pack whose shard size is not given
_FEWEST_CLIPS = 64  # per shard: about 20 MB of ten-second clips at 16 kHz
_SHARD = re.compile(r"\d{5,}\.h5")


@dataclass(frozen=True)
class PackReport:
    """What `write_pack` did; `skipped` holds (name, reason) of the sources that are not in the pack."""

    folder: Path
    clips: int
    seconds: float
    bytes: int
    shards_written: int
    shards_kept: int
    skipped: tuple[tuple[str, str], ...]
    clipped_samples: int


@dataclass(frozen=True, eq=False)
class _Job:
    path: Path
    sources: Sequence[Source]
    settings: Settings
    fingerprint: str
    skip_broken: bool

    def finished(self) -> Shard | None:
        """The shard that an earlier call made of the same sources, if there is one."""
        shard = read_shard(self.path, self.settings.storage)
        if shard is None or shard.fingerprint != self.fingerprint or (shard.skipped and not self.skip_broken):
            return None
        left_out = {name for name, _ in shard.skipped}
        names = [encode_name(name) for name, _ in self.sources if name not in left_out]
        return shard if shard.names.tolist() == names else None


def write_pack(
    folder: str | Path,
    sources: Sequence[Source],
    sample_rate: int,
    storage: Storage = "pcm16",
    *,
    clips_per_shard: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    compression: Compression | None = None,
) -> PackReport:
    """Pack audio files `(name, path)` into `folder`, in their order; `open_pack` reads it.

    `pcm16` stores mono 16-bit samples at `sample_rate` Hz; `encoded` keeps the files as they are and decodes and
    resamples at reading. Without `clips_per_shard`, shards grow with the list (64 clips, then at most 512 shards).
    `progress(done, total)` is called with numbers of clips. With `on_error="skip"`, files that cannot be read are
    left out and reported.

    May be stopped at any time, kill -9 included: the next call keeps the complete shards whose sources (list, size,
    modification time) and settings are the same, and makes the others. A pack exists once its pack.json does. Several
    processes may be asked for the same pack: one makes it, the others wait and find it.
    Raises UserError: no sources, a name twice, a broken source, no space left.
    """
    folder = Path(folder)
    _check_choices(storage=storage, on_error=on_error, compression=compression or "none")
    _check_sources(folder, sources)
    clips_per_shard = clips_per_shard or max(_FEWEST_CLIPS, -(-len(sources) // _MOST_SHARDS))
    settings = Settings(sample_rate, storage, compression)
    with _no_space_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _no_space_explained(folder), alone(folder.parent, folder.name, folder):
        remove_partials(folder, recursive=False)
        jobs = [
            _job(folder, number, sources[first : first + clips_per_shard], settings, on_error == "skip")
            for number, first in enumerate(range(0, len(sources), clips_per_shard))
        ]
        return _pack(folder, jobs, settings, clips_per_shard, workers, progress)


def _pack(
    folder: Path,
    jobs: list[_Job],
    settings: Settings,
    clips_per_shard: int,
    workers: int,
    progress: Progress | None,
) -> PackReport:
    shards = {job: job.finished() for job in jobs}
    open_jobs = [job for job, shard in shards.items() if shard is None]
    hashes = _known_hashes(folder)  # of shards that stay: so that a call with nothing to do does not read them
    for job in open_jobs:
        hashes.pop(job.path.name, None)
    surplus = {path for path in folder.glob("*.h5") if _SHARD.fullmatch(path.name)} - {job.path for job in jobs}
    if open_jobs or surplus or not _is_whole(folder):
        (folder / "pack.json").unlink(missing_ok=True)
        _make_shards(open_jobs, workers, progress, sum(len(job.sources) for job in jobs))
        for path in surplus:
            path.unlink()
        for job in open_jobs:
            shards[job] = job.finished()
    complete = {job: shard for job, shard in shards.items() if shard is not None}
    if len(complete) != len(jobs):
        lost = next(job.path for job in jobs if job not in complete)
        raise UserError(f"{lost}: changed while it was packed; run prepare again")
    seconds = _finish(folder, complete, settings, clips_per_shard, hashes)
    return PackReport(
        folder=folder,
        clips=sum(len(shard.names) for shard in complete.values()),
        seconds=seconds,
        bytes=sum(path.stat().st_size for path in folder.iterdir() if not path.name.startswith(".")),
        shards_written=len(open_jobs),
        shards_kept=len(jobs) - len(open_jobs),
        skipped=tuple(entry for shard in complete.values() for entry in shard.skipped),
        clipped_samples=sum(shard.clipped_samples for shard in complete.values()),
    )


def _make_shards(jobs: list[_Job], workers: int, progress: Progress | None, total: int) -> None:
    done = total - sum(len(job.sources) for job in jobs)
    if progress:
        progress(done, total)
    died = "a packing process died (out of memory?); run prepare again with fewer workers, complete shards are kept"
    for (job,), _, problem in each(_make, [(job,) for job in jobs], workers, died=died):
        if problem:
            raise UserError(problem)
        done += len(job.sources)
        if progress:
            progress(done, total)


def _make(job: _Job) -> None:
    with _no_space_explained(job.path):
        write_shard(job.path, job.sources, job.settings, job.fingerprint, job.skip_broken)


def _finish(
    folder: Path, shards: dict[_Job, Shard], settings: Settings, clips_per_shard: int, hashes: dict[str, str]
) -> float:
    """Write the tables and pack.json unless they stand; returns the duration of all clips in seconds."""
    names = [shard.names for shard in shards.values()]
    lengths = np.concatenate([shard.lengths for shard in shards.values()])
    seconds = int(lengths.sum()) / settings.sample_rate
    skipped = [entry for shard in shards.values() for entry in shard.skipped]
    if not len(lengths):
        raise UserError(f"{folder}: none of {len(skipped)} files can be packed, the first: {skipped[0][1]}")
    if (folder / "pack.json").exists():
        return seconds
    index = np.empty(len(lengths), dtype=INDEX_DTYPE)
    index["shard"] = np.repeat(np.arange(len(shards)), [len(part) for part in names])
    index["length"] = lengths
    index["start"] = np.concatenate([_starts(shard, settings.storage) for shard in shards.values()])
    sources = hashlib.sha256("".join(job.fingerprint for job in shards).encode()).hexdigest()
    record = {
        "format": FORMAT,
        "version": VERSION,
        **asdict(settings),
        "clips": len(lengths),
        "seconds": seconds,
        "clips_per_shard": clips_per_shard,
        "sources": sources,
        "skipped": skipped,
        "tables": write_tables(folder, np.concatenate(names), index),
        "shards": [_describe(job.path, len(shard.names), hashes) for job, shard in shards.items()],
    }
    write_json(folder / "pack.json", record)
    return seconds


def _starts(shard: Shard, storage: Storage) -> Any:
    if storage == "encoded":
        return np.arange(len(shard.lengths))
    return np.cumsum(shard.lengths) - shard.lengths


def _describe(path: Path, clips: int, hashes: dict[str, str]) -> dict[str, Any]:
    digest = hashes.get(path.name) or sha256(path)
    return {"file": path.name, "clips": clips, "bytes": path.stat().st_size, "sha256": digest}


def _job(folder: Path, number: int, sources: Sequence[Source], settings: Settings, skip_broken: bool) -> _Job:
    sources = [(name, str(path)) for name, path in sources]
    return _Job(folder / f"{number:05d}.h5", sources, settings, fingerprint(sources, settings), skip_broken)


def _is_whole(folder: Path) -> bool:
    try:
        open_pack(folder)
    except UserError:
        return False
    return True


def _known_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the shards as an earlier pack.json gives them, where the sizes are still the same."""
    try:
        shards = read_json(folder / "pack.json")["shards"]
        return {
            shard["file"]: shard["sha256"]
            for shard in shards
            if (folder / shard["file"]).is_file() and (folder / shard["file"]).stat().st_size == shard["bytes"]
        }
    except (UserError, KeyError, TypeError):
        return {}


def _check_choices(**chosen: str) -> None:
    choices = {
        "storage": ("pcm16", "encoded"),
        "on_error": ("raise", "skip"),
        "compression": ("none", "lzf", "gzip"),
    }
    for key, value in chosen.items():
        if value not in choices[key]:
            raise UserError(f"{key}: {value!r}{did_you_mean(value, choices[key])}")


def _check_sources(folder: Path, sources: Sequence[Source]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, expected a folder for the pack")
    if not sources:
        raise UserError(f"{folder}: no audio files to pack")
    seen: set[str] = set()
    for name, path in sources:
        if not name or "\0" in name:
            raise UserError(f"{path}: the clip's name {name!r} is empty or has a NUL character")
        if name in seen:
            first = next(other for known, other in sources if known == name)
            raise UserError(f"{path}: the clip's name {name!r} stands for {first} already; names must differ")
        seen.add(name)


@contextmanager
def _no_space_explained(path: Path) -> Iterator[None]:
    """Turn "no space left" (or over a quota) into a UserError."""
    try:
        yield
    except OSError as error:
        if not _says_no_space(error):
            raise
        raise UserError(f"{path}: no space left on the disk; free some and run prepare again") from error


def _says_no_space(error: OSError) -> bool:
    # numpy gives no number, only how much it could write.
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or bool(
        error.errno is None and re.search(r"requested and \d+ written", str(error))
    )
