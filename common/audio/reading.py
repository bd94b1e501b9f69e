"""Audio files to float32 mono waveforms, and back."""

import io
import math
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from common.run.errors import UserError
from common.run.files import existing_file, write_then_rename

Waveform = npt.NDArray[np.float32]
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
RESAMPLING = "soxr_hq"  # as librosa names it: what the published data was made with

_BLOCK = 1 << 18  # samples per channel
_LOWEST_RATE = 1000  # Hz: what says less is no audio, and would grow without bound
_UNKNOWN_SIZES = 0x7FFFF000  # writers to a pipe do not know the size and put at least this (sox) or 0xFFFFFFFF (ffmpeg)
# A jump into an mp3 misses bits of the frames before, one into an ogg lands elsewhere (libsndfile 1.2.2, measured).
_INEXACT_SEEKING = ("MP3", "OGG")
_LINEAR_FORMATS = (1, 3, 0xFFFE)  # PCM, float, extensible: one block is one sample of every channel


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

    Raises UserError as `read` does, except for what only the samples show (NaN).
    """
    with _opened(source, name) as (file, _):
        return AudioInfo(file.samplerate, file.channels, file.frames, file.format, file.subtype)


def read(
    source: str | Path | bytes, start: int = 0, frames: int | None = None, name: str | None = None
) -> tuple[Waveform, int]:
    """Decode wav, flac, ogg or mp3, from a path or from the file's bytes, to `(waveform (samples,), sample rate)`.

    Channels are averaged. `start` and `frames` count samples at the file's own rate; fewer than `frames` come back
    at the end of the file. `name` stands for the file in messages when `source` is bytes.
    Raises UserError: not found, empty, not audio, no samples, truncated wav, NaN or infinite samples, or a `start`
    at or after the end. A truncated mp3 or ogg gives what is there. A variable-rate mp3 without a Xing header ends
    where libsndfile estimates its end.
    """
    if start < 0 or (frames is not None and frames < 0):
        raise ValueError(f"start {start} and frames {frames} must not be negative")
    with _opened(source, name) as (file, name):
        if start >= file.frames:
            raise UserError(f"{name}: start at sample {start}, but the file has {file.frames} samples")
        if file.format in _INEXACT_SEEKING:
            data = file.read(-1 if frames is None else start + frames, dtype="float32", always_2d=True)[start:]
        else:
            file.seek(start)
            data = file.read(-1 if frames is None else frames, dtype="float32", always_2d=True)
        if frames != 0:
            _check_whole(file, len(data), file.frames - start if frames is None else frames, name, start)
        return _mono(data, file, start, name), file.samplerate


def load(source: str | Path | bytes, sample_rate: int, name: str | None = None) -> Waveform:
    """The whole file as mono float32 `(samples,)` at `sample_rate` Hz. Raises UserError as `read` does."""
    return np.concatenate(list(blocks(source, sample_rate, name)))


def blocks(source: str | Path | bytes, sample_rate: int | None = None, name: str | None = None) -> Iterator[Waveform]:
    """The whole file piece by piece, mono float32 `(samples,)` at `sample_rate` Hz (None: its own).

    Needs the memory of one piece, whatever the two rates. Raises UserError as `read` and `resample` do.
    """
    with _opened(source, name) as (file, name):
        file.seekable = lambda: False  # soundfile jumps after every piece to where it stands, which an mp3 cannot
        rate = file.samplerate
        convert = _Resampler(rate, sample_rate or rate, name)
        while len(data := file.read(_BLOCK, dtype="float32", always_2d=True)):
            yield convert(_mono(data, file, convert.taken, name))
        _check_whole(file, convert.taken, file.frames, name)
        yield convert.end()


def waveform_of(recording: str | Path | np.ndarray, sample_rate: int | None, to_rate: int) -> Waveform:
    """A file, or an array `(samples,)` at `sample_rate` Hz, as mono float32 `(samples,)` at `to_rate` Hz.

    Raises UserError for a file as `read` does, and for an array of another shape, without rate or not finite.
    """
    if not isinstance(recording, np.ndarray):
        return load(recording, to_rate)
    if sample_rate is None:
        raise UserError("sample_rate: an array needs it, in Hz")
    if recording.ndim != 1 or not np.isfinite(recording).all():
        raise UserError(f"recording: an array of shape {recording.shape}, expected (samples,) of finite numbers")
    return resample(recording.astype(np.float32), sample_rate, to_rate)


def resample(waveform: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """`(samples,)` at `from_rate` Hz -> `(ceil(samples * to_rate / from_rate),)` at `to_rate` Hz.

    soxr's HQ, a zero at the end where it gives one sample less: `librosa.resample`. Raises UserError for a rate below
    1,000 Hz that is to be changed.
    """
    convert = _Resampler(from_rate, to_rate, "waveform")
    return np.concatenate([convert(waveform), convert.end()])


class _Resampler:
    """`resample` piece by piece: call it with each `(samples,)`, then `end` gives the rest. `taken`: samples so far."""

    def __init__(self, from_rate: int, to_rate: int, name: str) -> None:
        if from_rate != to_rate and from_rate < _LOWEST_RATE:
            raise UserError(f"{name}: sample rate {from_rate} Hz, expected {_LOWEST_RATE} Hz or more")
        self.rates = (from_rate, to_rate)
        self.stream = soxr.ResampleStream(from_rate, to_rate, 1, "float32", "HQ") if from_rate != to_rate else None
        self.taken = self.given = 0

    def __call__(self, waveform: Waveform, last: bool = False) -> Waveform:
        self.taken += len(waveform)
        resampled: Waveform = waveform if self.stream is None else self.stream.resample_chunk(waveform, last)
        self.given += len(resampled)
        return resampled

    def end(self) -> Waveform:
        rest = self(np.zeros(0, np.float32), last=True)
        missing = resampled_length(self.taken, *self.rates) - self.given
        return np.pad(rest, (0, missing)) if missing >= 0 else rest[:missing]


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
    encoded = io.BytesIO()  # libsndfile does not say why it could not write to a disk
    soundfile.write(encoded, to_pcm16(samples), sample_rate, format="WAV", subtype="PCM_16")
    with write_then_rename(path) as partial:
        partial.write_bytes(encoded.getbuffer())


def to_pcm16(waveform: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Nearest 16-bit value of samples in [-1, 1); values beyond are clipped. The inverse is division by 32768."""
    return np.clip(np.rint(waveform * np.float32(32768)), -32768, 32767).astype(np.int16)


