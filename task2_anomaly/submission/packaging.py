"""Submissions of own runs, of 2020 or of a first-shot edition; and checking anybody's."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common.audio.packs import open_pack
from common.run.errors import UserError
from common.run.files import read_json
from common.run.settings import SubmissionConfig
from common.run.submission.archive import has_errors, listing, verdict
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.sets import machines_of, pack_of, packed
from task2_anomaly.evaluation.report import results_of
from task2_anomaly.inference.ensemble import ENSEMBLE
from task2_anomaly.submission.editions import Edition
from task2_anomaly.submission.meta import ExternalDataset, make_meta
from task2_anomaly.submission.package import System, package_2020, package_first_shot
from task2_anomaly.submission.validate import validate

SYSTEMS = 4  # of one team at most
OUTSIDE = {"audioset": "AudioSet", "scenes": "TAU Urban Acoustic Scenes 2020 Mobile"}


def package_runs(runs: Sequence[Run], out: Path | None, report: Path | None) -> Mapping[str, Any]:
    """Build and validate the submission of the recipe's edition: the scores of the evaluation set."""
    run = runs[0]
    config: Config = run.config
    about = config.submission
    if about is None:
        print(f"recipe {run.recipe} says nothing about `submission` (label, name, ...): nothing to submit")
        return {}
    if len(runs) > SYSTEMS:
        raise UserError(f"a team may submit {SYSTEMS} systems, but --runs names {len(runs)}")
    out = out or run.folder.parent / "submission.zip"
    given = report or (Path(about.technical_report) if about.technical_report else None)
    systems = [system_of(run, about, number) for number, run in enumerate(runs, start=1)]
    package = package_2020 if edition_of(config) == "2020" else package_first_shot
    package(out, systems, given, expected_files(config))
    results = {system.meta.label: system.meta.results for system in systems}
    return validate_archives(run, [out], counted=parameters(run), results=results)


def system_of(run: Run, about: SubmissionConfig, number: int) -> System:
    """One run's scores and meta data; its label ends in the number."""
    about = replace(about, label=f"{about.label.rpartition('_')[0]}_{number}")
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
    from task2_anomaly.model.networks import build_network

    network = build_network(config.model, front_end(config.front_end).num_mels)
    return members(run) * len(expected_files(config)) * sum(p.numel() for p in network.parameters())


def members(run: Run) -> int:
    """Systems of which the run is an ensemble, 1 for a training."""
    path = run.folder / ENSEMBLE
    return len(read_json(path)["members"]) if path.is_file() else 1


def description(run: Run) -> dict[str, Any]:
    """What the challenge wants to know of a recipe, in its words."""
    config: Config = run.config
    embedding = config.model.kind == "embedding"
    method = {"classifier": "outlier-exposed CNN", "embedding": f"embeddings, {config.embedding.backend}"}
    use = "pre-trained model" if embedding else "proxy outliers"
    return {
        "acoustic_features": None if embedding else "log-mel energies",
        "embeddings": config.embedding.encoder if embedding else None,
        "machine_learning_method": method.get(config.model.kind, "autoencoder"),
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
        name = OUTSIDE.get(config.data.proxies) if config.model.kind == "classifier" else None
    return [ExternalDataset(name)] if name else None


def expected_files(config: Config) -> dict[Machine, list[str]]:
    """Names of the evaluation test files of every machine that the recipe names. Raises UserError without data."""
    chosen = set(machines_of(config.data))
    there = [machine for _, machine in packed(config.data, ("eval_test",)) if machine in chosen]
    return {machine: list(open_pack(pack_of(config.data, "eval_test", machine)).names) for machine in there}


def edition_of(config: Config) -> Edition:
    """The form of submission of the recipe's edition."""
    return "2020" if config.data.edition == 2020 else "first-shot"


def validate_archives(
    run: Run,
    files: Sequence[Path],
    edition: Edition | None = None,
    counted: int | None = None,
    results: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    """List every violation of every archive; UserError at the end where there was an error.

    Measured by the recipe's data set, or by the challenge's evaluation set where the recipe has none.
    """
    if not files:
        raise UserError("validate: name at least one archive")
    config: Config = run.config
    own = config.data.root is not None and Path(config.data.root).is_dir() and edition in (None, edition_of(config))
    expected = expected_files(config) if own else None
    found: dict[str, Any] = {}
    broken = []
    for path in files:
        violations = validate(path, edition or edition_of(config), expected, counted, results)
        for line in listing(violations):
            print(line)
        print(f"{path}: {verdict(violations)}")
        found[str(path)] = [asdict(v) for v in violations]
        if has_errors(violations):
            broken.append(path)
    if broken:
        raise UserError(f"{broken[0]}: not a valid submission")
    return {"archives": found}
