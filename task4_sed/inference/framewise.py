"""A network of frame-level pre-training over AudioSet-strong: stored logits of its evaluation or training clips."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
from task4_sed.data.framewise import StrongClips, StrongSet, in_order
from task4_sed.data.pseudo import new_logits
from task4_sed.inference.checkpoints import checkpoint_of
from task4_sed.inference.ensemble import LOGITS
from task4_sed.model.framewise import FramewiseNetwork, load_framewise, network_of


def predict_framewise(run: Run, checkpoint: Path | None, floors: bool = False) -> Mapping[str, Any]:
    """Store the logits of the evaluation clips in scores/, audioset_eval.h5 or devtest.h5.

    floors: those of the same network untrained too.
    """
    clips: StrongSet = run.config.system.does("set")(run.config, "eval")
    result = _predict(run, checkpoint, clips, scores_of(run, clips), "predict")
    if floors:
        torch.manual_seed(run.seed)
        path = Path(result["checkpoint"])
        untrained = network_of(read_checkpoint(path)["framewise"], path).eval()
        write_network_logits(untrained, clips, scores_of(run, clips, "untrained"), run.config, "untrained")
    return result


def predict_framewise_logits(run: Run, checkpoint: Path | None, names: Sequence[str] = ()) -> Mapping[str, Any]:
    """Store those of the training clips in logits.h5; there are no data sets to choose from."""
    clips: StrongSet = run.config.system.does("set")(run.config, "train")
    return _predict(run, checkpoint, clips, run.folder / LOGITS, "logits")


def _predict(run: Run, checkpoint: Path | None, clips: StrongSet, out: Path, section: str) -> Mapping[str, Any]:
    def write(network: FramewiseNetwork) -> dict[str, Any]:
        write_network_logits(network, clips, out, run.config, str(run.folder))
        return {"file": str(out), "clips": len(clips)}

    return predicted(run, checkpoint, clips.labels.classes, section, write)


def predicted(
    run: Run,
    checkpoint: Path | None,
    classes: Sequence[str],
    section: str,
    write: Callable[[FramewiseNetwork], Mapping[str, Any]],
) -> Mapping[str, Any]:
    """Let `write` store what a run's network says, and record what it returns, with energy and time, as `section`.

    Raises UserError for a network of other classes than those of the data set.
    """
    path, expected = checkpoint_of(run, checkpoint)
    network, of_network = load_framewise(path, expected)
    if of_network != tuple(classes):
        raise UserError(f"{path}: its classes ({', '.join(of_network[:3])}, ...) are not those of the data set")
    start = time.monotonic()
    with measure(run.folder, "logits" if section == "logits" else "test", run.config.energy, anew=True) as meter:
        made = write(network)
    result = {"checkpoint": str(path), **made, "kwh": meter.kwh, "seconds": round(time.monotonic() - start, 2)}
    record(run.folder, section, result)
    return result


def scores_of(run: Run, clips: StrongSet, floor: str = "") -> Path:
    """Where the logits of the evaluation clips lie, or those of a floor."""
    return run.folder / "scores" / floor / f"{clips.name}.h5"


def ensembled(config: Config) -> dict[str, Any]:
    """Files of scores whose mean makes an ensemble: {data set: type of the numbers}."""
    return {"audioset_eval": np.float16}


@torch.inference_mode()
def logits_of(
    network: FramewiseNetwork, loader: Iterable[Batch], advance: Callable[[int], object], of_clips: bool = False
) -> Iterator[np.ndarray]:
    """Logits (clips, 250, classes) of one batch after the other; `advance` is told of its clips.

    of_clips: one "frame" each, what the network says of the whole clip.
    """
    device = torch.device(working_device(None))
    network = network.to(device)
    for batch in loader:
        found = network(network.encoder.front_end(batch.waveform.to(device)))
        logits = found.logits[:, None] if of_clips else found.frame_logits
        assert logits is not None
        yield logits.float().cpu().numpy()
        advance(len(batch.clip))


def write_network_logits(network: FramewiseNetwork, clips: StrongSet, out: Path, config: Config, made_by: str) -> None:
    """The logits of all clips, in half precision, batch by batch."""
    names, data, classes = clips.labels.clips, StrongClips(clips), clips.labels.classes
    loader = in_order(data, config)
    ends = clips.durations
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        progress(f"predict {clips.name}", len(names)) as advance,
        new_logits(out, names, FRAMES, classes, frame_seconds=FRAME_SECONDS, durations=ends, runs=[made_by]) as append,
    ):
        for logits in logits_of(network, loader, advance):
            append(logits)
