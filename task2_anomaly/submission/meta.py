"""The meta file of a system: typed, and written as the YAML that the challenge reads."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from common.run.settings import SubmissionConfig
from task2_anomaly.submission.editions import Edition

Words = str | list[str] | None
# {metric of own results: its name in the meta file, in per cent there}
RESULT_KEYS: dict[Edition, dict[str, str]] = {
    "2020": {"auc": "averaged_auc", "pauc": "averaged_pauc"},
    "first-shot": {"auc_source": "auc_source", "auc_target": "auc_target", "pauc": "pauc"},
}
DECIMALS = 2  # of the results


@dataclass(frozen=True)
class Affiliation:
    """Where an author works."""

    institution: str | None = None
    location: str | None = None


@dataclass(frozen=True)
class Author:
    """One author; exactly one of them is the corresponding one."""

    lastname: str
    firstname: str
    email: str | None = None
    corresponding: bool = False
    affiliation: Affiliation = field(default_factory=Affiliation)


@dataclass(frozen=True)
class Description:
    """How the system works, for the challenge's statistics; None: not applicable."""

    input_sampling_rate: str | None = "16 kHz"
    data_augmentation: Words = None
    front_end: Words = None
    acoustic_features: Words = "log-mel energies"
    embeddings: Words = None
    machine_learning_method: Words = "CNN"
    aggregation_method: Words = "average"
    ensemble_method_subsystem_count: int | None = None
    decision_making: Words = None
    external_data_usage: Words = None
    development_data_usage: Words = None
    domain_adaptation_method: Words = None  # from 2021 on


@dataclass(frozen=True)
class ExternalDataset:
    """External data that the system was trained on."""

    name: str
    url: str | None = None


@dataclass(frozen=True)
class SubmissionMeta:
    """Everything in `<label>.meta.yaml`; `label` is `<Lastname>_<Institute>_task2_<n>`.

    results: {machine type: {metric: share or None}} on the development test set, metrics as in RESULT_KEYS.
    """

    label: str
    name: str
    abbreviation: str
    authors: list[Author]
    total_parameters: int
    results: Mapping[str, Mapping[str, float | None]]
    edition: Edition = "2020"
    description: Description = field(default_factory=Description)
    external_datasets: list[ExternalDataset] | None = None
    source_code: str | None = None  # None: not published


def make_meta(
    about: SubmissionConfig,
    results: Mapping[str, Mapping[str, float | None]],
    parameters: int,
    edition: Edition = "2020",
    **description: Any,
) -> SubmissionMeta:
    """The meta data of a recipe's system; `description`: fields of Description that differ from its defaults."""
    authors = [
        Author(a.lastname, a.firstname, a.email, a.corresponding, Affiliation(a.institute)) for a in about.authors
    ]
    return SubmissionMeta(
        about.label,
        about.name,
        about.abbreviation,
        authors,
        parameters,
        results,
        edition,
        Description(**description),
        source_code=about.source_code,
    )


def percent(share: float | None) -> float | None:
    """A result as the meta file has it."""
    return None if share is None else round(100 * share, DECIMALS)


def meta_yaml(meta: SubmissionMeta) -> str:
    """The text of the meta file."""
    plain = dataclasses.asdict(dataclasses.replace(meta, results={}))
    if meta.edition == "2020":
        del plain["description"]["domain_adaptation_method"]
    keys = RESULT_KEYS[meta.edition]
    results = {kind: {key: percent(of.get(name)) for name, key in keys.items()} for kind, of in meta.results.items()}
    content = {
        "submission": {key: plain[key] for key in ("label", "name", "abbreviation", "authors")},
        "system": {
            "description": plain["description"],
            "complexity": {"total_parameters": meta.total_parameters},
            "external_datasets": plain["external_datasets"],
            "source_code": meta.source_code,
        },
        "results": {"development_dataset": results},
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100_000)
