"""The `pretrain_psds` fixture: PSDS1 and ROC areas over many classes, events and figures of HEAR."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from task4_sed.data.annotations import Event
from task4_sed.data.audioset import FRAME_SECONDS, StrongLabels
from task4_sed.data.labels import EventTable
from task4_sed.metrics.filters import running_median
from task4_sed.metrics.hear import hear_events, onset_f1, segment_error_rate
from task4_sed.metrics.psds import PsdsParameters
from task4_sed.metrics.streamed import StreamedScores, streamed_metrics
from task4_sed.metrics.truth import Truth, truth_arrays

VALUE, EVENT = {"max": 1e-6}, {"max": 1e-9}
BATCH = 16  # of the published validation


def truth_of(io: Any) -> Truth:
    names, files, scored = io["classes/eval"].tolist(), io["files"].tolist(), io["classes/scored"].tolist()
    events: dict[str, list[Event]] = {}
    for clip, onset, offset, label in io["events"]:
        events.setdefault(files[int(clip)], []).append(Event(onset, offset, names[int(label)]))
    durations = dict(zip(files, io["durations"].tolist(), strict=True))
    kept = sorted(name for name, of in events.items() if any(event.label in scored for event in of))
    return truth_arrays(events, {name: durations[name] for name in kept}, scored)


def parameters(folder: Path) -> tuple[PsdsParameters, float]:
    given = json.loads((folder / "manifest.json").read_text())["settings"]
    names = ("dtc", "gtc", "cttc", "alpha_ct", "alpha_st")
    limit = given["max_false_positives_per_hour"]
    return PsdsParameters(**{name: given[name] for name in names}, max_efpr=limit), given["max_fpr"]


def psds(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    width = int(group.removeprefix("median"))
    logits = io["logits"].transpose(0, 2, 1)
    edges = np.arange(logits.shape[1] + 1) * FRAME_SECONDS
    clips, classes = tuple(io["files"].tolist()), tuple(io["classes/train"].tolist())
    scores, truth = StreamedScores(clips, classes, edges, lambda a, b: logits[a:b]), truth_of(io)
    chosen, max_fpr = parameters(folder)
    first = running_median(logits[0].T.astype(np.float32), width)
    yield "scores of the first clip", first.T, io[f"{group}/scores_of_first_clip"], EVENT
    yield "scored clips", list(truth.clips), io["scored_files"].tolist(), {}
    yield "hours", truth.durations.sum() / 3600, io["scored_hours"], EVENT
    found = streamed_metrics(scores, truth, chosen, width, max_fpr, weights=[np.ones(len(truth.clips))])
    yield "psds1", found.psds.value, io[f"{group}/psds1"], VALUE
    yield "macro", found.psds.mean_of_classes, io[f"{group}/psds1_macro"], VALUE
    yield "of each class", list(found.psds.single_class.values()), io[f"{group}/psds1_of_class"], VALUE
    both = np.stack((io[f"{group}/psds1_macro"], io[f"{group}/psds1"]))
    yield "macro and psds1 of a weighting", found.draws[0], both, VALUE
    yield "ROC areas", list(found.auroc.values()), io[f"{group}/pauroc_of_class"], VALUE
    yield "mean ROC area", np.mean(list(found.auroc.values())), io[f"{group}/pauroc_mean"], VALUE
    plain = streamed_metrics(scores, truth, replace(chosen, alpha_st=0.0), width).psds.value
    yield "without the variance penalty", plain, io[f"{group}/psds1_alpha_st_0"], VALUE
    key = f"{group}/psds1_macro_if_scores_end_with_the_clip"
    ended = streamed_metrics(scores, truth, chosen, width, end_with_clip=True)
    yield "scores end with the clip", ended.psds.mean_of_classes, io[key], VALUE


def validation_loss(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    names, classes = io["classes/eval"].tolist(), io["classes/train"].tolist()
    logits = torch.from_numpy(io["logits"].astype(np.float32))
    events: list[list[Event]] = [[] for _ in logits]
    for clip, onset, offset, label in io["events"]:
        if names[int(label)] in classes:
            events[int(clip)].append(Event(onset, offset, names[int(label)]))
    labels = StrongLabels(tuple(io["files"].tolist()), tuple(classes), EventTable.build(events, classes))
    targets = torch.from_numpy(labels.targets(np.arange(len(events))))
    pairs = zip(logits.split(BATCH), targets.split(BATCH), strict=True)
    losses = [F.binary_cross_entropy_with_logits(*pair).item() for pair in pairs]
    yield "losses", losses, io["validation_loss_per_batch"], VALUE


def rows(events: Any, files: list[str], labels: list[str]) -> np.ndarray:
    found = [
        (files.index(file), on * 1000, off * 1000, labels.index(name))
        for file, of in events.items()
        for name, listed in of.items()
        for on, off in listed
    ]
    return np.array(sorted(found), float).reshape(-1, 4)


def grouped(table: np.ndarray, files: list[str], labels: list[str]) -> dict[str, dict[str, list]]:
    events: dict[str, dict[str, list]] = {file: {} for file in files}
    for file, on, off, label in table:
        events[files[int(file)]].setdefault(labels[int(label)], []).append((on / 1000, off / 1000))
    return events


def office(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    _, mode, settings = group.split("/")
    median, shortest = map(float, re.findall(r"[\d.]+", settings))
    files, labels = io["office/files"].tolist(), io["office/labels"].tolist()
    logits = io["office/logits"].astype(np.float64)
    scores = logits if mode == "logits" else 1 / (1 + np.exp(-logits))
    times = (np.arange(scores.shape[-1]) + 0.5) * FRAME_SECONDS * 1000
    lists = [hear_events(of_file, times, median, shortest) for of_file in scores]
    found = {file: dict(zip(labels, of, strict=True)) for file, of in zip(files, lists, strict=True)}
    truth = grouped(io["office/targets"], files, labels)
    expected = np.array(sorted(map(tuple, io[f"{group}/events"])))
    yield "events", rows(found, files, labels), expected, EVENT
    for name in io.files:
        if name.startswith(f"{group}/onset_"):
            collar = float(name.split("onset_")[1].split("ms")[0]) / 1000
            yield name, onset_f1(found, truth, collar), io[name], EVENT
    yield "error rate", segment_error_rate(found, truth), io[f"{group}/segment_error_rate"], EVENT


def groups(io: Any) -> list[str]:
    ends = {"/psds1_macro": "", "/segment_error_rate": ""}
    found = [name.removesuffix(end) for end in ends for name in io.files if name.endswith(end)]
    return [*found, "validation_loss"]


def check(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    known = {"office": office, "validation_loss": validation_loss}
    return known.get(group.split("/")[0], psds)(folder, group, io)


CHECKERS = {"pretrain_psds": (groups, check)}
