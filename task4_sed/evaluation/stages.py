"""The stages after training: predict, package, validate, complexity. Each reads files and writes files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.results.store import read_results, record
from common.run.results.tables import print_table
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.classes import CLASSES, CLIP_SECONDS, SAMPLE_RATE
from task4_sed.data.sets import classes_of
from task4_sed.evaluation.evaluate import parse_csebbs
from task4_sed.evaluation.report import CSEBBS_FILE, FLOORS, stored_scores
from task4_sed.inference.postprocess.csebbs import CsebbsParameters
from task4_sed.inference.scores import write_logits

# Metrics per class that fit on a screen.
CLASS_COLUMNS = {
    "psds1_single_class": "PSDS1",
    "psds2_single_class": "PSDS2",
    "intersection_f1_th0.5_dtc0.5_gtc0.5": "inters. F1",
    "collar_f1_th0.5_200ms_20pct": "collar F1",
    "segment_f1_th0.5_1s": "segment F1",
    "segment_pauroc_1s_maxfpr0.1_step": "segment pAUC",
    "intersection_f1_dtc0.5_gtc0.5_psds_eval": "inters. F1",
    "collar_f1_sed_eval_200ms_20pct": "collar F1",
    "segment_f1_sed_eval_1s": "segment F1",
}


def checkpoint_of(run: Run, checkpoint: Path | None) -> tuple[Path, str | None]:
    """The given checkpoint, or the run's best one with the SHA-256 that training recorded."""
    if checkpoint is not None:
        return existing_file(checkpoint, "checkpoint"), None
    recorded = read_results(run.folder) if (run.folder / "results.json").is_file() else {}
    if "checkpoint" not in recorded:
        raise UserError(f"{run.folder}: no finished training; `train` makes one, --checkpoint FILE takes another")
    values = recorded["checkpoint"]["values"]
    return run.folder / values["file"], values["sha256"]


def predict_sets(run: Run, checkpoint: Path | None, floors: bool) -> Mapping[str, Any]:
    """Store logits of every data set that later stages read, with the energy of the test sets."""
    from common.run.energy import measure
    from task4_sed.inference.checkpoints import load_network
    from task4_sed.inference.predict import Predictor, predict_set

    config: Config = run.config
    path, expected = checkpoint_of(run, checkpoint)
    loaded = load_network(path, config.postprocess.network, config.model, expected, config.encoder)
    predictor = Predictor(loaded, batch=config.data.eval_batch)
    out = run.folder / "scores"
    clips, start = {}, time.monotonic()
    (run.folder / "codecarbon" / "emissions_test.csv").unlink(missing_ok=True)
    with measure(run.folder, "test", config.energy) as meter:
        for name in config.test_sets:
            clips[name] = predict_set(predictor, config, name, out)
    seconds = time.monotonic() - start
    submission = [config.submission_set] if config.submission_set else []
    for name in [*config.postprocess.tune_on, *submission]:
        clips[name] = predict_set(predictor, config, name, out)
    if floors:
        predict_floors(run, out, loaded.classes)
    result = {"checkpoint": str(path), "clips": clips, "kwh": meter.kwh, "seconds": round(seconds, 2)}
    record(run.folder, "predict", result)
    return result


def predict_floors(run: Run, out: Path, classes: Sequence[str]) -> None:
    """What a metric gives for nothing: an untrained network of the same form, and the same score everywhere."""
    import torch

    from task4_sed.inference.checkpoints import load_network
    from task4_sed.inference.predict import Predictor, predict_set
    from task4_sed.model.crnn import CRNN

    path, _ = checkpoint_of(run, None)
    loaded = load_network(path, run.config.postprocess.network, encoder=run.config.encoder)
    torch.manual_seed(run.seed)
    untrained = CRNN(loaded.network.config)
    predictor = Predictor(replace(loaded, network=untrained.eval()), batch=run.config.data.eval_batch)
    for name in run.config.test_sets:
        predict_set(predictor, run.config, name, out / "untrained")
        stored = stored_scores(out / f"{name}.h5")
        shapes = [clip.scores.shape for clip in stored.clips.values()]
        ends = [float(clip.edges[-1]) for clip in stored.clips.values()]
        constant = np.zeros((len(shapes), max(frames for frames, _ in shapes), len(classes)), np.float32)
        write_logits(out / "constant" / f"{name}.h5", list(stored.clips), constant, classes, durations=ends)
    assert {"untrained", "constant"} == set(FLOORS)


