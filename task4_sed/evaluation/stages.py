"""The stages after training: predict, package, validate. Each reads files and writes files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.results.store import read_results, record
from common.run.results.tables import print_table
from common.run.submission.archive import has_errors, listing, verdict
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.annotations import read_durations
from task4_sed.data.classes import CLASSES, DESED_CLASSES, SAMPLE_RATE
from task4_sed.data.layout import SETS
from task4_sed.data.prepare import made_of
from task4_sed.data.sets import classes_of, first_existing, root_of
from task4_sed.evaluation.complexity import network_counts
from task4_sed.evaluation.evaluate import parse_csebbs
from task4_sed.evaluation.report import CSEBBS_FILE, FLOORS, mean_of, stored_scores
from task4_sed.inference.postprocess.csebbs import CsebbsParameters, combine_with_second_means, csebbs
from task4_sed.inference.scores import clip_name, write_logits
from task4_sed.submission.meta import Affiliation, Author, Complexity, Description, DevtestResults, SubmissionMeta
from task4_sed.submission.package import RunScores
from task4_sed.submission.package import package as write_package
from task4_sed.submission.validate import validate as find_violations

RUNS_OF_A_SUBMISSION = 3

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


def package_runs(runs: list[Run], out: Path | None, report: Path | None) -> Mapping[str, Any]:
    """Build and validate the archive of one system from its independent runs."""
    run, config = runs[0], runs[0].config
    out = out or run.folder.parent / "submission.zip"
    if config.submission_set is None:
        print(f"recipe {run.recipe} has no submission_set: nothing to submit")
        return {}
    if config.submission is None:
        raise UserError("the recipe says nothing about `submission` (label, name, abbreviation, authors)")
    if len(runs) < RUNS_OF_A_SUBMISSION:
        raise UserError(f"the challenge wants {RUNS_OF_A_SUBMISSION} independent trainings: --runs 1 2 3")
    scored = [submission_scores(run) for run in runs]
    energy = {
        f"emissions_{phase}_run{run.number}.csv": run.folder / "codecarbon" / f"emissions_{phase}.csv"
        for run in runs
        for phase in ("training", "test")
        if config.energy.enabled
    }
    root = root_of(config.data)
    classes, toy = classes_of(root), made_of(root) == "toy"
    write_package(out, meta_of(runs), scored, energy, report, classes=classes, toy=toy)
    return validate_archives(run, [out], first_existing(root, SETS[config.submission_set].durations))


def submission_scores(run: Run) -> RunScores:
    """Scores of the evaluation set as they are, and post-processed: boxes for DESED, 1-s means for MAESTRO."""
    scores = stored_scores(run.folder / "scores" / f"{run.config.submission_set}.h5")
    tuned = run.folder / CSEBBS_FILE
    setting = run.config.postprocess.csebbs
    parameters = parse_csebbs(
        str(existing_file(tuned, "tuned cSEBBs (`evaluate` makes them)")) if setting.startswith("tune") else setting
    )
    boxed = DESED_CLASSES if scores.classes == CLASSES else scores.classes
    return RunScores(combine_with_second_means(csebbs(scores, parameters, boxed), scores), scores)


def meta_of(runs: list[Run]) -> SubmissionMeta:
    """The meta data of a system, from its recipe and results."""
    config: Config = runs[0].config
    about = config.submission
    assert about is not None
    count = network_counts(runs[0])
    trained = [read_results(run.folder)["train"]["values"] for run in runs]
    authors = [
        Author(a.lastname, a.firstname, a.email, a.corresponding, Affiliation(a.institute) if a.institute else None)
        for a in about.authors
    ]
    return SubmissionMeta(
        label=about.label,
        name=about.name,
        abbreviation=about.abbreviation,
        authors=authors,
        complexity=Complexity(
            total_parameters=count["parameters"],
            macs=count["macs"],
            energy_training=float(np.mean([t["kwh"] for t in trained])),
            energy_test=mean_of(runs, "devtest/kwh_test"),
        ),
        results=DevtestResults(mean_of(runs, "devtest/psds1_csebbs"), mean_of(runs, "devtest/mpauc")),
        description=Description(
            input_sampling_rate=float(SAMPLE_RATE),
            input="mono",
            data_augmentation="mixup",
            machine_learning_method="CRNN",
            machine_learning_semi_supervised="mean teacher",
            post_processing="cSEBBs",
        ),
        source_code=about.source_code,
    )


def validate_archives(run: Run, files: list[Path], evaluation_set: Path | None = None) -> Mapping[str, Any]:
    """List every violation of every archive; UserError at the end where there was an error."""
    if not files:
        raise UserError("validate: name at least one archive")
    durations = read_durations(evaluation_set) if evaluation_set else None
    names = [clip_name(clip) for clip in durations] if durations else None
    root = run.config.data.root
    classes = classes_of(Path(root)) if root else CLASSES
    found: dict[str, Any] = {}
    broken = []
    for path in files:
        violations = find_violations(path, names, durations, classes)
        for line in listing(violations):
            print(line)
        print(f"{path}: {verdict(violations)}")
        found[str(path)] = [asdict(v) for v in violations]
        if has_errors(violations):
            broken.append(path)
    if broken:
        raise UserError(f"{broken[0]}: not a valid submission")
    return {"archives": found}
