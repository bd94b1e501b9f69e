"""Submissions of own runs: the stored scores of independent trainings, as score tables."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.coverage import made_of, root_of
from common.encoders import RANDOM
from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file
from common.run.results.ensembles import check_members, trained_run, trainings_of
from common.run.results.store import recorded
from common.run.submission.archive import Content
from common.run.submission.measure import mark
from common.run.submission.meta import identity
from common.run.submission.package import Packed, build_submission, check_name, passing_meta, report_of
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.classes import CLASSES, DESED_CLASSES, SAMPLE_RATE
from task4_sed.data.sets import classes_of
from task4_sed.evaluation.complexity import network_counts
from task4_sed.evaluation.report import boxes_of, mean_of, shown_boxes
from task4_sed.inference.ensemble import steps, training_kwh
from task4_sed.inference.networks import check_network
from task4_sed.inference.postprocess.boxes import parse_csebbs
from task4_sed.inference.postprocess.csebbs import CSEBBS_FILE, combine_with_second_means, csebbs
from task4_sed.inference.scores import stored_scores
from task4_sed.metrics.types import TIME_DECIMALS, ClipScores, ScoreSet
from task4_sed.submission.meta import Complexity, Description, DevtestResults, SubmissionMeta, meta_yaml
from task4_sed.submission.rules import check_meta, label_problem
from task4_sed.submission.tables import RunScores
from task4_sed.submission.validate import RUNS, validate_archives

# Significant digits of a score: float32 has 7.2, and more of them only make the archive larger.
SCORE_DIGITS = 7

AUGMENTATIONS: dict[str, Callable[[Config], object]] = {
    "time shift": lambda of: of.augment.frame_shift,
    "waveform mixup": lambda of: of.augment.wavmix_probability,
    "device impulse responses": lambda of: of.augment.impulse_probability,
    "mixup": lambda of: of.augment.mixup_probability,
    "mixstyle": lambda of: of.augment.mixstyle_probability,
    "filter augment": lambda of: of.augment.filter_probability,
    "time masking": lambda of: of.augment.time_mask,
    "frequency warping": lambda of: of.augment.warp_probability,
}
SEMI_SUPERVISED: dict[str, Callable[[Config], object]] = {
    "mean teacher": lambda of: True,
    "interpolation consistency": lambda of: of.loss.kind == "stage2" and of.augment.mixup_probability,
    "pseudo labels": lambda of: of.loss.weights.pseudo,
}


def format_scores(clip: ClipScores, where: str, classes: Sequence[str], columns: Sequence[int]) -> str:
    """The score table of one clip as text.

    columns: which column of the scores belongs to each of `classes`; where: the clip, for messages. Minus infinity
    becomes 0. UserError for NaN and plus infinity, and for edges that don't start at 0 or don't rise by 1 µs.
    """
    edges = np.round(clip.edges, TIME_DECIMALS)
    if edges[0] != 0 or not (np.diff(edges) > 0).all() or not np.isfinite(edges[-1]):
        raise UserError(f"{where}: frame edges expected to start at 0 s and to rise by at least 1e-{TIME_DECIMALS} s")
    scores = clip.scores[:, columns]
    scores = np.where(scores == -np.inf, 0.0, scores)
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        value, at = scores[row, column], f"{edges[row]:g} s"
        raise UserError(f"{where}: the score of {classes[column]!r} at {at} is {value}, expected a finite number")
    table = np.column_stack((edges[:-1], edges[1:], scores))
    line = "%.12g\t%.12g" + f"\t%.{SCORE_DIGITS}g" * len(classes) + "\n"
    # One formatting for the whole clip: a third faster than one per row.
    return "\t".join(("onset", "offset", *classes)) + "\n" + (line * len(table)) % tuple(table.ravel().tolist())


def _columns(scores: ScoreSet, classes: Sequence[str], where: str) -> list[int]:
    for name in classes:
        if name not in scores.classes:
            raise UserError(f"{where}: no scores for class {name!r}{did_you_mean(name, scores.classes)}")
    extra = [name for name in scores.classes if name not in classes]
    if extra:
        raise UserError(f"{where}: scores for the unknown class {extra[0]!r}{did_you_mean(extra[0], classes)}")
    return [scores.classes.index(name) for name in classes]


def _score_files(label: str, runs: Sequence[RunScores], classes: Sequence[str]) -> dict[str, Content]:
    """Name in the system's folder -> a function that makes the table when it is written."""
    expected = runs[0].processed.clips.keys()
    files: dict[str, Content] = {}
    for number, run in enumerate(runs, 1):
        for kind, scores in (("", run.processed), ("_unprocessed", run.unprocessed)):
            where = f"run {number}{kind.replace('_', ', ')}"
            if difference := sorted(expected ^ scores.clips.keys()):
                verb = "lacks" if difference[0] in expected else "has the additional"
                raise UserError(f"{where}: {verb} clip {difference[0]}, expected the clips of run 1")
            columns = _columns(scores, classes, where)
            for clip, values in scores.clips.items():
                name = f"{label}_run{number}{kind}.output/{clip}.tsv"
                files[name] = partial(format_scores, values, f"{where}, clip {clip}", classes, columns)
    return files


def _energy_files(energy: Sequence[Path] | Mapping[str, Path]) -> dict[str, Content]:
    named = energy.items() if isinstance(energy, Mapping) else [(Path(path).name, path) for path in energy]
    files: dict[str, Content] = {}
    for name, path in named:
        if not name.endswith(".csv"):
            raise UserError(f"{path}: expected a CodeCarbon table (.csv)")
        if name in files:
            raise UserError(f"{path}: a second energy table called {name}; give them names, {{name: path}}")
        files[name] = existing_file(path, "energy table")
    return files