@contextmanager
def _opened(source: str | Path | bytes, name: str | None) -> Iterator[tuple[soundfile.SoundFile, str]]:
    """The opened file, checked as far as its header goes, and its name for messages."""
    if isinstance(source, bytes):
        name = name or "encoded audio"
        size = len(source)
        stream: BinaryIO = io.BytesIO(source)
        target: str | BinaryIO = stream
    else:
        path = existing_file(source, "audio file")
        name = name or str(path)
        target = str(path)
        size = path.stat().st_size
        try:
            stream = open(path, "rb")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise UserError(f"{name}: cannot be opened ({error.strerror})") from None
    try:
        if size == 0:
            raise UserError(f"{name}: empty file (0 bytes), expected audio")
        with suppress(struct.error):  # a header that ends in the middle: libsndfile says so below
            _check_riff(stream, size, name)
        stream.seek(0)
        with soundfile.SoundFile(target) as file:
            if file.frames <= 0:
                raise UserError(f"{name}: no samples in this {file.format} file")
            yield file, name
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(". \n")
        raise UserError(f"{name}: not readable as wav, flac, ogg or mp3 ({reason})") from None
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


def _mono(data: npt.NDArray[np.float32], file: soundfile.SoundFile, start: int, name: str) -> Waveform:
    """`(samples, channels)` that stand from sample `start` of a file on -> `(samples,)`, checked."""
    waveform: Waveform = data[:, 0] if file.channels == 1 else data.mean(axis=1)
    if file.subtype in ("FLOAT", "DOUBLE"):
        _check_finite(waveform, start, file.samplerate, name)
    return waveform


def _check_whole(file: soundfile.SoundFile, there: int, asked: int, name: str, start: int = 0) -> None:
    """Raise UserError where fewer samples came than the header promises."""
    promised = min(asked, file.frames - start)
    if there < promised and file.format != "MP3":  # without a Xing header the length of an mp3 is an estimate
        raise UserError(f"{name}: truncated: {start + there} of {file.frames} promised samples are there")
    if not there:
        raise UserError(f"{name}: no samples at or after sample {start}")


def _check_finite(waveform: Waveform, start: int, sample_rate: int, name: str) -> None:
    finite = np.isfinite(waveform)
    if not finite.all():
        first = int(np.argmin(finite))
        seconds = (start + first) / sample_rate
        kind = "NaN" if math.isnan(waveform[first]) else "infinite"
        raise UserError(f"{name}: {np.sum(~finite)} samples are not finite, the first ({kind}) at {seconds:.4f} s")


def audio_files(paths: Iterable[Path]) -> list[Path]:
    """Every audio file that is named or lies below a named folder. Raises UserError for a folder without any."""
    found: list[Path] = []
    for path in paths:
        below = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES) if path.is_dir() else [path]
        if not below:
            raise UserError(f"{path}: no audio in this folder ({', '.join(AUDIO_SUFFIXES)})")
        found += below
    return found
