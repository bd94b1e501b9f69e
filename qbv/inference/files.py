"""Named imitations against a folder of recordings, by a trained network: `predict FILES --library FOLDER`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.audio.answers import stems, write_answer
from common.audio.reading import Waveform, info
from common.audio.recordings import Recording, Recordings, beginning, find_recordings
from common.run.errors import UserError
from common.run.folders import printable
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.runs import network_note
from common.run.results.tables import print_table
from common.run.verbs import Run
from qbv.config import SAMPLE_RATE, DataConfig
from qbv.data.batches import samples_of
from qbv.inference.checkpoints import load_part
from qbv.inference.search import SILENT
from qbv.model.systems import Network

SHOWN = ("first", "second", "third")  # columns of the printed table
SILENCE = "silence"
Vectors = dict[Path, Tensor | None]  # None: silence


def predict_files(part: Run, files: Sequence[Path], library: Path, out: Path) -> Mapping[str, Any]:
    """Similarities of every named imitation to every recording below `library`, printed and written to `out`.

    Of each file the beginning is heard, as much as the recipe says; silence is like nothing: 0. Raises UserError where
    there is nothing to compare, and at the end where some files cannot be read: the others are done by then.
    """
    data: DataConfig = part.config.data
    imitations, recordings = find_recordings(files), find_recordings([library])
    written, names, items = stems(out, imitations, "similarities"), imitations.names(), recordings.names()
    system, note = Network(load_part(part), data.seconds, working_device()), network_note(part.folder)
    heard = _heard(system.recordings, recordings, data, "library")
    if not heard:
        recordings.finish({})
    rows, found = [], {}
    for path, vector in _heard(system.imitations, imitations, data, "predict").items():
        scores = dict(zip((items[file] for file in heard), _scores(system, vector, list(heard.values())), strict=True))
        best = sorted(scores.items(), key=lambda pair: -pair[1])
        about = {"file": printable(path), "duration": round(info(path).seconds, 3), "similarities": dict(best)}
        about |= ({"heard": SILENCE} if vector is None else {}) | ({"note": note} if note else {})
        table = [(rank, name, round(score, 6)) for rank, (name, score) in enumerate(best, 1)]
        write_answer(written[path], about, ("rank", "recording", "similarity"), table)
        cells = [SILENCE] if vector is None else [f"{name} {score:.3f}" for name, score in best[: len(SHOWN)]]
        rows.append([names[path], *cells, *[""] * (len(SHOWN) - len(cells))])
        found[names[path]] = about
    if rows:
        said = "; ".join(filter(None, (note, f"of {len(heard)} recordings below {printable(library)}; all: {out}")))
        print_table("most similar", ["imitation", *SHOWN], rows, said, whole=out)
    imitations.skipped |= recordings.skipped
    return imitations.finish({"out": str(out), "files": found, "note": note})


@torch.inference_mode()
def _heard(embed: Callable[[Tensor], Tensor], recordings: Recordings, data: DataConfig, what: str) -> Vectors:
    """The vector (dim,) of every file that can be read."""
    found: Vectors = {}
    batch: dict[Path, Waveform] = {}
    with progress(what, len(recordings.files), "files") as advance:
        for path in recordings.files:
            with recordings.skipping(path):
                batch[path] = _beginning(path, data)
            if batch and (len(batch) == data.eval_batch or path == recordings.files[-1]):
                vectors = embed(torch.from_numpy(np.stack(list(batch.values()))))
                for (file, audio), vector in zip(batch.items(), vectors, strict=True):
                    found[file] = vector if np.abs(audio).max() >= SILENT else None
                batch = {}
            advance()
    return found


def _beginning(path: Path, data: DataConfig) -> Waveform:
    """What is heard of a file, (samples,); read no further. A shorter one ends in zeros, or is repeated."""
    samples = samples_of(data)
    pieces = list(beginning(Recording(path, SAMPLE_RATE), samples))
    if not sum(map(len, pieces)):
        raise UserError(f"{printable(path)}: no audio in it")
    audio = np.concatenate(pieces)
    if data.padding == "repeat":
        return np.resize(audio, samples)
    return np.pad(audio, (0, samples - len(audio)))


@torch.inference_mode()
def _scores(system: Network, vector: Tensor | None, items: Sequence[Tensor | None]) -> list[float]:
    """Similarities of an imitation to recordings."""
    if vector is None:
        return [0.0] * len(items)
    there = torch.stack([torch.zeros_like(vector) if item is None else item for item in items])
    scores: list[float] = system.similarities(vector[None], there)[0].tolist()
    return [0.0 if item is None else score for item, score in zip(items, scores, strict=True)]
