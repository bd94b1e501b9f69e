"""The `frontends` fixture: waves -> features of every named setting, mel matrices, the constant-Q transform."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.frontends import SETTINGS, Jitter, LogMel, MelSetting, centre_frequencies, cqt, mel_bank, two_dft

NORMALISED = {"mean": 2e-5, "max": 2e-3}
TOLERANCES = {
    "asc_2024": {"mean": 2e-4, "max": 2e-2},
    "vggish": {"mean": 1e-5, "max": 1e-3},
    "panns": {"mean": 5e-4, "max": 0.1},
}
DECIBELS = {"mean": 5e-4, "max": 2e-2}
FRAMES_FIRST = ("beats", "panns", "vggish")
# Settings of arrays that are no front end of their own.
BANKS = {"bank_32k": SETTINGS["mel_32k"], "bank_16k": SETTINGS["mel_16k_periodic_7000"]}
JITTERS = {"mel_32k_train": "mel_32k"}


def waveform(io: Any, rate: int) -> torch.Tensor:
    wave = io[f"wave_{rate // 1000}k"].astype(np.float32) / 32768.0
    return torch.from_numpy(wave)[None]


def tolerance(name: str) -> dict[str, float]:
    if name.startswith("task2") or name.endswith("_db"):
        return DECIBELS
    return TOLERANCES.get(name, NORMALISED)


def features(io: Any, name: str, setting: MelSetting, jitter: Jitter | None = None) -> Iterator[tuple]:
    front_end = LogMel(setting)
    wave = waveform(io, front_end.sample_rate)
    got = front_end(wave, jitter)
    assert got.shape[-1] == front_end.num_frames(wave.shape[-1])
    got = got[0].T if name in FRAMES_FIRST else got[0]
    yield name, got.numpy(), io[name], tolerance(name)


def readme_jitter(folder: Path, name: str) -> Jitter:
    """The draws of an array; only the README of the fixture tells them."""
    row = next(line for line in (folder / "README.md").read_text().splitlines() if line.startswith(f"| {name} |"))
    draws = re.search(r"draws (\d+) \(fmin\) and (\d+) \(fmax\)", row)
    assert draws is not None, f"no draws in the README's row of {name}"
    return Jitter(int(draws[1]), int(draws[2]))


def resampled(io: Any) -> Iterator[tuple]:
    front_end = LogMel("asc_2024")
    assert front_end.resample is not None
    expected = io["asc_2024_resampled_head"]
    got = front_end.resample(waveform(io, 44100))[0, : len(expected)]
    yield "resampled", got.numpy(), expected, {"max": 1e-5}


def bank(io: Any, name: str) -> Iterator[tuple]:
    matrix = mel_bank(BANKS[name])
    assert (matrix[:, -1] == 0).all()
    yield name, matrix[:, :-1].numpy(), io[name], {"max": 1e-6}


def constant_q(io: Any, name: str) -> Iterator[tuple]:
    wave = io["wave_8k"].astype(np.float64) / 32768.0
    expected = io[name]
    if name == "qbv_centre_frequencies":
        got = centre_frequencies(len(wave))
    elif name == "qbv_2dft_15s4_column_sums":
        padded = np.pad(wave, (0, round(15.4 * 8000) - len(wave)))
        got = two_dft(np.abs(cqt(padded))).sum(axis=0)[::64]
    elif name == "qbv_2dft":
        got = two_dft(np.abs(cqt(wave)))[:, ::8]
    elif name == "qbv_cqt_magnitude":
        got = np.abs(cqt(wave))[:, ::8]
    else:
        part = cqt(wave)[:, ::32]
        got = part.real if name.endswith("real") else part.imag
    yield name, got, expected, {"max": 1e-5 * float(np.abs(expected).max())}


def check(folder: Path, group: str, io: Any) -> Iterator[tuple] | None:
    if group in SETTINGS:
        return features(io, group, SETTINGS[group])
    if group in JITTERS:
        return features(io, group, SETTINGS[JITTERS[group]], readme_jitter(folder, group))
    if group.endswith("_db") and group.removesuffix("_db") in SETTINGS:
        return features(io, group, replace(SETTINGS[group.removesuffix("_db")], min_max=False))
    special: dict[str, Callable[[], Iterator[tuple]]] = {"asc_2024_resampled_head": lambda: resampled(io)}
    special |= {name: lambda name=name: bank(io, name) for name in BANKS}
    special |= {name: lambda name=name: constant_q(io, name) for name in io.files if name.startswith("qbv_")}
    return special[group]() if group in special else None


CHECKERS = {"frontends": (lambda io: [name for name in io.files if not name.startswith("wave_")], check)}
