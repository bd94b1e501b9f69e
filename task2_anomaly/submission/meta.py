"""The meta file of a system: typed, and written as the YAML that the challenge reads."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from common.run.settings import SubmissionConfig
from common.run.submission.meta import MetaForm, SystemMeta, Words, identity, meta_text
from task2_anomaly.submission.editions import Edition

FORM = MetaForm(affiliation={"institute": "institution", "location": "location"}, datasets=("name", "url"))
# {metric of own results: its name in the meta file, in per cent there}
RESULT_KEYS: dict[Edition, dict[str, str]] = {
    "2020": {"auc": "averaged_auc", "pauc": "averaged_pauc"},
    "first-shot": {"auc_source": "auc_source", "auc_target": "auc_target", "pauc": "pauc"},
}
DECIMALS = 2  # of the results


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
class SubmissionMeta(SystemMeta):
    """Everything in `<label>.meta.yaml`; `label` is `<Lastname>_<Institute>_task2_<n>`.

    results: {machine type: {metric: share or None}} on the development test set, metrics as in RESULT_KEYS.
    """

    total_parameters: int
    results: Mapping[str, Mapping[str, float | None]]
    edition: Edition = "2020"
    description: Description = field(default_factory=Description)


def make_meta(
    about: SubmissionConfig,
    results: Mapping[str, Mapping[str, float | None]],
    parameters: int,
    edition: Edition = "2020",
    **description: Any,
) -> SubmissionMeta:
    """The meta data of a recipe's system; `description`: fields of Description that differ from its defaults."""
    return SubmissionMeta(
        **identity(about),
        total_parameters=parameters,
        results=results,
        edition=edition,
        description=Description(**description),
    )


def percent(share: float | None) -> float | None:
    """A result as the meta file has it."""
    return None if share is None else round(100 * share, DECIMALS)


def meta_yaml(meta: SubmissionMeta) -> str:
    """The text of the meta file."""
    description = asdict(meta.description)
    if meta.edition == "2020":
        del description["domain_adaptation_method"]
    system = {"description": description, "complexity": {"total_parameters": meta.total_parameters}}
    keys = RESULT_KEYS[meta.edition]
    results = {kind: {key: percent(of.get(name)) for name, key in keys.items()} for kind, of in meta.results.items()}
    return meta_text(meta, FORM, system, {"development_dataset": results})
