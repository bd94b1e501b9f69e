"""The stages around training: predict, teach, evaluate, compare, splits. Each reads files and writes files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import existing_folder
from common.run.results.store import read_results, record
from common.run.results.tables import print_table
from common.run.verbs import Run
from task1_asc.config import Config
from task1_asc.data.classes import SCENES
from task1_asc.data.layout import find_evaluation, read_meta, split_file
from task1_asc.inference.scores import write_outputs

PREDICTIONS = "predictions"


def train_run(run: Run, restart: bool) -> Mapping[str, Any]:
    """Train, and what was recorded of each split."""
    from common.run.training import is_first_process
    from task1_asc.training.train import train

    train(run, restart)
    if not is_first_process():
        return {}
    done = {}
    for split in run.config.data.splits:
        values = read_results(run.folder / f"split{split}")["train"]["values"]
        done[str(split)] = {key: values[key] for key in ("clips", "epochs", "steps", "kwh", "best")}
    rows = [
        [f"{split} %", *(f"{of[key]:,}" for key in ("clips", "epochs", "steps")), f"{of['kwh']:.6f}"]
        for split, of in done.items()
    ]
    print_table(f"{run.folder}: trained", ["split", "clips", "epochs", "steps", "kWh"], rows)
    return {"run": run.number, "seed": run.seed, "splits": done}


def network_counts(run: Run) -> dict[str, int]:
    """Parameters, bytes as deployed and MACs of a trained run's network, as `train` recorded them."""
    path = run.folder / f"split{known_split(run, None)}"
    recorded = read_results(path) if (path / "results.json").is_file() else {}
    if "train" not in recorded:
        raise UserError(f"{path}: no finished training; `train` makes one")
    counted: dict[str, int] = recorded["train"]["values"]["network"]
    return counted


# ---------------------------------------------------------------------------------------------------------- prediction


def predict_sets(run: Run, precision: str | None) -> Mapping[str, Any]:
    """Write <split>/predictions/test.csv and evaluation.csv of every split."""
    from task1_asc.data.sets import load_clips
    from task1_asc.inference.checkpoints import of_split, predictor_of
    from task1_asc.inference.predict import softmax

    config: Config = run.config
    parts = ["test"] + (["evaluation"] if evaluation_folder(config) else [])
    sets: dict[str, Any] = {part: load_clips(config.data, part) for part in parts}  # type: ignore[arg-type]
    for split in config.data.splits:
        predictor, by_device = predictor_of(run, split, precision)
        folder = of_split(run, split).folder
        for part, clips in sets.items():
            logits = predictor.clips(clips, config, f"predict {part}, split {split}", by_device)
            write_outputs(folder / PREDICTIONS / f"{part}.csv", clips.names, softmax(logits))
        counts = {part: len(clips) for part, clips in sets.items()}
        record(folder, "predict", {"clips": counts, "precision": precision or config.precision})
    return {"clips": {part: len(clips) for part, clips in sets.items()}, "precision": precision or config.precision}


def evaluation_folder(config: Config) -> Path | None:
    """The evaluation set of a recipe, where there is one."""
    from task1_asc.data.sets import root_of

    return find_evaluation(root_of(config.data), config.data.evaluation, config.data.edition)


def predict_files(
    run: Run, files: list[Path], out: Path | None, split: int | None, precision: str | None
) -> Mapping[str, Any]:
    """Print the likeliest scenes of named files."""
    import numpy as np

    from common.audio.reading import audio_files
    from task1_asc.inference.checkpoints import predictor_of
    from task1_asc.inference.predict import predict_file

    paths = audio_files(files)
    predictor, _ = predictor_of(run, known_split(run, split), precision)
    found = [predict_file(predictor, path, run.config) for path in paths]
    rows = []
    for path, (seconds, probabilities) in zip(paths, found, strict=True):
        best = np.argsort(-probabilities)[:3]
        rows.append([str(path), f"{seconds:.2f}", *(f"{SCENES[i]} {probabilities[i]:.2f}" for i in best)])
    print_table("scenes", ["file", "seconds", "first", "second", "third"], rows)
    if out is not None:
        write_outputs(out, [str(path) for path in paths], np.stack([of for _, of in found]))
    scenes = [dict(zip(SCENES, map(float, of), strict=True)) for _, of in found]
    return {
        "files": {
            str(path): {"seconds": seconds, "scene": max(of, key=of.__getitem__), "probabilities": of}
            for path, (seconds, _), of in zip(paths, found, scenes, strict=True)
        }
    }


