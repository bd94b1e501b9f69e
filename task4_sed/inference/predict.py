"""A trained network over data sets and over any audio: probabilities per class and frame of 64 ms."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.audio.coverage import root_of
from common.audio.recordings import rechunked
from common.frontends import LogMel
from common.run.energy import measure
from common.run.errors import UserError
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.store import record
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.batches import CLIP_SAMPLES, eval_loader
from task4_sed.data.classes import FRAMES_PER_CLIP, SAMPLE_RATE
from task4_sed.data.layout import SETS, Part
from task4_sed.data.pseudo import new_logits, stem
from task4_sed.data.sets import ClipSet, classes_of, load_set
from task4_sed.inference.checkpoints import Loaded, checkpoint_of, has_network, load_network
from task4_sed.inference.ensemble import LOGITS
from task4_sed.inference.networks import OTHER
from task4_sed.inference.scores import FLOORS, stored_scores, write_logits
from task4_sed.model.embedder import Embedder, check_weights
from task4_sed.model.networks import front_end, network_beside

# Pictures of long recordings: a minute at a time, frames joined to columns of a quarter of a second.
MINUTE, POOLED_FRAMES = 60 * SAMPLE_RATE, 16


class Predictor:
    """A network and its front end on a device, in evaluation mode."""

    def __init__(self, loaded: Loaded, device: str | None = None, batch: int = 16) -> None:
        self.device = torch.device(working_device(device))
        self.classes, self.batch = loaded.classes, batch
        self.network = loaded.network.to(self.device).eval()
        self.front_end = front_end(loaded.network.config).to(self.device).eval()
        self.loaded = loaded

    @cached_property
    def embedder(self) -> Embedder | None:
        """The encoder beside the network, built when first needed; UserError where it is not that of the training."""
        if self.loaded.encoder is None:
            return None
        embedder = Embedder(self.loaded.encoder)
        check_weights(embedder, self.loaded.fingerprint, self.loaded.path)
        return embedder

    @torch.inference_mode()
    def logits(self, waveform: Tensor) -> Tensor:
        """(clips, samples) at 16 kHz -> (clips, frames, classes) logits, without any class mask."""
        waveform = waveform.to(self.device)
        embeddings = self.embedder(waveform) if self.embedder else None
        return self.network(self.front_end(waveform), embeddings).logits.transpose(1, 2)


def load_clips(predictor: Predictor, config: Config, name: str, part: Part) -> ClipSet:
    """A data set; UserError where the network knows other classes."""
    clips = load_set(config.data, name, part)
    if predictor.classes != classes_of(root_of(config.data)):
        raise UserError(f"the checkpoint's classes ({', '.join(predictor.classes[:3])}, ...) are not those of {name}")
    return clips


def predict_set(predictor: Predictor, config: Config, name: str, out: Path) -> int:
    """Store the logits of every clip of a data set as `<out>/<name>.h5`; returns the number of clips."""
    part: Part = "test" if "test" in SETS[name].parts else "validation"
    clips = load_clips(predictor, config, name, part)
    parts = []
    with progress(f"predict {name}", len(clips.clips)) as advance:
        for batch in eval_loader(clips, config):
            parts.append(predictor.logits(batch.waveform).float().cpu().numpy())
            advance(len(batch.clip))
    durations = np.minimum(clips.pack.lengths[clips.rows], CLIP_SAMPLES) / SAMPLE_RATE
    write_logits(out / f"{name}.h5", clips.clips, np.concatenate(parts), predictor.classes, durations=list(durations))
    return len(clips.clips)


def open_predictor(run: Run, checkpoint: Path | None) -> tuple[Predictor, Path]:
    """The network that `postprocess.network` names, and its file."""
    config: Config = run.config
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    path, expected = checkpoint_of(run, checkpoint)
    loaded = load_network(path, config.postprocess.network, config.model, expected, config.encoder)
    return Predictor(loaded, batch=config.data.eval_batch), path


def predict_run(run: Run, checkpoint: Path | None, floors: bool) -> Mapping[str, Any]:
    """Store logits of every data set that later stages read, with the energy of the test sets.

    Of the network that `postprocess.network` names; of the other one, to compare with, those of the test sets.
    """
    config: Config = run.config
    predictor, path = open_predictor(run, checkpoint)
    out = run.folder / "scores"
    clips, start = {}, time.monotonic()
    with measure(run.folder, "test", config.energy, anew=True) as meter:
        for name in config.test_sets:
            clips[name] = predict_set(predictor, config, name, out)
    seconds = time.monotonic() - start
    submission = [config.submission_set] if config.submission_set else []
    for name in [*config.postprocess.tune_on, *submission]:
        clips[name] = predict_set(predictor, config, name, out)
    predict_other(run, path, out)
    if floors:
        predict_floors(run, out, predictor.classes)
    result = {
        "network": config.postprocess.network,
        "checkpoint": str(path),
        "clips": clips,
        "kwh": meter.kwh,
        "seconds": round(seconds, 2),
    }
    record(run.folder, "predict", result)
    return result


def predict_logits(run: Run, checkpoint: Path | None, names: Sequence[str]) -> Mapping[str, Any]:
    """Store the logits of the training clips of data sets, cropped at 0, without any class mask, in one file.

    A clip that lies in several of the sets, a recording with the same name there, is stored once.
    """
    config: Config = run.config
    for name in names:
        if "train" not in SETS[name].parts:
            raise UserError(f"predict --logits: {name} has no training clips; without --sets: the recipe's own sets")
    predictor, path = open_predictor(run, checkpoint)
    sets, out, start = (
        [load_clips(predictor, config, name, "train") for name in names],
        run.folder / LOGITS,
        time.monotonic(),
    )
    clips = list(dict.fromkeys(stem(clip) for of in sets for clip in of.clips))
    there: set[str] = set()
    with (
        measure(run.folder, "logits", config.energy, anew=True) as meter,
        progress("logits", sum(len(of.clips) for of in sets)) as advance,
        new_logits(out, clips, FRAMES_PER_CLIP, predictor.classes, runs=[str(run.folder)]) as append,
    ):
        for of in sets:
            for batch in eval_loader(of, config):
                heard = [stem(of.clips[clip]) for clip in batch.clip.tolist()]
                new = [row for row, clip in enumerate(heard) if clip not in there]
                append(predictor.logits(batch.waveform).float().cpu().numpy()[new])
                there.update(heard)
                advance(len(heard))
    result = {
        "file": str(out),
        "network": config.postprocess.network,
        "checkpoint": str(path),
        "sets": list(names),
        "clips": len(clips),
        "kwh": meter.kwh,
        "seconds": round(time.monotonic() - start, 2),
    }
    record(run.folder, "logits", result)
    print(f"{out}: logits of {len(clips):,} clips", flush=True)
    return result


def predict_other(run: Run, path: Path, out: Path) -> None:
    """Test scores of the student where the teacher's are submitted, and the other way round: `<out>/<network>/`."""
    config: Config = run.config
    other = OTHER[config.postprocess.network]
    for which in OTHER:  # what another checkpoint, or the other choice, has left there
        for name in config.test_sets:
            (out / which / f"{name}.h5").unlink(missing_ok=True)
    if not has_network(path, other):
        print(f"{path}: no {other} in it, only the {config.postprocess.network} is scored")
        return
    predictor = Predictor(load_network(path, other, config.model, encoder=config.encoder), batch=config.data.eval_batch)
    for name in config.test_sets:
        predict_set(predictor, config, name, out / other)


