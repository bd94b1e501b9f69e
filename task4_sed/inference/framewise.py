"""A network of frame-level pre-training over AudioSet-strong: stored logits of its evaluation or training clips."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.audio.loading import sequential_loader
from common.run.checkpoints import read_checkpoint
from common.run.energy import measure
from common.run.errors import UserError
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.store import record
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.audioset import FRAME_SECONDS, FRAMES
from task4_sed.data.batches import Batch
from task4_sed.data.framewise import StrongClips, StrongSet
from task4_sed.data.pseudo import new_logits
from task4_sed.inference.checkpoints import checkpoint_of
from task4_sed.inference.ensemble import LOGITS
from task4_sed.model.framewise import FramewiseNetwork, load_framewise, network_of


def predict_framewise(run: Run, checkpoint: Path | None, floors: bool = False) -> Mapping[str, Any]:
    """Store the logits of the evaluation clips in scores/, audioset_eval.h5 or devtest.h5.

    floors: those of the same network untrained too.
    """
    return _predict(run, checkpoint, training=False, floors=floors)


def predict_framewise_logits(run: Run, checkpoint: Path | None, names: Sequence[str] = ()) -> Mapping[str, Any]:
    """Store those of the training clips in logits.h5; there are no data sets to choose from."""
    return _predict(run, checkpoint, training=True)


def _predict(run: Run, checkpoint: Path | None, training: bool, floors: bool = False) -> Mapping[str, Any]:
    config: Config = run.config
    path, expected = checkpoint_of(run, checkpoint)
    network, classes = load_framewise(path, expected)
    clips: StrongSet = config.system.does("set")(config, "train" if training else "eval")
    if classes != clips.labels.classes:
        raise UserError(f"{path}: its classes ({', '.join(classes[:3])}, ...) are not those of the data set")
    out, start = run.folder / LOGITS if training else scores_of(run, clips), time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = "logits" if training else "test"
    with measure(run.folder, stage, config.energy, anew=True) as meter:
        write_network_logits(network, classes, clips, out, config, str(run.folder))
    if floors:
        torch.manual_seed(run.seed)
        untrained = network_of(read_checkpoint(path)["framewise"], path).eval()
        floor = scores_of(run, clips, "untrained")
        floor.parent.mkdir(exist_ok=True)
        write_network_logits(untrained, classes, clips, floor, config, "untrained")
    result = {
        "checkpoint": str(path),
        "file": str(out),
        "clips": len(clips.labels.clips),
        "kwh": meter.kwh,
        "seconds": round(time.monotonic() - start, 2),
    }
    record(run.folder, "logits" if training else "predict", result)
    return result


def scores_of(run: Run, clips: StrongSet, floor: str = "") -> Path:
    """Where the logits of the evaluation clips lie, or those of a floor."""
    return run.folder / "scores" / floor / f"{clips.name}.h5"


def ensembled(config: Config) -> dict[str, Any]:
    """Files of scores whose mean makes an ensemble: {data set: type of the numbers}."""
    return {"audioset_eval": np.float16}


@torch.inference_mode()
def logits_of(
    network: FramewiseNetwork, loader: Iterable[Batch], advance: Callable[[int], object]
) -> Iterator[np.ndarray]:
    """Logits (clips, 250, classes) of one batch after the other; `advance` is told of its clips."""
    device = torch.device(working_device(None))
    network = network.to(device)
    for batch in loader:
        logits = network(network.encoder.front_end(batch.waveform.to(device))).frame_logits
        assert logits is not None
        yield logits.float().cpu().numpy()
        advance(len(batch.clip))


def write_network_logits(
    network: FramewiseNetwork, classes: tuple[str, ...], clips: StrongSet, out: Path, config: Config, made_by: str
) -> None:
    """The logits of all clips, in half precision, batch by batch."""
    names, data = clips.labels.clips, StrongClips(clips)
    loader = sequential_loader(data, len(data), config.data.eval_batch, config.data.workers)
    ends = clips.durations
    with (
        progress(f"predict {clips.name}", len(names)) as advance,
        new_logits(out, names, FRAMES, classes, frame_seconds=FRAME_SECONDS, durations=ends, runs=[made_by]) as append,
    ):
        for logits in logits_of(network, loader, advance):
            append(logits)