def package(
    out: Path,
    meta: SubmissionMeta,
    runs: Sequence[RunScores],
    energy: Sequence[Path] | Mapping[str, Path] = (),
    report: Path | None = None,
    *,
    classes: Sequence[str] = CLASSES,
    toy: bool = False,
) -> Path:
    """Write the submission of one system as a .zip, whole or not at all; returns its path.

    runs: scores of at least three independent trainings over the same clips. energy: CodeCarbon's tables, under
    their own names or {name: path}. report: the technical report as PDF; None: two pages are made from the rest.
    classes: columns of the tables in their order. toy: the report says that it is about generated data.

    Raises UserError for meta data or scores that the challenge would not take.
    """
    text = meta_yaml(meta)
    passing_meta(meta, label_problem(meta.label), check_meta(text, meta.label, "meta data"))
    if len(runs) < RUNS:
        raise UserError(f"{out}: scores of {len(runs)} runs, expected those of {RUNS} independent trainings")
    if not runs[0].processed.clips:
        raise UserError(f"{out}: no scores in run 1")
    tables = _energy_files(energy)
    files = _score_files(meta.label, runs, tuple(classes)) | tables
    made = partial(_report_pdf, meta, runs, list(tables.values()), tuple(classes), toy)
    return build_submission(out, [Packed(meta, text, files)], report or made)


def _report_pdf(*content: Any) -> bytes:
    from task4_sed.submission.technical_report import report_pdf  # matplotlib takes a second to import

    return report_pdf(*content)


def package_runs(
    runs: list[Run], out: Path | None, report: Path | None, members: Sequence[str] | None = None
) -> Mapping[str, Any]:
    """Build and validate the archive of one system from its independent runs; members: of ensembles, to be checked."""
    run, config = runs[0], runs[0].config
    out = out or run.folder.parent / "submission.zip"
    check_name(out)
    if config.submission_set is None:
        print(f"recipe {run.recipe} has no submission_set: nothing to submit")
        return {}
    if config.submission is None:
        raise UserError("the recipe says nothing about `submission` (label, name, abbreviation, authors)")
    if len(runs) < RUNS:
        raise UserError(f"the challenge wants {RUNS} independent trainings: --runs 1 2 3")
    for of in runs if members else ():
        check_members(of, members or ())
    scored = [submission_scores(run) for run in runs]
    root = root_of(config.data)
    classes, toy = classes_of(root), made_of(root) == "toy"
    package(out, meta_of(runs), scored, energy_of(runs), report_of(config.submission, report), classes=classes, toy=toy)
    mark(out, made_of(root))
    return validate_archives(run, [out], measure="recipe")


def energy_of(runs: Sequence[Run]) -> dict[str, Path]:
    """CodeCarbon's tables {name in the archive: file} of all that the runs come of: trainings, pseudo labels, tests."""
    tables: dict[str, Path] = {}
    for run in runs:
        if not run.config.energy.enabled:
            continue
        last = [of.folder for of in trainings_of(run)]
        for step in steps([run.folder]):
            name = step.name if step == run.folder else f"{step.parent.name}_{step.name}"
            phases = [
                "training",
                *(["logits"] if recorded(step, "logits") else []),
                *(["test"] if step in last else []),
            ]
            tables |= {f"emissions_{of}_{name}.csv": step / "codecarbon" / f"emissions_{of}.csv" for of in phases}
    return tables


def submission_scores(run: Run) -> RunScores:
    """Scores of the evaluation set as they are, and post-processed: boxes for DESED, 1-s means for MAESTRO."""
    check_network(run.folder, run.config.postprocess.network)
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
    networks = trainings_of(runs[0])
    counts = [network_counts(network) for network in networks]
    trainings = [trained_run(runs[0].task, str(folder), 1).config for folder in steps([runs[0].folder])]
    boxes = boxes_of(config, "devtest")
    return SubmissionMeta(
        **identity(about),
        complexity=Complexity(
            total_parameters=sum(count["parameters"] for count in counts),
            macs=sum(count["macs"] for count in counts),
            energy_training=float(np.mean([training_kwh(run.folder) for run in runs])),
            energy_test=mean_of(runs, "devtest/kwh_test"),
        ),
        results=DevtestResults(mean_of(runs, f"devtest/psds1_{boxes}"), mean_of(runs, "devtest/mpauc")),
        description=Description(
            input_sampling_rate=float(SAMPLE_RATE),
            input="mono",
            data_augmentation=_used(trainings, AUGMENTATIONS) or None,
            machine_learning_method="CRNN" if config.model.kind == "crnn" else "own network",
            machine_learning_semi_supervised=_used(trainings, SEMI_SUPERVISED),
            ensemble_method_subsystem_count=len(networks) if len(networks) > 1 else None,
            decision_making="mean of logits" if len(networks) > 1 else None,
            post_processing=shown_boxes(boxes),
            pre_trained_models=sorted({str(of.config.encoder.name) for of in networks if _pre_trained(of.config)})
            or None,
        ),
    )


def _pre_trained(config: Config) -> bool:
    return config.encoder is not None and config.encoder.checkpoint not in (None, RANDOM)


def _used(trainings: Sequence[Config], names: Mapping[str, Callable[[Config], object]]) -> list[str]:
    """The names of what holds for any of the trainings."""
    return [name for name, used in names.items() if any(used(of) for of in trainings)]
