"""Audio files to float32 mono waveforms, and back."""

import io
import math
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from common.run.errors import UserError
from common.run.files import existing_file, write_then_rename

Waveform = npt.NDArray[np.float32]
Faults = list[str]
RESAMPLING = "soxr_hq"  # as librosa names it: what the published data was made with

_UNKNOWN_SIZES = 0x7FFFF000  # writers to a pipe do not know the size and put at least this (sox) or 0xFFFFFFFF (ffmpeg)
# A jump into an mp3 misses bits of the frames before, one into an ogg lands elsewhere (libsndfile 1.2.2, measured).
_INEXACT_SEEKING = ("MP3", "OGG")
_LINEAR_FORMATS = (1, 3, 0xFFFE)  # PCM, float, extensible: one block is one sample of every channel
_UNKNOWN_FRAMES = 2**63 - 1  # of a file whose header leaves its length open, as a FLAC may
_BLOCK_VALUES = 1 << 20  # decoded at once, over all channels
SAMPLE_RATES = (1_000, 10_000_000)  # Hz; a header beyond is damaged, and resampling would fill the memory


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says; `frames` counts samples per channel, `sample_rate` is in Hz."""

    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate


def info(source: str | Path | bytes, name: str | None = None) -> AudioInfo:
    """Header of an audio file without decoding it (the length of an mp3 may be an estimate).

    A file that leaves its length open is decoded to count. Raises UserError as `read` does, except for what only the
    samples show (NaN).
    """
    with _opened(source, name) as (file, name):
        frames = file.frames
        if frames == _UNKNOWN_FRAMES:
            frames = sum(len(block) for block in _decoded(file, name, 0, None))
        return AudioInfo(file.samplerate, file.channels, frames, file.format, file.subtype)


def read(
    source: str | Path | bytes, start: int = 0, frames: int | None = None, name: str | None = None
) -> tuple[Waveform, int]:
    """Decode whatever libsndfile reads, a path or a file's bytes, to `(waveform (samples,), sample rate)`.

    Channels are averaged. `start` and `frames` count samples at the file's own rate; fewer than `frames` come back
    at the end of the file. `name` stands for the file in messages when `source` is bytes.
    Raises UserError, whatever goes wrong: not found, empty, not audio, no samples, truncated, NaN or infinite samples,
    an absurd sample rate, or a `start` at or after the end. A truncated mp3 or ogg gives what is there. A variable-rate
    mp3 without a Xing header ends where libsndfile estimates its end.
    """
    if start < 0 or (frames is not None and frames < 0):
        raise ValueError(f"start {start} and frames {frames} must not be negative")
    with _opened(source, name) as (file, name):
        if start >= file.frames:
            raise UserError(f"{name}: start at sample {start}, but the file has {file.frames} samples")
        blocks = list(_decoded(file, name, start, frames))
        waveform = blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])
        if not len(waveform) and frames != 0:
            raise UserError(f"{name}: no samples at or after sample {start}")
        if file.subtype in ("FLOAT", "DOUBLE") and (fault := _not_finite(waveform, start, file.samplerate)):
            raise UserError(f"{name}: {fault}")
        return waveform, file.samplerate


def read_blocks(
    source: str | Path | bytes, name: str | None = None, channel: int | None = None, mended: Faults | None = None
) -> Iterator[tuple[Waveform, int]]:
    """What `read` gives for the whole file, block by block: `(waveform (samples,), sample rate)`, none of them empty.

    channel: only this one, counted from 0. mended: what is wrong with samples that are not finite goes there, and they
    become 0. Raises UserError as `read` does, some of it only when the block with the fault is asked for.
    """
    with _opened(source, name) as (file, name):
        heard = 0
        for block in _decoded(file, name, 0, None, channel):
            if file.subtype in ("FLOAT", "DOUBLE") and (fault := _not_finite(block, heard, file.samplerate)):
                if mended is None:
                    raise UserError(f"{name}: {fault}")
                mended.append(fault)
                block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
            heard += len(block)
            yield block, file.samplerate
        if not heard:
            raise UserError(f"{name}: no samples in this {file.format} file")


def _decoded(
    file: soundfile.SoundFile, name: str, start: int, frames: int | None, channel: int | None = None
) -> Iterator[Waveform]:
    """Blocks (samples,) of an opened file, channels averaged. Raises UserError where promised samples are missing."""
    channel = 0 if file.channels == 1 else channel
    known = file.frames != _UNKNOWN_FRAMES
    first = 0 if file.format in _INEXACT_SEEKING or not known else start
    if first:
        file.seek(first)
    end = min(file.frames, file.frames if frames is None else start + frames)
    size = max(1, _BLOCK_VALUES // file.channels)
    while first < end:
        data = file.read(min(size, end - first), dtype="float32", always_2d=True)
        kept = data[max(0, start - first) :]
        if len(kept):
            yield kept.mean(axis=1) if channel is None else np.ascontiguousarray(kept[:, channel])
        first += len(data)
        if not len(data):
            # Without a Xing header the length of an mp3 is an estimate.
            if known and file.format != "MP3":
                raise UserError(f"{name}: truncated: {first} of {file.frames} promised samples are there")
            return


def blocks(
    source: str | Path | bytes,
    sample_rate: int,
    name: str | None = None,
    channel: int | None = None,
    mended: Faults | None = None,
) -> Iterator[Waveform]:
    """The whole file block by block, mono float32 `(samples,)` at `sample_rate` Hz; channel, mended: of `read_blocks`.

    Needs the memory of one block, whatever the two rates. Raises UserError as `read` does.
    """
    with explained(name or ("encoded audio" if isinstance(source, bytes) else str(source))):
        read_ones = read_blocks(source, name, channel, mended)
        first, file_rate = next(read_ones)
        yield from resampled(chain([first], (block for block, _ in read_ones)), file_rate, sample_rate)


def load(source: str | Path | bytes, sample_rate: int, name: str | None = None) -> Waveform:
    """The whole file as mono float32 `(samples,)` at `sample_rate` Hz. Raises UserError as `read` does."""
    return np.concatenate(list(blocks(source, sample_rate, name)))


def resample(waveform: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """`(samples,)` at `from_rate` Hz -> `(ceil(samples * to_rate / from_rate),)` at `to_rate` Hz.

    soxr's HQ, a zero at the end where it gives one sample less: `librosa.resample`.
    """
    return np.concatenate(list(resampled([waveform], from_rate, to_rate)))


def resampled(pieces: Iterable[Waveform], from_rate: int, to_rate: int) -> Iterator[Waveform]:
    """What `resample` makes of all pieces together, piece by piece."""
    if from_rate == to_rate:
        yield from pieces
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, "float32", "HQ")
    taken = given = 0
    for piece in pieces:
        taken += len(piece)
        given += len(heard := stream.resample_chunk(piece))
        yield heard
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    missing = resampled_length(taken, from_rate, to_rate) - given - len(rest)
    yield np.pad(rest, (0, missing)) if missing >= 0 else rest[:missing]


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """How many samples `resample` gives for `samples`."""
    return -(-samples * to_rate // from_rate)


def write_wav(path: str | Path, waveform: npt.ArrayLike, sample_rate: int) -> None:
    """Write a mono `(samples,)` waveform as 16-bit wav, clipped to [-1, 1), whole or not at all.

    Raises ValueError for another shape or for samples that are not finite.
    """
    samples = np.asarray(waveform)
    if samples.ndim != 1:
        raise ValueError(f"waveform has shape {samples.shape}, expected (samples,)")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: the waveform has samples that are not finite")
    encoded = wav_bytes(samples, sample_rate)  # libsndfile does not say why it could not write to a disk
    with write_then_rename(path) as partial:
        partial.write_bytes(encoded)


def wav_bytes(waveform: npt.NDArray[Any], sample_rate: int) -> bytes:
    """A mono `(samples,)` waveform as 16-bit wav, clipped to [-1, 1)."""
    encoded = io.BytesIO()
    soundfile.write(encoded, to_pcm16(waveform), sample_rate, format="WAV", subtype="PCM_16")
    return encoded.getvalue()


def to_pcm16(waveform: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Nearest 16-bit value of samples in [-1, 1); values beyond are clipped. The inverse is division by 32768."""
    return np.clip(np.rint(waveform * np.float32(32768)), -32768, 32767).astype(np.int16)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Whatever a library raises about one source, as a UserError that names it and says why."""
    try:
        yield
    except UserError:
        raise
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(". \n")
        raise UserError(f"{name}: not readable as wav, flac, ogg or mp3, nor as other audio ({reason})") from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{name}: cannot be read ({reason})") from error


class _Sequential(soundfile.SoundFile):
    """A file that is read from front to back: without the jump after every read that soundfile makes in others.

    A jump fails at the end of a FLAC of unknown length, and is inexact in mp3 and ogg.
    """

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(source: str | Path | bytes, name: str | None) -> Iterator[tuple[soundfile.SoundFile, str]]:
    """The opened file, checked as far as its header goes, and its name for messages."""
    if isinstance(source, bytes):
        name = name or "encoded audio"
        size = len(source)
        stream: BinaryIO = io.BytesIO(source)
        target: bytes | BinaryIO = stream
    else:
        path = existing_file(source, "audio file")
        name = name or str(path)
        target = os.fsencode(path)  # soundfile encodes a str itself, strictly
        size = path.stat().st_size
        try:
            stream = open(path, "rb")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise UserError(f"{name}: cannot be opened ({error.strerror})") from None
    try:
        with explained(name):
            if size == 0:
                raise UserError(f"{name}: empty file (0 bytes), expected audio")
            with suppress(struct.error):  # a header that ends in the middle: libsndfile says so below
                _check_riff(stream, size, name)
            stream.seek(0)
            with _Sequential(target) as file:
                if file.frames <= 0:
                    raise UserError(f"{name}: no samples in this {file.format} file")
                if not SAMPLE_RATES[0] <= file.samplerate <= SAMPLE_RATES[1]:
                    low, high = SAMPLE_RATES
                    raise UserError(f"{name}: sample rate is {file.samplerate} Hz, expected {low:,} to {high:,} Hz")
                yield file, name
    finally:
        stream.close()


def _check_riff(stream: BinaryIO, size: int, name: str) -> None:
    """Raise UserError when the data chunk of a wav file promises more than the file holds (libsndfile shortens it)."""
    head = stream.read(12)
    if len(head) < 12 or head[8:] != b"WAVE" or head[:4] not in (b"RIFF", b"RIFX", b"RF64"):
        return
    endian = ">" if head[:4] == b"RIFX" else "<"
    position, block, is_linear, long_size = 12, 1, False, 0
    while position + 8 <= size:
        stream.seek(position)
        kind, length = struct.unpack(f"{endian}4sI", stream.read(8))
        if kind == b"ds64":
            long_size = struct.unpack("<QQ", stream.read(16))[1]
        elif kind == b"fmt ":
            tag, _, _, _, block = struct.unpack(f"{endian}HHIIH", stream.read(14))
            is_linear = tag in _LINEAR_FORMATS
        elif kind == b"data":
            if length == 0xFFFFFFFF and long_size:
                length = long_size
            elif length >= _UNKNOWN_SIZES:
                return
            there = size - position - 8
            if length > there:
                unit = "samples" if is_linear and block else "bytes"
                block = block if unit == "samples" else 1
                raise UserError(
                    f"{name}: truncated wav: {there // block} {unit} are there, the header promises {length // block}"
                )
            return
        position += 8 + length + length % 2


def _not_finite(waveform: Waveform, start: int, sample_rate: int) -> str | None:
    """How many samples (samples,) from `start` on are not, and which is the first."""
    finite = np.isfinite(waveform)
    if finite.all():
        return None
    first = int(np.argmin(finite))
    kind = "NaN" if math.isnan(waveform[first]) else "infinite"
    return f"{np.sum(~finite)} samples are not finite, the first ({kind}) at {(start + first) / sample_rate:.4f} s"
