"""Editions of the challenge, and the meta file of a system in each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.run.submission.meta import ExternalDataset, MetaForm, SystemMeta, meta_text
from task6_retrieval.config import Config

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


def description_of(config: Config, members: int = 1) -> dict[str, Any]:
    """What the challenge wants to know of a recipe."""
    audio, augment, fused = config.model.audio, config.augment, config.model.uses_metadata
    heard = {"circular shift": augment.roll, "mel masks": augment.frequency_mask or augment.time_mask}
    heard |= {"SpecAugment": augment.time_stripes or augment.frequency_stripes, "patchout": any(audio.patchout)}
    read = {"EDA": augment.eda, "other wordings": config.data.variants_probability}
    distilled = bool(config.distill.teachers)
    return {
        "input_sampling_rate": 32000,  # Hz, of the packs
        "acoustic_features": "log-mel energies",
        "audio_modelling": audio.encoder,
        "text_modelling": config.model.text.encoder,
        "metadata": config.model.metadata if fused else None,
        "loss_function": "estimated correspondences" if distilled else "contrastive",
        "optimizer": "AdamW",
        "learning_rate": config.optimizer.lr,
        "weight_decay": config.optimizer.weight_decay,
        "gradient_clipping": config.trainer.gradient_clip_val,
        "audio_augmentation": [name for name, on in heard.items() if on] or None,
        "text_augmentation": [name for name, on in read.items() if on] or None,
        "ensemble_size": members,
        "training_data_audio_encoder": audio.checkpoint,
        "training_data_text_encoder": None if config.model.text.encoder == "small" else config.model.text.encoder,
        "training_data_retrieval": list(config.data.train),
    }


def datasets_of(config: Config) -> list[ExternalDataset]:
    """Data sets beside Clotho that a recipe trains on."""
    families = dict.fromkeys(name.partition("_")[0] for name in config.data.train)
    return [DATASETS[family] for family in families if family in DATASETS]


def meta_yaml(meta: SubmissionMeta) -> str:
    """The text of the meta file."""
    names = EDITIONS[meta.edition].results
    results = {name: round(meta.results[name.lower()], 6) for name in names}
    system = {"description": dict(meta.description), "complexity": {"total_parameters": meta.total_parameters}}
    return meta_text(meta, FORM, system, {"development_testing": results})
