"""The meta file of a system: typed, and written as the YAML that the challenge reads."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from common.run.settings import SubmissionConfig
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICES, SCENES

Words = str | list[str] | None


@dataclass(frozen=True)
class Affiliation:
    """Where an author works."""

    abbreviation: str | None = None
    institute: str | None = None
    department: str | None = None
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

    input_sampling_rate: str | None = "32kHz"
    acoustic_features: Words = "log-mel energies"
    data_augmentation: Words = None
    machine_learning_method: Words = "CNN"
    external_data_usage: Words = None
    complexity_management: Words = None
    pipeline: Words = "training"
    framework: Words = "pytorch"
    split_adaptations: Words = None  # settings that differ between the splits
    system_adaptations: Words = None  # what differs between a team's systems


@dataclass(frozen=True)
class Complexity:
    """Size and cost of one network: bytes as deployed, parameters, MACs of a clip as the challenge counts them."""

    total_model_size: int
    total_parameters: int
    macs: int


@dataclass(frozen=True)
class ExternalDataset:
    """External audio that the system was trained on."""

    name: str
    url: str | None = None
    total_audio_length: float | None = None  # minutes


@dataclass(frozen=True)
class SubmissionMeta:
    """Everything in `<label>.meta.yaml`; `label` is `<Lastname>_<Institute>_task1_<n>`.

    results: {split: `scene_metrics`} on the development test set; a split without results has nulls.
    """

    label: str
    name: str
    abbreviation: str
    authors: list[Author]
    complexity: Complexity
    results: Mapping[int, Mapping[str, Any]]
    description: Description = field(default_factory=Description)
    external_datasets: list[ExternalDataset] | None = None
    source_code: str | None = None  # None: not published


def make_meta(
    about: SubmissionConfig,
    results: Mapping[int, Mapping[str, Any]],
    parameters: int,
    size_bytes: int,
    macs: int,
    **description: Any,
) -> SubmissionMeta:
    """The meta data of a recipe's system; `description`: fields of Description that differ from its defaults."""
    institute = about.label.split("_")[1] if "_" in about.label else None
    authors = [
        Author(a.lastname, a.firstname, a.email, a.corresponding, Affiliation(institute, a.institute))
        for a in about.authors
    ]
    return SubmissionMeta(
        about.label,
        about.name,
        about.abbreviation,
        authors,
        Complexity(size_bytes, parameters, macs),
        results,
        Description(**description),
        source_code=about.source_code,
    )


def results_block(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """One split's results as the challenge wants them: log loss and accuracy (%) overall, by scene, by device.

    The overall accuracy is the mean of the scenes', the challenge's macro accuracy. Without metrics: nulls.
    """

    def part(of: Mapping[str, Any] | None, accuracy: str = "accuracy") -> dict[str, float | None]:
        loss, share = (None, None) if of is None else (of["log_loss"], of[accuracy])
        return {
            "logloss": None if loss is None else round(loss, 5),
            "accuracy": None if share is None else round(100 * share, 4),
        }

    return {
        "overall": part(metrics, "macro_accuracy"),
        "class_wise": {scene: part(metrics and metrics["classes"][scene]) for scene in SCENES},
        "device_wise": {device: part(metrics and metrics["devices"][device]) for device in DEVICES},
    }


def meta_yaml(meta: SubmissionMeta) -> str:
    """The text of the meta file."""
    plain = dataclasses.asdict(dataclasses.replace(meta, results={}))
    for author in plain["authors"]:
        if author["affiliation"]["department"] is None:  # the only field that may be absent
            del author["affiliation"]["department"]
    content = {
        "submission": {key: plain[key] for key in ("label", "name", "abbreviation", "authors")},
        "system": {key: plain[key] for key in ("description", "complexity", "external_datasets", "source_code")},
        "results": {
            "development_dataset": {f"split_{split}": results_block(meta.results.get(split)) for split in SPLITS}
        },
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100_000)
