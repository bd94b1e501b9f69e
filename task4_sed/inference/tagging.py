"""A network of AudioSet's clip labels: stored logits of its evaluation or training clips, one "frame" each."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from common.audio.loading import sequential_loader
from common.run.energy import measure
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.store import record
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.audioset import CLIP_SECONDS
from task4_sed.data.pseudo import new_logits
from task4_sed.data.weak import WeakClips, load_weak
from task4_sed.inference.checkpoints import checkpoint_of
from task4_sed.inference.ensemble import LOGITS
from task4_sed.model.framewise import load_framewise

SCORES = Path("scores") / "audioset_weak_eval.h5"


def predict_tags(run: Run, checkpoint: Path | None, floors: bool = False) -> Mapping[str, Any]:
    """Store the logits of the evaluation clips in scores/; there are no floors."""
    return _predict(run, checkpoint, training=False)


def predict_tag_logits(run: Run, checkpoint: Path | None, names: Sequence[str] = ()) -> Mapping[str, Any]:
    """Store those of the training clips in logits.h5; there are no data sets to choose from."""
    return _predict(run, checkpoint, training=True)


@torch.inference_mode()
def _predict(run: Run, checkpoint: Path | None, training: bool) -> Mapping[str, Any]:
    config: Config = run.config
    path, expected = checkpoint_of(run, checkpoint)
    network, classes = load_framewise(path, expected)
    data = WeakClips(load_weak(config.data, "train" if training else "eval"))
    device = torch.device(working_device(None))
    network, names = network.to(device), list(data.clips.names())
    out, stage = run.folder / (LOGITS if training else SCORES), "logits" if training else "test"
    start = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        measure(run.folder, stage, config.energy, anew=True) as meter,
        progress("predict AudioSet's clip labels", len(names)) as advance,
        new_logits(out, names, 1, classes, frame_seconds=CLIP_SECONDS, runs=[str(run.folder)]) as append,
    ):
        for batch in sequential_loader(data, len(data), config.data.eval_batch, config.data.workers):
            logits = network(network.encoder.front_end(batch.waveform.to(device))).logits
            append(logits[:, None].float().cpu().numpy())
            advance(len(batch.clip))
    result = {"checkpoint": str(path), "file": str(out), "clips": len(names), "kwh": meter.kwh}
    result["seconds"] = round(time.monotonic() - start, 2)
    record(run.folder, "logits" if training else "predict", result)
    return result
