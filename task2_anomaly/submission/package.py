"""Submissions of own runs: the stored scores (and decisions) of the evaluation set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import read_json
from common.run.settings import SubmissionConfig
from common.run.submission.measure import mark
from common.run.submission.meta import ExternalDataset
from common.run.submission.package import (
    Packed,
    build_submission,
    check_name,
    described,
    labels_of,
    passing_meta,
    report_of,
)
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.sets import of_machine
from task2_anomaly.evaluation.report import results_of
from task2_anomaly.inference.ensemble import ENSEMBLE
from task2_anomaly.inference.scores import decision_file, score_file, scored_machines
from task2_anomaly.submission.editions import EVALUATION, Edition, Expected, edition_of, expected_files, expected_names
from task2_anomaly.submission.meta import SubmissionMeta, make_meta, meta_yaml
from task2_anomaly.submission.rules import SYSTEMS, TASK, check_meta, label_problem
from task2_anomaly.submission.tables import passing_table
from task2_anomaly.submission.validate import validate_archives

OUTSIDE = {"audioset": "AudioSet", "scenes": "TAU Urban Acoustic Scenes 2020 Mobile"}


@dataclass(frozen=True)
class System:
    """One system of a team: its meta data and the folder of its score (and decision) files."""

    meta: SubmissionMeta
    scores: Path


def package_2020(
    out: Path, systems: Sequence[System], report: Path | None = None, expected: Expected = EVALUATION
) -> Path:
    """Write the submission of one team as a .zip, whole or not at all; returns its path.

    report: the technical report as PDF; None: a page that says it is a placeholder. expected: machines and test files
    of the evaluation set. Raises UserError for meta data or scores that the challenge would not take.
    """
    return _package(out, systems, report, "2020", expected)


def package_first_shot(
    out: Path, systems: Sequence[System], report: Path | None = None, expected: Expected | None = None
) -> Path:
    """The same for the first-shot editions: scores and decisions of every machine type.

    expected: None: the evaluation set of the edition whose machine types the first system has.
    """
    return _package(out, systems, report, "first-shot", expected)


def _package(
    out: Path, systems: Sequence[System], report: Path | None, edition: Edition, expected: Expected | None
) -> Path:
    if not 1 <= len(systems) <= SYSTEMS:
        raise UserError(f"{out}: {len(systems)} systems to package, expected 1 to {SYSTEMS}")
    return build_submission(out, _packed(systems, edition, expected), report, f"{TASK}/")


def _packed(systems: Sequence[System], edition: Edition, expected: Expected | None) -> Iterator[Packed]:
    for system in systems:
        meta = system.meta
        if meta.edition != edition:
            raise UserError(f"{meta.label}: meta data of edition {meta.edition}, expected {edition}")
        text = meta_yaml(meta)
        passing_meta(meta, label_problem(meta.label), check_meta(text, meta.label, "meta data", edition))
        yield Packed(meta, text, {path.name: path for path in _passing_tables(system.scores, edition, expected)})


def _passing_tables(folder: Path, edition: Edition, expected: Expected | None) -> list[Path]:
    """The score (and decision) files of a system."""
    found = []
    for machine, names in expected_names(edition, expected, scored_machines(folder)).items():
        scores = folder / score_file(machine)
        values = passing_table(scores, "score", machine, names)
        found.append(scores)
        if edition == "first-shot":
            decisions = folder / decision_file(machine)
            passing_table(decisions, "decision", machine, values.keys())
            found.append(decisions)
    return found


def package_runs(runs: Sequence[Run], out: Path | None, report: Path | None) -> Mapping[str, Any]:
    """Build and validate the submission of the recipe's edition: the scores of the evaluation set."""
    run = runs[0]
    config: Config = run.config
    if config.data.edition == 2021:
        raise UserError(
            "data.edition: 2021, whose submissions have a file for each domain; "
            "`package` makes those of 2020, and of 2022 on"
        )
    if (about := described(run)) is None:
        return {}
    labels = labels_of(runs, about, SYSTEMS)
    out = out or run.folder.parent / "submission.zip"
    check_name(out)
    systems = [system_of(run, replace(about, label=label)) for run, label in zip(runs, labels, strict=True)]
    package = package_2020 if edition_of(config) == "2020" else package_first_shot
    package(out, systems, report_of(about, report), expected_files(config))
    results = {system.meta.label: system.meta.results for system in systems}
    mark(out, made_of(root_of(config.data)))
    return validate_archives(run, [out], counted=parameters(run), results=results, measure="recipe")


def system_of(run: Run, about: SubmissionConfig) -> System:
    """One run's scores and meta data."""
    meta = make_meta(about, development_results(run), parameters(run), edition_of(run.config), **description(run))
    return System(replace(meta, external_datasets=external_datasets(run.config)), run.folder / "scores" / "eval_test")


def development_results(run: Run) -> dict[str, Any]:
    """Metrics by machine type of the development test set, as `evaluate` has recorded them."""
    results = results_of(run.folder)
    if "dev_test" not in results:
        raise UserError(f"{run.folder}: no results of the development test set, which the meta file states")
    return dict(results["dev_test"]["types"])


def parameters(run: Run) -> int:
    """Of all networks of the system together."""
    config: Config = run.config
    if config.model.kind == "embedding":
        from task2_anomaly.model.embedder import new_encoder

        return members(run) * sum(p.numel() for p in new_encoder(config, run.seed).parameters())
    from task2_anomaly.data.front_end import front_end
    from task2_anomaly.model.networks import build_network, check_own, window_frames

    bands = front_end(config.front_end).num_mels
    network = build_network(config.model, bands)
    check_own(config.model, network, bands, window_frames(config))  # lazy layers get their sizes
    networks = {of_machine(run, machine).folder for machine in expected_files(config)}
    return members(run) * len(networks) * sum(p.numel() for p in network.parameters())


def members(run: Run) -> int:
    """Systems of which the run is an ensemble, 1 for a training."""
    path = run.folder / ENSEMBLE
    return len(read_json(path)["members"]) if path.is_file() else 1


def description(run: Run) -> dict[str, Any]:
    """What the challenge wants to know of a recipe, in its words."""
    config: Config = run.config
    embedding = config.model.kind == "embedding"
    distance = f"embeddings, {config.embedding.backend}"
    method = "outlier-exposed CNN" if config.model.classifies else distance if embedding else "autoencoder"
    use = "pre-trained model" if embedding else "proxy outliers"
    return {
        "acoustic_features": None if embedding else "log-mel energies",
        "embeddings": str(config.embedding.encoder) if embedding else None,
        "machine_learning_method": method,
        "aggregation_method": None if embedding else config.scoring.aggregate,
        "ensemble_method_subsystem_count": members(run) if members(run) > 1 else None,
        "decision_making": f"{config.scoring.decision_quantile:g} quantile of a gamma distribution",
        "external_data_usage": use if external_datasets(config) else None,
    }


def external_datasets(config: Config) -> list[ExternalDataset] | None:
    """What the recipe uses beside the challenge's data: proxies from outside, a pre-trained encoder."""
    if config.model.kind == "embedding":
        name = config.embedding.checkpoint
    else:
        name = OUTSIDE.get(config.data.proxies) if config.model.classifies else None
    return [ExternalDataset(name)] if name else None
