"""The meta file of a system: typed, and written as the YAML that the challenge reads."""

from dataclasses import dataclass, field, fields
from typing import Any

from common.run.errors import UserError
from common.run.submission.meta import MetaForm, SystemMeta, Words, meta_text

FORM = MetaForm(
    affiliation={name: name for name in ("institute", "abbreviation", "department", "location")},
    datasets=("name", "url", "total_audio_length"),
    optional={"email", "affiliation", "institute", "abbreviation", "department", "location"},
    one_corresponding=False,
)
# Names in YAML that cannot be names in Python.
_KEYS = {"post_processing": "post-processing", "macs": "MACS"}


@dataclass(frozen=True)
class Description:
    """How the system works, for the challenge's statistics. Optional fields that are None are left out."""

    input_sampling_rate: float = 16000  # Hz
    acoustic_features: Words = "log-mel energies"
    input: str | None = None  # e.g. "mono"
    data_augmentation: Words = None
    machine_learning_method: Words = None  # the classifier
    machine_learning_semi_supervised: Words = None
    ensemble_method_subsystem_count: int | None = None
    decision_making: str | None = None
    post_processing: Words = None
    segmentation_method: str | None = None
    pre_trained_models: Words = None
    subsets: Words = None  # parts of the development set used


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
class DevtestResults:
    """Results on the development test set, 0 to 1: PSDS1 on DESED, partial AUC (max FPR 0.1) on MAESTRO."""

    psds1: float
    mpauc: float


@dataclass(frozen=True)
class SubmissionMeta(SystemMeta):
    """Everything in `<label>.meta.yaml`; `label` is `<Lastname>_<Institute>_task4_<n>`."""

    complexity: Complexity
    results: DevtestResults
    description: Description = field(default_factory=Description)


def _given(part: Description | Complexity) -> dict[str, Any]:
    """The fields that are not None, by their names in the file."""
    values = {_KEYS.get(of.name, of.name): getattr(part, of.name) for of in fields(part)}
    return {key: value for key, value in values.items() if value is not None}


def meta_yaml(meta: SubmissionMeta) -> str:
    """The text of the meta file. UserError for a value with "#": the challenge's script would cut it."""
    description = {"acoustic_features": None, **_given(meta.description)}
    results = {
        "desed": {"PSDS1": float(meta.results.psds1)},
        "maestro": {"mPAUC": float(meta.results.mpauc)},
    }
    system = {"description": description, "complexity": _given(meta.complexity)}
    text = meta_text(meta, FORM, system, {"devtest": results})
    if cut := [line.strip() for line in text.splitlines() if "#" in line]:
        raise UserError(f"meta data: {cut[0]!r} has a '#', which starts a comment there; write it without")
    return text
