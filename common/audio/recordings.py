"""Recordings that a person names: found in folders, heard block by block, the unreadable ones skipped and listed."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from common.audio.reading import Faults, Waveform, blocks, explained, resampled
from common.run.errors import UserError
from common.run.files import existing_file
from common.run.folders import below, printable

# Other endings of what libsndfile reads than the names of its formats. `.mat` and `.raw` are left out: the first holds
# labels and features rather than sound, the second says nothing of its sample rate.
_OTHER_SUFFIXES = ".aif .aifc .afc .snd .opus .oga .mp2 .mpga .wave .bwf .sph .iff .8svx .sf .mpc"
SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats() if name != "RAW"} | {*_OTHER_SUFFIXES.split()}
INTEGERS = "; samples of 16 bits are divided by 32768"  # what a message about integers ends with
_NAMED = 5  # files spelt out in a note


class Recording:
    """A file of any length, rate and number of channels, or an array, as blocks of mono float32 at `to_rate` Hz.

    source: a path, or (samples,) in [-1, 1] at `sample_rate` Hz. channel: of a file, from 0 on, in place of all. mend:
    samples of a file that are not finite become 0, and `mended` says which. Every iteration reads it anew, with memory
    that does not depend on its length; `samples` says afterwards how many there were.
    Raises UserError for an array of another shape, without rate or not finite; an iteration as `read` does.
    """

    def __init__(
        self,
        source: str | Path | np.ndarray,
        to_rate: int,
        sample_rate: int | None = None,
        channel: int | None = None,
        mend: bool = False,
    ) -> None:
        self.source, self.to_rate, self.sample_rate, self.channel = source, to_rate, sample_rate, channel
        self.name = "recording" if isinstance(source, np.ndarray) else printable(source)
        self.samples = 0
        self.mended: Faults | None = [] if mend else None
        if not isinstance(source, np.ndarray):
            return
        if sample_rate is None:
            raise UserError("sample_rate: an array needs it, in Hz")
        if source.dtype.kind != "f":
            raise UserError(f"recording: an array of {source.dtype}, expected floats in [-1, 1]{INTEGERS}")
        if source.ndim != 1 or not np.isfinite(source).all():
            raise UserError(f"recording: an array of shape {source.shape}, expected (samples,) of finite numbers")

    @property
    def seconds(self) -> float:
        """Duration, once it was heard."""
        return self.samples / self.to_rate

    def __iter__(self) -> Iterator[Waveform]:
        self.samples, self.mended = 0, None if self.mended is None else []
        with explained(self.name):
            for block in self._blocks():
                self.samples += len(block)
                yield block

    def waveform(self) -> Waveform:
        """All of it, (samples,)."""
        return np.concatenate(list(self))

    def _blocks(self) -> Iterator[Waveform]:
        if isinstance(self.source, np.ndarray):
            assert self.sample_rate is not None
            yield from resampled([self.source.astype(np.float32)], self.sample_rate, self.to_rate)
            return
        yield from blocks(self.source, self.to_rate, channel=self.channel, mended=self.mended)


def rechunked(blocks: Iterable[Waveform], size: int, least_last: int = 1) -> Iterator[Waveform]:
    """The same samples in pieces of `size`; the last one has at least `least_last`, for which it may be longer."""
    kept: list[Waveform] = []
    there = 0
    for block in blocks:
        kept.append(block)
        there += len(block)
        if there >= size + least_last:
            joined = np.concatenate(kept) if len(kept) > 1 else block
            count = (there - least_last) // size
            yield from joined[: count * size].reshape(count, size)
            kept, there = [joined[count * size :]], there - count * size
    if there:
        yield np.concatenate(kept)


def beginning(blocks: Iterable[Waveform], samples: int) -> Iterator[Waveform]:
    """The first `samples` of them."""
    for block in blocks:
        yield block[:samples]
        samples -= len(block)
        if samples <= 0:
            return


@dataclass
class Recordings:
    """The files to hear, and why others of those that were named cannot be heard."""

    files: list[Path]
    skipped: dict[str, str] = field(default_factory=dict)  # {file or folder: reason}
    below: dict[Path, Path] = field(default_factory=dict)  # {file: its path from the folder that was named}

    def names(self) -> dict[Path, str]:
        """What each file is called in tables: its path from what was named; all of it where two would be alike."""
        short = {file: printable(self.below.get(file, file)) for file in self.files}
        counts = Counter(short.values())
        return {file: name if counts[name] == 1 else printable(file) for file, name in short.items()}

    @contextmanager
    def skipping(self, file: Path) -> Iterator[None]:
        """What is wrong with one file does not stop the others: it is listed."""
        try:
            yield
        except UserError as error:
            self.skipped[printable(file)] = str(error)

    def finish(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """`result` where every file could be heard; else the others are listed, and UserError."""
        if not self.skipped:
            return result
        reasons = list(self.skipped.values())
        named = len({printable(file) for file in self.files} | self.skipped.keys())
        result = {**result, "skipped": dict(self.skipped)}
        if len(reasons) == 1:
            others = f"; the {named - 1} other{'s are' if named > 2 else ' is'} done" if named > 1 else ""
            raise UserError(reasons[0] + others, result)
        for reason in reasons:
            print(f"skipped: {reason}", file=sys.stderr)
        raise UserError(f"{len(reasons)} of {named} files cannot be read, the first: {reasons[0]}", result)


def find_recordings(paths: Iterable[Path]) -> Recordings:
    """Every file that is named, and those of audio below every named folder; what else lies there is said.

    A .txt names further ones, a file or folder a line, from the working directory; so does standard input, `-`. A
    pattern (`day*/**/*.wav`) that no shell has replaced names what fits. Raises UserError where there is nothing to
    hear at all.
    """
    found = Recordings([])
    for path in (path for named in paths for line in _listed(named) for path in _fitting(line)):
        if path.is_dir():
            _search(path, found)
        else:
            found.files.append(path)
    found.files = list(dict.fromkeys(found.files))
    if not found.files:
        found.finish({})
    return found


def _listed(path: Path) -> Iterator[Path]:
    """The paths in a list; any other path as it is."""
    if str(path) != "-" and (path.suffix.lower() != ".txt" or path.is_dir()):
        yield path
        return
    # Names are bytes, as the file system has them.
    text = sys.stdin.buffer.read() if str(path) == "-" else existing_file(path, "list of recordings").read_bytes()
    yield from (Path(os.fsdecode(line.strip())) for line in text.splitlines() if line.strip())


def _fitting(path: Path) -> Sequence[Path]:
    """What a pattern fits, in order; any other path, and a pattern that fits nothing, as it is."""
    if not glob.has_magic(str(path)) or path.exists():
        return [path]
    return [Path(name) for name in sorted(glob.glob(str(path), recursive=True))] or [path]


def _search(folder: Path, found: Recordings) -> None:
    others, before = [], len(found.files)
    for path in below(folder):
        if path.is_dir() and not path.is_symlink():
            found.skipped[printable(path)] = f"{printable(path)}: this folder cannot be listed"
        elif path.suffix.lower() in SUFFIXES and not path.is_file():
            reason = "no plain file, but a pipe, a device or a broken link"
            found.skipped[printable(path)] = f"{printable(path)}: {reason}"
        elif path.suffix.lower() in SUFFIXES:
            found.files.append(path)
            found.below.setdefault(path, path.relative_to(folder))
        else:
            others.append(printable(path.relative_to(folder)))
    if len(found.files) == before:
        found.skipped[printable(folder)] = (
            f"{printable(folder)}: no audio in this folder (.wav, .flac, .ogg, .mp3, ...)"
        )
    elif others:
        shown = ", ".join(others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
        kinds = "file of another kind" if len(others) == 1 else "files of other kinds"
        print(f"{printable(folder)}: {len(others)} {kinds} left out: {shown}", file=sys.stderr)


def short_names(files: Sequence[Path]) -> dict[Path, str]:
    """A name for each file, no two alike: without suffix; where that is not enough with it, or with its folders too.

    Bytes that are no UTF-8 stay as they are, so that names may name files.
    """
    base = os.path.commonpath([os.path.abspath(file.parent) for file in files]) if files else ""
    forms: tuple[Callable[[Path], str], ...] = (
        lambda file: file.stem,
        lambda file: file.name,
        lambda file: os.path.relpath(file, base).replace(os.sep, "-"),
        lambda file: f"{file.name}-{files.index(file)}",
    )
    names: dict[Path, str] = {}
    for form in forms:
        left = {file: form(file) for file in files if file not in names}
        counts = Counter([*left.values(), *names.values()])
        names |= {file: name for file, name in left.items() if counts[name] == 1}
    return {file: names[file] for file in files}
