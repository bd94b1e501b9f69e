"""Trained networks in the arithmetic of their deployment, over data sets and over any audio; teachers' logits."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.audio.answers import SCORES, stems, write_answer
from common.audio.arrays import write_logits
from common.audio.recordings import Recording, find_recordings, rechunked, short_names
from common.frontends import LogMel
from common.run.checkpoints import checkpoint_of
from common.run.errors import UserError
from common.run.folders import printable
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.runs import network_note
from common.run.results.store import record
from common.run.results.tables import print_table
from common.run.verbs import Run
from task1_asc.config import Config, Precision, known_split, of_split
from task1_asc.data.batches import over_clips
from task1_asc.data.classes import SCENES
from task1_asc.data.sets import Clips, Part, evaluation_folder, load_clips
from task1_asc.data.teachers import FILE_NAME, About
from task1_asc.deployment.precision import deployed
from task1_asc.inference.checkpoints import check_trained, load_file, load_network
from task1_asc.inference.scores import add_outputs, own_outputs, predictions_file, write_outputs
from task1_asc.model.front_end import front_end

WINDOW_SECONDS = 1.0
OUTPUT = "output.csv"  # of named files, in the challenge's form


class Predictor:
    """A network and its front end on a device, in evaluation mode; the given network stays as it is.

    precision: as in the recipe. int8 means that the network is a converted one already; it runs on the CPU.
    """

    def __init__(self, network: nn.Module, front_end: LogMel, precision: str, device: str | None = None) -> None:
        self.device = torch.device(device or ("cpu" if precision == "int8" else working_device()))
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

    def recording(self, blocks: Iterable[np.ndarray], sample_rate: int, batch: int) -> np.ndarray:
        """Probabilities (classes,) of a recording of any length: the mean over its windows of one second.

        blocks: its samples, piece by piece. The last window ends with the recording; what is shorter than one second is
        filled up with silence. Raises UserError where there are none.
        """
        length, count, before = round(WINDOW_SECONDS * sample_rate), 0, np.empty(0, np.float32)
        total = np.zeros(len(SCENES))
        for piece in rechunked(blocks, batch * length):
            windows = piece[: len(piece) // length * length].reshape(-1, length)
            if len(piece) % length:  # the end of the recording
                last = np.concatenate((before, piece))[-length:]
                windows = np.concatenate((windows, np.pad(last, (0, length - len(last)))[None]))
            for i in range(0, len(windows), batch):
                shares = self.logits(torch.from_numpy(windows[i : i + batch])).softmax(dim=-1)
                total += shares.double().sum(dim=0).cpu().numpy()
            count, before = count + len(windows), piece[-length:]
        if not count:
            raise UserError("recording: no audio in it")
        return total / count


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
    check_trained(run, config.data.splits)
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
    run: Run, files: list[Path], out: Path, split: int | None, precision: str | None
) -> Mapping[str, Any]:
    """Print the likeliest scenes of named files and write them to `out`: `common.audio.answers`, and an output file."""
    recordings = find_recordings(files)
    own_outputs(out / SCORES / OUTPUT)  # a table of somebody else is told before the work
    written, names = stems(out, recordings, "probabilities"), recordings.names()
    split = known_split(run, split)
    predictor, _ = predictor_of(run, split, precision)
    note = network_note(of_split(run, split).folder)
    found: dict[Path, dict[str, Any]] = {}
    with progress("predict", len(names), "files") as advance:
        for path in recordings.files:
            with recordings.skipping(path):
                found[path] = predict_file(predictor, Recording(path, run.config.data.sample_rate), run.config)
                _write_scenes(written[path], path, found[path], note)
                advance(note=names[path])
    if found:
        rows = []
        for path, of in found.items():
            best = (f"{scene} {share:.2f}" for scene, share in _likeliest(of)[:3])
            rows.append([names[path], f"{of['seconds']:.2f}", *best])
        said = "; ".join(filter(None, (note, f"all files: {out}")))
        print_table("scenes", ["file", "seconds", "first", "second", "third"], rows, said, whole=out)
        table = np.array([list(of["probabilities"].values()) for of in found.values()])
        add_outputs(out / SCORES / OUTPUT, output_names(list(found)), table)
    return recordings.finish({"out": str(out), "files": {names[path]: of for path, of in found.items()}, "note": note})


def _likeliest(found: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Scenes and their probabilities, the likeliest first."""
    return sorted(found["probabilities"].items(), key=lambda pair: -pair[1])


def _write_scenes(stem: Path, path: Path, found: Mapping[str, Any], note: str | None) -> None:
    about = {"file": printable(path), "duration": round(found["seconds"], 3), "scene": found["scene"]}
    about |= {"probabilities": found["probabilities"]} | ({"note": note} if note else {})
    rows = [(printable(path.name), scene, share) for scene, share in _likeliest(found)]
    write_answer(stem, about, ("filename", "scene_label", "probability"), rows)


def output_names(files: Sequence[Path]) -> list[str]:
    """Names without folder, as output files have them; those of files that are called alike are told apart."""
    alike, short = Counter(file.name for file in files), short_names(files)
    return [printable(file.name if alike[file.name] == 1 else short[file]) for file in files]


def predict_file(predictor: Predictor, recording: Recording, config: Config) -> dict[str, Any]:
    """{"seconds", "scene": the likeliest, "probabilities": {scene: share}} of a recording of any length."""
    shares = predictor.recording(recording, config.data.sample_rate, config.data.eval_batch)
    probabilities = dict(zip(SCENES, map(float, shares), strict=True))
    return {
        "seconds": recording.seconds,
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
    return predict_file(predictor, Recording(recording, config.data.sample_rate, sample_rate), config)


def store_logits(run: Run) -> Mapping[str, Any]:
    """Write <split>/teacher_logits.npz of every split: the float32 network on the clips as they are."""
    config: Config = run.config
    check_trained(run, config.data.splits)
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
