"""The meta file of a system: typed, and written as the YAML that the challenge reads."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from common.run.settings import SubmissionConfig
from common.run.submission.meta import MetaForm, SystemMeta, Words, identity, meta_text
from task1_asc.config import SPLITS
from task1_asc.data.classes import DEVICES, SCENES

FORM = MetaForm(
    affiliation={name: name for name in ("abbreviation", "institute", "department", "location")},
    datasets=("name", "url", "total_audio_length"),
    optional={"department"},
)


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
class SubmissionMeta(SystemMeta):
    """Everything in `<label>.meta.yaml`; `label` is `<Lastname>_<Institute>_task1_<n>`.

    results: {split: `scene_metrics`} on the development test set; a split without results has nulls.
    """

    complexity: Complexity
    results: Mapping[int, Mapping[str, Any]]
    description: Description = field(default_factory=Description)


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
    return SubmissionMeta(
        **identity(about, institute),
        complexity=Complexity(size_bytes, parameters, macs),
        results=results,
        description=Description(**description),
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
    system = {"description": asdict(meta.description), "complexity": asdict(meta.complexity)}
    results = {f"split_{split}": results_block(meta.results.get(split)) for split in SPLITS}
    return meta_text(meta, FORM, system, {"development_dataset": results})
