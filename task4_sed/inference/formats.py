"""Files of what was found in a recording: tables, label tracks of Audacity and Raven, frame scores."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.answers import SCORES
from common.run.files import write_rows, write_text, write_then_rename
from common.run.folders import printable
from common.run.hdf5 import new_hdf5
from task4_sed.config import Format
from task4_sed.inference.events import Detection
from task4_sed.inference.labels import Labels
from task4_sed.inference.scores import score_lines
from task4_sed.inference.spool import Spool, sigmoid

SUFFIX = {
    "tsv": ".tsv",
    "csv": ".csv",
    "json": ".json",
    "audacity": ".txt",
    "raven": ".selections.txt",
    "npz": ".npz",
    "h5": ".h5",
    "png": ".png",
}
RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
HIGHEST_HZ = 8000  # that is heard


def file_of(stem: Path, name: Format) -> Path:
    """The file of a format."""
    return stem.parent / SCORES / f"{stem.name}.tsv" if name == "scores" else Path(f"{stem}{SUFFIX[name]}")


def listed(events: Sequence[Detection]) -> list[dict[str, Any]]:
    """Events as plain mappings, for JSON and tables."""
    keys = {"onset": "onset", "offset": "offset", "event_label": "label", "confidence": "confidence", "peak": "peak"}
    rows = [{key: getattr(event, name) for key, name in keys.items()} for event in events]
    for row, event in zip(rows, events, strict=True):
        row |= {} if event.mid is None else {"mid": event.mid}
        row |= {} if event.threshold is None else {"threshold": event.threshold}
    return rows


def write_events(path: Path, labels: Labels, rows: Sequence[dict[str, Any]]) -> None:
    """A table, .tsv or .csv, of what `listed` gives, each with its filename."""
    columns = ["filename", "onset", "offset", "event_label", "confidence", "peak"]
    columns = ["threshold"] * any("threshold" in row for row in rows) + columns
    columns += ["mid"] if labels.mids is not None else []
    write_rows(path, columns, ([row[column] for column in columns] for row in rows))


def write_audacity(path: Path, events: Sequence[Detection]) -> None:
    """Audacity: File, Import, Labels."""
    write_text(path, "".join(f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label} {e.confidence:.2f}\n" for e in events))


def write_raven(path: Path, events: Sequence[Detection]) -> None:
    """A selection table of Raven: File, Open Selection Table."""
    rows = (
        (number, "Spectrogram 1", 1, f"{e.onset:.6f}", f"{e.offset:.6f}", 0, HIGHEST_HZ, e.label, e.confidence)
        for number, e in enumerate(events, 1)
    )
    write_rows(path, (*RAVEN, "Annotation", "Score"), rows, "\t")


def write_scores(path: Path, spool: Spool, labels: Labels, edges: np.ndarray) -> None:
    """Frame scores as `evaluate --scores` reads them; edges (frames + 1,) in seconds."""
    with write_then_rename(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        file.write("\t".join(("onset", "offset", *labels.names)) + "\n")
        first = 0
        for block in spool.blocks(stop=len(edges) - 1):
            file.writelines(score_lines(edges[first : first + len(block) + 1], sigmoid(block)))
            first += len(block)


def write_npz(path: Path, spool: Spool, labels: Labels, edges: np.ndarray) -> None:
    """scores (frames, classes) float16, edges (frames + 1,) in seconds, classes, mids; block by block."""
    arrays = {"edges": edges, "classes": np.array(labels.names), "mids": np.array(labels.mids or (), dtype=str)}
    header = {"descr": "<f2", "fortran_order": False, "shape": (len(edges) - 1, spool.classes)}
    with write_then_rename(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("scores.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for block in spool.blocks(stop=len(edges) - 1):
                member.write(sigmoid(block).astype("<f2").tobytes())
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def write_h5(path: Path, spool: Spool, labels: Labels, edges: np.ndarray, frame_seconds: float) -> None:
    """Logits in half precision, in the form of stored scores: one clip."""
    frames = len(edges) - 1
    with new_hdf5(path) as (file, check):
        strong = file.create_dataset("strong_logits", (1, frames, spool.classes), np.float16)
        first = 0
        for block in spool.blocks(stop=frames):
            strong[0, first : first + len(block)] = np.clip(block, -65504, 65504)
            first += len(block)
            check()
        file["filenames"] = [path.stem.encode()]
        for key, words in {"classes": labels.names, "mids": labels.mids or ()}.items():
            if words:
                file[key] = [word.encode() for word in words]
        file["durations"] = edges[-1:]
        file.attrs["frame_seconds"] = frame_seconds


def write_all(
    stem: Path,
    formats: Sequence[Format],
    source: Path,
    events: Sequence[Detection],
    spool: Spool,
    labels: Labels,
    edges: np.ndarray,
    frame_seconds: float,
) -> None:
    """The files of all formats but .json and the picture, each whole or not at all."""
    rows = [{"filename": printable(source.name), **row} for row in listed(events)]
    for name in formats:
        path = file_of(stem, name)
        if name in ("tsv", "csv"):
            write_events(path, labels, rows)
        elif name in ("audacity", "raven"):
            (write_audacity if name == "audacity" else write_raven)(path, events)
        elif name in ("scores", "npz"):
            (write_scores if name == "scores" else write_npz)(path, spool, labels, edges)
        elif name == "h5":
            write_h5(path, spool, labels, edges, frame_seconds)
