"""The meta file of a system: typed, and written as the YAML that the challenge reads."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import yaml

from common.run.errors import UserError

# Names in YAML that cannot be names in Python.
_KEYS = {"post_processing": "post-processing", "macs": "MACS", "psds1": "PSDS1", "mpauc": "mPAUC"}


@dataclass(frozen=True)
class Affiliation:
    """Where an author works."""

    institute: str
    abbreviation: str | None = None
    department: str | None = None
    location: str | None = None


@dataclass(frozen=True)
class Author:
    """One author; at least one of them is the corresponding one."""

    lastname: str
    firstname: str
    email: str | None = None
    corresponding: bool = False
    affiliation: Affiliation | None = None


@dataclass(frozen=True)
class Description:
    """How the system works, for the challenge's statistics. Optional fields that are None are left out."""

    input_sampling_rate: float = 16000  # Hz
    acoustic_features: str | list[str] | None = "log-mel energies"
    input: str | None = None  # e.g. "mono"
    data_augmentation: str | list[str] | None = None
    machine_learning_method: str | list[str] | None = None  # the classifier
    machine_learning_semi_supervised: str | list[str] | None = None
    ensemble_method_subsystem_count: int | None = None
    decision_making: str | None = None
    post_processing: str | list[str] | None = None
    segmentation_method: str | None = None
    pre_trained_models: str | list[str] | None = None
    subsets: str | list[str] | None = None  # parts of the development set used


@dataclass(frozen=True)
class Complexity:
    """Size and cost. MACs for 10 s of audio, energies in kWh."""

    total_parameters: int
    macs: int | None = None
    training_time: str | None = None  # time and hardware, e.g. "6 h (1 A100 40 GB)"
    energy_training: float | None = None
    energy_test: float | None = None  # inference on the development test set
    energy_baseline: float | None = None  # ten epochs and inference of the baseline on the same hardware


@dataclass(frozen=True)
class ExternalDataset:
    """External audio that the system was trained on."""

    name: str
    url: str | None = None
    total_audio_length: float | None = None  # minutes


@dataclass(frozen=True)
class DevtestResults:
    """Results on the development test set, 0 to 1: PSDS1 on DESED, partial AUC (max FPR 0.1) on MAESTRO."""

    psds1: float
    mpauc: float


@dataclass(frozen=True)
class SubmissionMeta:
    """Everything in `<label>.meta.yaml`; `label` is `<Author>_<Institute>_task4_<n>`."""

    label: str
    name: str
    abbreviation: str
    authors: list[Author]
    complexity: Complexity
    results: DevtestResults
    description: Description = field(default_factory=Description)
    external_datasets: list[ExternalDataset] | None = None
    source_code: str | None = None  # None: not published


def _plain(value: Any) -> Any:
    """A dataclass as a dict in the order of its fields, without fields that are None; other values as they are."""
    if dataclasses.is_dataclass(value):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {_KEYS.get(name, name): _plain(item) for name, item in fields if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str) and "#" in value:
        # The challenge's script cuts every line at "#", even inside quotes.
        raise UserError(f"meta data: {value!r} has a '#', which starts a comment there; write it without")
    return value


def meta_yaml(meta: SubmissionMeta) -> str:
    """The text of the meta file. UserError for a value with "#" (the challenge's script would cut it)."""
    description = _plain(meta.description)
    description.setdefault("acoustic_features", None)
    system = {
        "description": description,
        "complexity": _plain(meta.complexity),
        "external_datasets": _plain(meta.external_datasets),
        "source_code": _plain(meta.source_code),
    }
    content = {
        "submission": {
            "label": _plain(meta.label),
            "name": _plain(meta.name),
            "abbreviation": _plain(meta.abbreviation),
            "authors": _plain(meta.authors),
        },
        "system": system,
        "results": {
            "devtest": {
                "desed": {"PSDS1": float(meta.results.psds1)},
                "maestro": {"mPAUC": float(meta.results.mpauc)},
            }
        },
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100_000)
