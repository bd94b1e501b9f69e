"""Metrics of scene classification: arrays in, numbers out. Figures are shares in [0, 1], losses in nats.

    Parts(scenes, devices, groups): the names of what has figures of its own
    top_scene(probabilities (clips, scenes)) -> (clips,)
    clip_losses(probabilities (clips, scenes), labels (clips,)) -> (clips,)
    scene_metrics(parts, labels, predicted, losses=None, devices=None) -> dict, from clip_sums -> figures -> tree
    official_keys(metrics, prefix="test") -> {"test/macro_avg_acc": ..., "test/acc.airport": ..., ...}
    rank_score({split: macro accuracy | None}) -> float | None
    over_seeds([metrics, ...]) -> {path: MeanSpread}, with paths of flat(metrics): "classes/airport/accuracy"
    confusion(labels, predicted, scenes) -> (scenes, scenes)

Nothing is NaN: a scene or device without clips has None. Source: DCASE 2024 Task 1, evaluation and ranking (macro
accuracy, log loss, mean over the splits), and its baseline's log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.run.results.intervals import MeanSpread, mean_spread
from task1_asc.config import SPLITS

# A probability of 0 for the true scene (half precision rounds to it) would make a mean infinite; 36.04 nats instead.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Parts:
    """The sets of clips that have figures of their own: those of a scene, a device, a group of devices."""

    scenes: Sequence[str]
    devices: Sequence[str]
    groups: Mapping[str, Sequence[str]]

    def names(self) -> list[tuple[str, str]]:
        """Kind and name of each, after that of all clips."""
        named = {"all": ["all"], "classes": self.scenes, "devices": self.devices, "groups": self.groups}
        return [(kind, name) for kind, names in named.items() for name in names]


def top_scene(probabilities: np.ndarray) -> np.ndarray:
    """The likeliest scene of each clip, (clips, scenes) -> (clips,) int64; ties go to the lowest index."""
    return np.argmax(probabilities, axis=1)


def clip_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log loss of each clip, -ln p(true scene): (clips, scenes), (clips,) -> (clips,) float64."""
    true = np.asarray(probabilities, dtype=np.float64)[np.arange(len(labels)), labels]
    return -np.log(np.maximum(true, SMALLEST_PROBABILITY))


def clip_sums(
    parts: Parts,
    labels: np.ndarray,
    predicted: np.ndarray,
    losses: np.ndarray | None = None,
    devices: np.ndarray | None = None,
) -> np.ndarray:
    """What every clip adds to every part of the figures: (clips, parts, 3) float64: 1, correct, loss.

    Arguments as of `scene_metrics`. Any weighted sum over clips goes to `figures` (bootstrap).
    """
    devices = np.full(len(labels), -1) if devices is None else devices
    member = [np.ones(len(labels), dtype=bool)]
    member += [labels == index for index in range(len(parts.scenes))]
    member += [devices == index for index in range(len(parts.devices))]
    member += [np.isin(devices, [parts.devices.index(device) for device in of]) for of in parts.groups.values()]
    losses = np.full(len(labels), np.nan) if losses is None else losses
    of_clip = np.stack((np.ones(len(labels)), labels == predicted, losses), axis=1)
    return np.where(np.stack(member, axis=1)[:, :, None], of_clip[:, None, :], 0.0)


def figures(sums: np.ndarray, scenes: int) -> np.ndarray:
    """Sums over clips (parts, 3) -> (1 + 2 * parts,): macro accuracy, each part's accuracy and log loss.

    NaN where there is no clip. The macro accuracy is the mean over the scenes that have clips.
    """
    clips = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
    accuracy, loss = sums[:, 1] / clips, sums[:, 2] / clips
    of_scenes = accuracy[1 : 1 + scenes]
    there = ~np.isnan(of_scenes)
    macro = of_scenes[there].mean() if there.any() else np.nan
    return np.concatenate(([macro], accuracy, loss))