def known_split(run: Run, split: int | None) -> int:
    """The given split of the recipe, or its largest one."""
    splits: list[int] = run.config.data.splits
    if split is not None and split not in splits:
        raise UserError(f"--split: {split}, but the recipe has {', '.join(map(str, splits))}")
    return max(splits) if split is None else split


def store_logits(run: Run) -> Mapping[str, Any]:
    """Write <split>/teacher_logits.npz of every split: the float32 network on the clips as they are."""
    from task1_asc.data.sets import load_clips
    from task1_asc.data.teachers import FILE_NAME, About, write_logits
    from task1_asc.inference.checkpoints import checkpoint_of, of_split, predictor_of

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


# ---------------------------------------------------------------------------------------------------------- evaluation


def evaluate_stored(run: Run, plots: bool) -> Mapping[str, Any]:
    """Metrics of a run's predictions on the test list."""
    from task1_asc.data.prepare import made_of
    from task1_asc.data.sets import root_of
    from task1_asc.evaluation.report import evaluate_run

    root = root_of(run.config.data)
    return evaluate_run(run.folder, run.config.data.splits, split_file(root, "test"), made_of(root) == "toy", plots)


def evaluate_files(scores: list[Path], ground_truth: Path, out: Path | None, allow_missing: bool) -> Mapping[str, Any]:
    """Metrics of anybody's output files."""
    from task1_asc.evaluation.evaluate import evaluate_files as score

    return score(scores, ground_truth, out, allow_missing=allow_missing)


def compare_with_published(runs: list[Run]) -> Mapping[str, Any]:
    """The tables by scene, device and group, and the comparison of systems."""
    from task1_asc.evaluation.report import compare_runs, report_runs

    run, folders = runs[0], [run.folder for run in runs]
    splits = run.config.data.splits
    report = report_runs(folders, run.recipe, splits)
    counted = network_counts(run)
    compared = compare_runs(folders, run.recipe, splits, counted["parameters"], counted["macs"])
    return {"report": report, "comparison": compared}


# -------------------------------------------------------------------------------------------------------------- splits


def check_or_make_splits(run: Run, words: list[str], out: Path | None, seed: int) -> Mapping[str, Any]:
    """`check [DIR]` or `make [DIR]`; UserError where a property does not hold."""
    from task1_asc.data.sets import root_of
    from task1_asc.data.splits import check_splits, make

    action, *folders = words or [""]
    if action not in ("check", "make") or len(folders) > 1:
        raise UserError("splits: expected `splits check [DIR]` or `splits make [DIR] --out DIR`")
    folder = existing_folder(folders[0], "data set") if folders else root_of(run.config.data)
    meta = read_meta(folder) if (folder / "meta.csv").is_file() else None
    if action == "make":
        if out is None:
            raise UserError("splits make: --out DIR says where the lists go")
        lists = make(folder, out, seed)
        print(f"{out}: {', '.join(f'{name}: {len(clips)} clips' for name, clips in lists.items())}")
        folder = out
    report = check_splits(folder, meta)
    print_table(f"split lists {folder}", ["property", "verdict", "numbers"], report.rows())
    for name in report.missing:
        print(f"not there: {name}")
    if not report.ok:
        raise UserError(f"{folder}: {next(c.name for c in report.checks if c.holds is False)}: does not hold")
    return report.as_dict()
