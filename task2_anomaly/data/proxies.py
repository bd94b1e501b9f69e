"""Proxy outliers from outside the task: AudioSet clips by class, acoustic scenes.

Sources: Primus et al. 2020. Which machines' clips serve as proxies is decided in `classes.proxy_types`.
"""

from pathlib import Path

import numpy as np

from common.audio.reading import info, read
from common.run.errors import UserError
from common.run.folders import is_clutter

# Frames beyond a snippet that leave some room to choose it from.
ROOM = 50


def audioset_files(folder: Path, least_seconds: float) -> list[tuple[str, Path]]:
    """(`class/name`, file) of `<class>/*.wav` that are long enough and not silent. Raises UserError for none."""
    files = [(f"{path.parent.name}/{path.name}", path) for path in _wavs(folder, "*/*.wav")]
    return _usable(folder, files, least_seconds, "<class>/*.wav")


def scene_files(folder: Path, least_seconds: float) -> list[tuple[str, Path]]:
    """(name, file) of `*.wav`, or of `audio/*.wav`, that are long enough and not silent. Raises UserError for none."""
    base = folder / "audio" if (folder / "audio").is_dir() else folder
    return _usable(folder, [(path.name, path) for path in _wavs(base, "*.wav")], least_seconds, "*.wav")


def _wavs(folder: Path, form: str) -> list[Path]:
    return [path for path in sorted(folder.glob(form)) if not is_clutter(path.name)]


def _usable(folder: Path, files: list[tuple[str, Path]], least: float, form: str) -> list[tuple[str, Path]]:
    kept = [(name, path) for name, path in files if _sounds(path, least)]
    if not kept:
        raise UserError(f"{folder}: none of {len(files)} files of the form {form} has {least:.1f} s of sound")
    return kept


def _sounds(path: Path, least: float) -> bool:
    """Whether enough is left between the leading and the trailing digital silence; True for what cannot be read.

    Packing lists that with its reason.
    """
    try:
        if info(path).seconds < least:
            return False
        waveform, rate = read(path)
    except UserError:
        return True
    loud = np.flatnonzero(waveform)
    return len(loud) > 0 and (loud[-1] - loud[0] + 1) / rate >= least
