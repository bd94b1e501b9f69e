"""Editions of the challenge, and the meta file of a system in each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.run.submission.meta import ExternalDataset, MetaForm, SystemMeta, meta_text
from task6_retrieval.config import SAMPLE_RATE, Config

FORM = MetaForm(
    affiliation={name: name for name in ("abbreviation", "institute", "department", "location")},
    datasets=("name", "url", "type"),
)
SYSTEMS = 4  # of a team


class Edition(NamedTuple):
    """What differs between the years. task: in labels; header: of the ten columns, empty where all scores are sent."""

    task: str
    header: str
    results: tuple[str, ...]  # of the meta file, on the development test set


_RESULTS = ("R@1", "R@5", "R@10", "mAP@10")
EDITIONS = {
    2022: Edition("task6b", "file_name_{}", _RESULTS),
    2023: Edition("task6b", "file_name_{}", _RESULTS),
    2024: Edition("task8", "file_name_{}", _RESULTS),
    2025: Edition("task6", "", (*_RESULTS, "mAP@16")),
}
DATASETS = {
    "audiocaps": ExternalDataset("AudioCaps", "https://audiocaps.github.io", type="audio and captions"),
    "wavcaps": ExternalDataset("WavCaps", "https://huggingface.co/datasets/cvssp/WavCaps", type="audio and captions"),
}


def edition_of(label: str) -> int:
    """The newest edition whose labels have the task of this one; a label of no edition: the newest of all."""
    parts = label.split("_")
    return max((year for year, of in EDITIONS.items() if of.task in parts), default=max(EDITIONS))


@dataclass(frozen=True)
class SubmissionMeta(SystemMeta):
    """Everything in `<label>.meta.yaml`; results: shares 0 to 1 under the names of metrics here ("map@10", ...)."""

    edition: int
    description: Mapping[str, Any]
    total_parameters: int
    results: Mapping[str, float]


def description_of(configs: Sequence[Config]) -> dict[str, Any]:
    """What the challenge wants to know of a system, by the recipes of its trainings; numbers are those of the first."""
    first = configs[0]
    audio, text = [of.model.audio for of in configs], [of.model.text.encoder for of in configs]
    augment, fused = [of.augment for of in configs], [of.model.metadata for of in configs if of.model.uses_metadata]
    heard = {
        "circular shift": any(of.roll for of in augment),
        "mel masks": any(of.frequency_mask or of.time_mask for of in augment),
        "SpecAugment": any(of.time_stripes or of.frequency_stripes for of in augment),
        "patchout": any(sum(of.patchout) for of in audio),
    }
    read = {
        "EDA": any(of.eda for of in augment),
        "other wordings": any(of.data.variants_probability for of in configs),
    }
    losses = ("estimated correspondences" if of.distill.teachers else "contrastive" for of in configs)
    return {
        "input_sampling_rate": SAMPLE_RATE,
        "acoustic_features": "log-mel energies",
        "audio_modelling": ", ".join(dict.fromkeys(of.encoder for of in audio)),
        "text_modelling": ", ".join(dict.fromkeys(text)),
        "metadata": fused[0] if fused else None,
        "loss_function": _each(losses),
        "optimizer": "AdamW",
        "learning_rate": first.optimizer.lr,
        "weight_decay": first.optimizer.weight_decay,
        "gradient_clipping": first.trainer.gradient_clip_val,
        "audio_augmentation": [name for name, on in heard.items() if on] or None,
        "text_augmentation": [name for name, on in read.items() if on] or None,
        "ensemble_size": len(configs),
        "training_data_audio_encoder": _each(of.checkpoint for of in audio if of.checkpoint),
        "training_data_text_encoder": _each(encoder for encoder in text if encoder != "small"),
        "training_data_retrieval": _each(name for of in configs for name in of.data.train),
    }


def _each(names: Iterable[str]) -> list[str] | None:
    return list(dict.fromkeys(names)) or None


def datasets_of(configs: Sequence[Config]) -> list[ExternalDataset] | None:
    """Data sets beside Clotho that the trainings of a system learn from."""
    families = dict.fromkeys(name.partition("_")[0] for of in configs for name in of.data.train)
    return [DATASETS[family] for family in families if family in DATASETS] or None


def meta_yaml(meta: SubmissionMeta) -> str:
    """The text of the meta file."""
    names = EDITIONS[meta.edition].results
    results = {name: round(meta.results[name.lower()], 6) for name in names}
    system = {"description": dict(meta.description), "complexity": {"total_parameters": meta.total_parameters}}
    return meta_text(meta, FORM, system, {"development_testing": results})
