"""Trained networks in the arithmetic of their deployment, over data sets and over any audio; teachers' logits."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.audio import reading
from common.audio.arrays import write_logits
from common.frontends import LogMel
from common.run.checkpoints import checkpoint_of
from common.run.errors import UserError
from common.run.results.store import record
from common.run.results.tables import print_table
from common.run.verbs import Run
from task1_asc.config import Config, Precision, known_split, of_split
from task1_asc.data.batches import over_clips
from task1_asc.data.classes import SCENES
from task1_asc.data.sets import Clips, Part, evaluation_folder, load_clips
from task1_asc.data.teachers import FILE_NAME, About
from task1_asc.deployment.precision import deployed
from task1_asc.inference.checkpoints import load_file, load_network
from task1_asc.inference.scores import add_outputs, own_outputs, predictions_file, write_outputs
from task1_asc.model.front_end import front_end

WINDOW_SECONDS = 1.0


class Predictor:
    """A network and its front end on a device, in evaluation mode; the given network stays as it is.

    precision: as in the recipe. int8 means that the network is a converted one already; it runs on the CPU.
    """

    def __init__(self, network: nn.Module, front_end: LogMel, precision: str, device: str | None = None) -> None:
        gpu = torch.cuda.is_available() and precision != "int8"
        self.device = torch.device(device or ("cuda" if gpu else "cpu"))
        self.front_end = front_end.to(self.device).eval()
        network = network if precision == "int8" else deployed(network, precision)
        self.network = network.to(self.device).eval()

    @torch.inference_mode()
    def logits(self, waveform: Tensor, device: Tensor | None = None) -> Tensor:
        """Waveforms (batch, samples), recording devices (batch,) for device-specific networks -> (batch, classes)."""
        mel = self.front_end(waveform.to(self.device))[:, None]
        logits: Tensor = self.network(mel) if device is None else self.network(mel, device)
        return logits.float()

    def clips(self, clips: Clips, config: Config, what: str, by_device: bool = False) -> np.ndarray:
        """Logits (clips, classes) float32, in the order of `clips`."""
        return over_clips(
            lambda batch: self.logits(batch.waveform, batch.device if by_device else None), clips, config, what
        )

    def recording(self, waveform: np.ndarray, sample_rate: int, batch: int) -> np.ndarray:
        """Probabilities (classes,) of a waveform (samples,) of any length: the mean over its windows of one second.

        The last window ends with the recording; what is shorter than one second is filled up with silence.
        """
        length = round(WINDOW_SECONDS * sample_rate)
        padded = np.pad(waveform, (0, max(0, length - len(waveform))))
        starts = np.minimum(np.arange(0, len(padded), length), len(padded) - length)
        windows = np.lib.stride_tricks.sliding_window_view(padded, length)
        parts = [self.logits(torch.from_numpy(windows[starts[i : i + batch]])) for i in range(0, len(starts), batch)]
        mean: np.ndarray = torch.cat(parts).softmax(dim=-1).mean(dim=0).cpu().numpy()
        return mean


def predictor_of(run: Run, split: int, precision: str | None = None) -> tuple[Predictor, bool]:
    """The predictor of a trained split in the recipe's precision, or another one; and whether it asks for devices."""
    config: Config = run.config if precision is None else replace(run.config, precision=precision)
    network, by_device = load_network(replace(run, config=config), split)
    ears = front_end(config.front_end, config.data.sample_rate)
    return Predictor(network, ears, config.precision), by_device


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (clips, classes) in double precision."""
    probabilities: np.ndarray = torch.from_numpy(logits).double().softmax(dim=-1).numpy()
    return probabilities


def predict_run(run: Run, precision: str | None) -> Mapping[str, Any]:
    """Write <split>/predictions/test.csv and evaluation.csv of every split."""
    config: Config = run.config
    parts: list[Part] = ["test", "evaluation"] if evaluation_folder(config.data) else ["test"]
    sets = {part: load_clips(config.data, part) for part in parts}
    done = {
        "clips": {part: len(clips) for part, clips in sets.items()},
        "precision": precision or config.precision,
    }
    for split in config.data.splits:
        predictor, by_device = predictor_of(run, split, precision)
        for part, clips in sets.items():
            logits = predictor.clips(clips, config, f"predict {part}, split {split}", by_device)
            write_outputs(predictions_file(run.folder, split, part), clips.names, softmax(logits))
        record(of_split(run, split).folder, "predict", done)
    return done


def predict_files(
    run: Run, files: list[Path], out: Path | None, split: int | None, precision: str | None
) -> Mapping[str, Any]:
    """Print the likeliest scenes of named files; with `out` write them there as an output file."""
    paths = reading.audio_files(files)
    if out is not None:
        own_outputs(out)  # a table of somebody else is told before the work
    predictor, _ = predictor_of(run, known_split(run, split), precision)
    found = {str(path): predict_file(predictor, path, run.config) for path in paths}
    rows = []
    for path, of in found.items():
        best = sorted(of["probabilities"].items(), key=lambda pair: -pair[1])[:3]
        rows.append([path, f"{of['seconds']:.2f}", *(f"{scene} {share:.2f}" for scene, share in best)])
    print_table("scenes", ["file", "seconds", "first", "second", "third"], rows)
    if out is not None:
        add_outputs(out, list(found), np.array([list(of["probabilities"].values()) for of in found.values()]))
    return {"files": found}


def predict_file(
    predictor: Predictor, recording: str | Path | np.ndarray, config: Config, sample_rate: int | None = None
) -> dict[str, Any]:
    """{"seconds", "scene": the likeliest, "probabilities": {scene: share}} of a file or an array of any length."""
    waveform = reading.waveform_of(recording, sample_rate, config.data.sample_rate)
    if len(waveform) == 0:
        raise UserError(f"{'recording' if isinstance(recording, np.ndarray) else recording}: no audio in it")
    shares = predictor.recording(waveform, config.data.sample_rate, config.data.eval_batch)
    probabilities = dict(zip(SCENES, map(float, shares), strict=True))
    return {
        "seconds": len(waveform) / config.data.sample_rate,
        "scene": max(SCENES, key=probabilities.__getitem__),
        "probabilities": probabilities,
    }


def classify(
    recording: str | Path | np.ndarray, checkpoint: str | Path, sample_rate: int | None, precision: Precision | None
) -> dict[str, Any]:
    """`task1_asc.classify`."""
    network, config = load_file(Path(checkpoint), precision)
    ears = front_end(config.front_end, config.data.sample_rate)
    predictor = Predictor(network, ears, config.precision)
    return predict_file(predictor, recording, config, sample_rate)


def store_logits(run: Run) -> Mapping[str, Any]:
    """Write <split>/teacher_logits.npz of every split: the float32 network on the clips as they are."""
    config: Config = run.config
    whole = replace(config.data, cropped=False, devices=None, validation_share=0.0)
    counts = {}
    for split in config.data.splits:
        clips, folder = load_clips(whole, "train", split), of_split(run, split).folder
        predictor, by_device = predictor_of(run, split, "float32")
        logits = predictor.clips(clips, config, f"teach split {split}", by_device)
        about = About(split, run.recipe, run.number, checkpoint_of(folder)[1])
        write_logits(folder / FILE_NAME, clips.names, logits, about)
        counts[str(split)] = len(clips)
        print(f"{folder / FILE_NAME}: logits of {len(clips)} clips")
    return {"clips": counts}