def detect_in_files(
    run: Run, files: list[Path], checkpoint: Path | None, out: Path, threshold: float, setting: str | None, plots: bool
) -> Mapping[str, Any]:
    """Events in named files, by the run's network and its tuned boxes."""
    from task4_sed.inference.checkpoints import load_network
    from task4_sed.inference.detect import detect
    from task4_sed.inference.predict import Predictor

    path, expected = checkpoint_of(run, checkpoint)
    config: Config = run.config
    loaded = load_network(path, config.postprocess.network, config.model, expected, config.encoder)
    tuned = run.folder / CSEBBS_FILE
    parameters = parse_csebbs(setting or (str(tuned) if tuned.is_file() and checkpoint is None else "default"))
    if isinstance(parameters, Mapping):  # tuned for the scored classes only
        parameters = {name: parameters.get(name, CsebbsParameters()) for name in loaded.classes}
    found = detect(Predictor(loaded), files, out, parameters, threshold, plots)
    rows = [
        [name, f"{e['onset']:.2f}", f"{e['offset']:.2f}", e["event_label"], f"{e['confidence']:.2f}"]
        for name, events in found.items()
        for e in events
    ]
    print_table("events", ["file", "onset (s)", "offset (s)", "event", "confidence"], rows, note=f"all files: {out}")
    return {"out": str(out), "files": found}


def show_metrics(result: Mapping[str, Any]) -> None:
    """Print what `evaluate --scores` found: overall values, values per class, and what was left out."""
    overall = [
        [name, f"{value:.6f}" if isinstance(value, float) else str(value)]
        for name, value in result.items()
        if isinstance(value, int | float | str) or value is None
    ]
    print_table("overall", ["metric", "value"], overall)
    shown = {title: result["classes"][name] for name, title in CLASS_COLUMNS.items() if name in result["classes"]}
    labels = sorted({label for values in shown.values() for label in values})
    rows = [[label, *(_number(values.get(label)) for values in shown.values())] for label in labels]
    print_table("per class", ["class", *shown], rows, note="more of them in the JSON (--json)")
    for note in result["notes"]:
        print(f"note: {note}")


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def network_counts(run: Run) -> dict[str, int]:
    """Parameters, bytes and MACs for 10 s of audio of a recipe's network and its encoder (torchinfo's counting)."""
    import torch
    from torchinfo import summary

    from common.encoders.table import macs as encoder_macs
    from task4_sed.model.crnn import CRNN
    from task4_sed.model.encoder import Embedder, fitted
    from task4_sed.training.system import front_end

    config: Config = run.config
    root = Path(config.data.root) if config.data.root else None
    classes = classes_of(root) if root else CLASSES
    embedder = Embedder(replace(config.encoder, checkpoint=None)) if config.encoder else None
    network = CRNN(replace(fitted(config.model, embedder), num_classes=len(classes)))
    samples = int(CLIP_SECONDS * SAMPLE_RATE)
    inputs = [torch.zeros(1, config.model.num_mels, front_end(config.model).num_frames(samples))]
    parameters, macs = list(network.parameters()), 0
    if embedder is not None:
        inputs.append(embedder(torch.zeros(1, samples)))
        parameters += embedder.parameters()
        projection = sum(p.numel() for p in embedder.projection.parameters() if p.dim() == 2)
        # By shapes alone: on the CPU, fused attention goes uncounted.
        macs = encoder_macs(embedder.encoder.to("meta")) + projection * inputs[-1].shape[-1]
    counted = summary(network, input_data=inputs, verbose=0)
    return {
        "parameters": sum(p.numel() for p in parameters),
        "bytes": sum(p.numel() * p.element_size() for p in parameters),
        "macs": int(counted.total_mult_adds) + macs,
    }


def network_complexity(run: Run) -> Mapping[str, Any]:
    """Print the counts."""
    counts = network_counts(run)
    rows = [
        ["parameters", f"{counts['parameters']:,}"],
        ["bytes (float32)", f"{counts['bytes']:,}"],
        ["MACs for 10 s", f"{counts['macs']:,}"],
    ]
    print_table(f"network of recipe {run.recipe}", ["count", "value"], rows)
    return counts
