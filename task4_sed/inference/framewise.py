"""A network of frame-level pre-training over AudioSet-strong: stored logits of its evaluation or training clips."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.audio.loading import sequential_loader
from common.encoders import RANDOM, create
from common.encoders.base import FrameEncoder
from common.run.checkpoints import fill, network_state, read_checkpoint
from common.run.energy import measure
from common.run.errors import UserError
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.store import record
from common.run.verbs import Run
from task4_sed.config import Config, SequenceConfig
from task4_sed.data.audioset import FRAME_SECONDS, FRAMES
from task4_sed.data.framewise import StrongClips, StrongSet, load_strong
from task4_sed.data.pseudo import new_logits
from task4_sed.inference.checkpoints import checkpoint_of
from task4_sed.inference.ensemble import LOGITS
from task4_sed.model.framewise import FramewiseNetwork

SCORES = Path("scores") / "audioset_eval.h5"
UNTRAINED = SCORES.parent / "untrained" / SCORES.name


def load_framewise(path: Path, expected_sha256: str | None = None) -> tuple[FramewiseNetwork, tuple[str, ...]]:
    """The network of an own checkpoint, in evaluation mode, and its classes. Raises UserError for any other file."""
    content = read_checkpoint(path, expected_sha256)
    about = content.get("framewise")
    if about is None:
        raise UserError(f"{path}: no network of frame-level pre-training, expected a checkpoint of a pretrain recipe")
    network = _network(about, path)
    fill(network, network_state(content, ("network",), path), path)
    return network.eval(), tuple(about["classes"])


def _network(about: Mapping[str, Any], path: Path) -> FramewiseNetwork:
    """The network that a checkpoint describes, untrained."""
    encoder = create(about["encoder"]["name"], RANDOM, num_classes=None)
    if not isinstance(encoder, FrameEncoder):
        raise UserError(f"{path}: its encoder {about['encoder']['name']} is not frame-wise")
    encoder.front_end.top_db_per_batch = about["encoder"]["batch_floor"]
    sequence = None if about["sequence"] is None else SequenceConfig(**about["sequence"])
    return FramewiseNetwork(encoder, len(about["classes"]), sequence)


def predict_framewise(run: Run, checkpoint: Path | None, training: bool, floors: bool = False) -> Mapping[str, Any]:
    """Store the logits of the evaluation clips in scores/audioset_eval.h5, or of the training clips in logits.h5.

    floors: those of the same network untrained too.
    """
    config: Config = run.config
    path, expected = checkpoint_of(run, checkpoint)
    network, classes = load_framewise(path, expected)
    clips = load_strong(config.data, "train" if training else "eval")
    out, start = run.folder / (LOGITS if training else SCORES), time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = "logits" if training else "test"
    (run.folder / "codecarbon" / f"emissions_{stage}.csv").unlink(missing_ok=True)
    with measure(run.folder, stage, config.energy) as meter:
        write_network_logits(network, classes, clips, out, config, str(run.folder))
    if floors and not training:
        torch.manual_seed(run.seed)
        untrained = _network(read_checkpoint(path)["framewise"], path).eval()
        (run.folder / UNTRAINED).parent.mkdir(exist_ok=True)
        write_network_logits(untrained, classes, clips, run.folder / UNTRAINED, config, "untrained")
    result = {
        "checkpoint": str(path),
        "file": str(out),
        "clips": len(clips.labels.clips),
        "kwh": meter.kwh,
        "seconds": round(time.monotonic() - start, 2),
    }
    record(run.folder, "logits" if training else "predict", result)
    return result


@torch.inference_mode()
def write_network_logits(
    network: FramewiseNetwork, classes: tuple[str, ...], clips: StrongSet, out: Path, config: Config, made_by: str
) -> None:
    """The logits of all clips, in half precision, batch by batch."""
    device = torch.device(working_device(None))
    network = network.to(device)
    names, data = clips.labels.clips, StrongClips(clips)
    loader = sequential_loader(data, len(data), config.data.eval_batch, config.data.workers)
    ends = clips.durations
    with (
        progress("predict AudioSet-strong", len(names)) as advance,
        new_logits(out, names, FRAMES, classes, frame_seconds=FRAME_SECONDS, durations=ends, runs=[made_by]) as append,
    ):
        for batch in loader:
            mel = network.encoder.front_end(batch.waveform.to(device))
            logits = network(mel).frame_logits
            assert logits is not None
            append(logits.float().cpu().numpy())
            advance(len(batch.clip))