def tree(values: Sequence[Any], parts: Parts) -> dict[str, Any]:
    """The numbers of `figures`, or anything of that order, by name (`scene_metrics` without clips)."""
    names = parts.names()
    accuracy, loss = values[1 : 1 + len(names)], values[1 + len(names) :]
    of_parts = [{"accuracy": a, "log_loss": b} for a, b in zip(accuracy, loss, strict=True)]
    named: dict[str, Any] = {"macro_accuracy": values[0], **of_parts[0]}
    for (kind, name), part in zip(names[1:], of_parts[1:], strict=True):
        named.setdefault(kind, {})[name] = part
    return named


def scene_metrics(
    parts: Parts,
    labels: np.ndarray,
    predicted: np.ndarray,
    losses: np.ndarray | None = None,
    devices: np.ndarray | None = None,
) -> dict[str, Any]:
    """All figures of one system over a set of clips.

    labels, predicted: (clips,) indices of scenes; losses: (clips,) from `clip_losses`, None: not known; devices:
    (clips,) indices of devices, -1 for any other device, None: not known. Returns {"macro_accuracy", "accuracy",
    "log_loss", "clips", "classes": {scene: part}, "devices": {device: part}, "groups": {group: part}} with part =
    {"accuracy", "log_loss", "clips"}. The macro accuracy, by which the challenge ranks, is the mean over the scenes
    of a scene's accuracy; a group's figures are those of all its clips together, not a mean of devices. Source: DCASE
    2024 Task 1, "Evaluation".
    """
    sums = clip_sums(parts, labels, predicted, losses, devices).sum(axis=0)
    values = figures(sums, len(parts.scenes)).tolist()
    metrics = tree([None if np.isnan(value) else value for value in values], parts)
    metrics["clips"] = len(labels)
    for (kind, name), clips in zip(parts.names()[1:], sums[1:, 0], strict=True):
        metrics[kind][name]["clips"] = int(clips)
    return metrics


def official_keys(metrics: Mapping[str, Any], prefix: str = "test") -> dict[str, Any]:
    """`scene_metrics` under the names of the baseline's log: `test/macro_avg_acc`, `test/acc.airport`, ..."""
    keys = {"acc": metrics["accuracy"], "loss": metrics["log_loss"], "macro_avg_acc": metrics["macro_accuracy"]}
    for name, part in (metrics["classes"] | metrics["devices"]).items():
        keys |= {f"acc.{name}": part["accuracy"], f"loss.{name}": part["log_loss"], f"cnt.{name}": part["clips"]}
    for name, part in metrics["groups"].items():
        keys |= {f"acc.{name}": part["accuracy"], f"lloss.{name}": part["log_loss"], f"count.{name}": part["clips"]}
    return {f"{prefix}/{key}": value for key, value in keys.items()}


def rank_score(macro_accuracies: Mapping[int, float | None]) -> float | None:
    """Mean of the five splits' macro accuracies, the ranking of DCASE 2024 Task 1; None where one is missing."""
    values = [macro_accuracies.get(split) for split in SPLITS]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(SPLITS) else None


def flat(metrics: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A tree of figures by path: {"macro_accuracy": ..., "classes/airport/accuracy": ..., ...}."""
    paths: dict[str, Any] = {}
    for name, value in metrics.items():
        paths |= flat(value, f"{above}{name}/") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return paths


def over_seeds(metrics: Sequence[Mapping[str, Any]]) -> dict[str, MeanSpread]:
    """Mean and sample standard deviation over independent runs, by path; what is None in any run is left out."""
    runs = [flat(of_run) for of_run in metrics]
    known = [path for path in runs[0] if all(run.get(path) is not None for run in runs)]
    return {path: mean_spread([run[path] for run in runs]) for path in known}


def confusion(labels: np.ndarray, predicted: np.ndarray, scenes: int) -> np.ndarray:
    """Clips of each scene (rows) that were taken for each scene (columns): (scenes, scenes) int64."""
    return np.bincount(labels * scenes + predicted, minlength=scenes**2).reshape(scenes, scenes)