def predict_floors(run: Run, out: Path, classes: Sequence[str]) -> None:
    """What a metric gives for nothing: an untrained network of the same form, and the same score everywhere."""
    path, _ = checkpoint_of(run, None)
    loaded = load_network(path, run.config.postprocess.network, encoder=run.config.encoder)
    torch.manual_seed(run.seed)
    untrained = network_beside(loaded.network.config, loaded.encoder)
    predictor = Predictor(replace(loaded, network=untrained.eval()), batch=run.config.data.eval_batch)
    for name in run.config.test_sets:
        predict_set(predictor, run.config, name, out / "untrained")
        stored = stored_scores(out / f"{name}.h5")
        shapes = [clip.scores.shape for clip in stored.clips.values()]
        ends = [float(clip.edges[-1]) for clip in stored.clips.values()]
        constant = np.zeros((len(shapes), max(frames for frames, _ in shapes), len(classes)), np.float32)
        write_logits(out / "constant" / f"{name}.h5", list(stored.clips), constant, classes, durations=ends)
    assert {"untrained", "constant"} == set(FLOORS)


def log_mel(front_end: LogMel, recording: Iterable[np.ndarray]) -> np.ndarray:
    """The network's mel bands of a recording, for pictures: (mel, frames), dB below the loudest, -80 at the least.

    Beyond two minutes means of 16 frames.
    """
    import librosa

    with torch.inference_mode():
        parts = [_mel(front_end, minute) for minute in rechunked(recording, MINUTE, least_last=MINUTE)]
        if len(parts) > 1:
            parts = [F.avg_pool1d(part, POOLED_FRAMES, ceil_mode=True) for part in parts]
        mel = torch.cat(parts, dim=-1)[0].cpu().numpy()
    in_decibels = librosa.amplitude_to_db if front_end.setting.exponent == 1 else librosa.power_to_db
    level: np.ndarray = in_decibels(mel, ref=np.max)
    return level


def _mel(front_end: LogMel, waveform: np.ndarray) -> Tensor:
    """Of (samples,): (1, mel, frames) before compression."""
    padded = np.pad(waveform, (0, max(front_end.setting.fft - len(waveform), 0)))
    return front_end.mel(torch.from_numpy(padded)[None].to(next(front_end.buffers()).device))
