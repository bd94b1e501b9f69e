"""A fine-tuned network over the files of HEAR's data sets: stored logits of those that are tested and validated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.run.progress import progress
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.audioset import FRAME_SECONDS
from task4_sed.data.framewise import in_order
from task4_sed.data.hear import HearClips, HearSet, Part, fold_of, joined, load_hear
from task4_sed.data.pseudo import StoredLogits, new_logits
from task4_sed.inference.framewise import logits_of, predicted
from task4_sed.model.framewise import FramewiseNetwork

PARTS: tuple[Part, ...] = ("valid", "test")


def predict_hear(run: Run, checkpoint: Path | None, floors: bool = False) -> Mapping[str, Any]:
    """Store the logits of the files in scores/valid.h5 and scores/test.h5; there are no floors."""
    config: Config = run.config
    parts = {part: load_hear(config.data, part, fold_of(config, run.seed)) for part in PARTS}

    def write(network: FramewiseNetwork) -> dict[str, Any]:
        for part, of in parts.items():
            _write(network, of, scores_of(run, part), config)
        return {"files": {part: len(of.files) for part, of in parts.items()}}

    return predicted(run, checkpoint, parts["test"].classes, "predict", write)


def scores_of(run: Run, part: Part) -> Path:
    """Where the logits of a part lie."""
    return run.folder / "scores" / f"{part}.h5"


def stored_of(run: Run, part: Part, of: HearSet) -> list[np.ndarray]:
    """The logits (frames, classes) of each file of a part. Raises UserError where they are not all there."""
    stored = StoredLogits.open(scores_of(run, part), of.classes)
    return [of_file[:count] for of_file, count in zip(stored.read(stored.rows(of.files)), of.frames, strict=True)]


def _write(network: FramewiseNetwork, of: HearSet, out: Path, config: Config) -> None:
    data, longest = HearClips(of, False), int(of.frames.max())
    loader = in_order(data, config)
    with progress(f"predict {out.stem}", len(data)) as advance:
        pieces = np.concatenate([found.astype(np.float16) for found in logits_of(network, loader, advance)])
    out.parent.mkdir(parents=True, exist_ok=True)
    ends = of.frames * FRAME_SECONDS
    with new_logits(
        out, of.files, longest, of.classes, frame_seconds=FRAME_SECONDS, durations=ends
    ) as append:  # fmt: skip
        for found in joined(pieces, of.frames):
            append(np.pad(found, ((0, longest - len(found)), (0, 0)))[None])
