"""A network of AudioSet's clip labels: stored logits of its evaluation or training clips, one "frame" each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.run.progress import progress
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.audioset import CLIP_SECONDS
from task4_sed.data.framewise import Part, in_order
from task4_sed.data.pseudo import new_logits
from task4_sed.data.weak import WeakClips, load_weak
from task4_sed.inference.ensemble import LOGITS
from task4_sed.inference.framewise import logits_of, predicted
from task4_sed.model.framewise import FramewiseNetwork

SCORES = Path("scores") / "audioset_weak_eval.h5"


def predict_tags(run: Run, checkpoint: Path | None, floors: bool = False) -> Mapping[str, Any]:
    """Store the logits of the evaluation clips in scores/; there are no floors."""
    return _predict(run, checkpoint, "eval", run.folder / SCORES, "predict")


def predict_tag_logits(run: Run, checkpoint: Path | None, names: Sequence[str] = ()) -> Mapping[str, Any]:
    """Store those of the training clips in logits.h5; there are no data sets to choose from."""
    return _predict(run, checkpoint, "train", run.folder / LOGITS, "logits")


def _predict(run: Run, checkpoint: Path | None, part: Part, out: Path, section: str) -> Mapping[str, Any]:
    config: Config = run.config
    data = WeakClips(load_weak(config.data, part))

    def write(network: FramewiseNetwork) -> dict[str, Any]:
        names, classes = list(data.clips.names()), data.clips.classes
        loader = in_order(data, config)
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            progress("predict AudioSet's clip labels", len(names)) as advance,
            new_logits(out, names, 1, classes, frame_seconds=CLIP_SECONDS, runs=[str(run.folder)]) as append,
        ):
            for logits in logits_of(network, loader, advance, of_clips=True):
                append(logits)
        return {"file": str(out), "clips": len(names)}

    return predicted(run, checkpoint, data.clips.classes, section, write)
