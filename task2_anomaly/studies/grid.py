"""The workshop's study of proxy sets: many small runs of one recipe, any subset of them, one table.

Each cell of the grid is a run folder of its own below the recipe's, so that a stopped grid goes on where it was.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from common.audio.packs import open_pack
from common.run.errors import UserError, did_you_mean
from common.run.files import write_rows
from common.run.progress import progress
from common.run.results.intervals import MeanSpread, mean_spread
from common.run.results.tables import print_table
from common.run.training import claim, locked
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.sets import is_toy, machines_of, proxy_packs
from task2_anomaly.evaluation.evaluate import evaluate
from task2_anomaly.evaluation.truth import truths_of
from task2_anomaly.inference.predict import predict_machine
from task2_anomaly.inference.scores import score_file, scores_folder
from task2_anomaly.metrics import arithmetic_mean
from task2_anomaly.training.train import compute_features, default_jobs, each, train_machine

GRID = "grid"  # folder beside the recipe's runs
SEEDS = (181096, 130394, 311491)
PROXY_SETS = ("same_mic_same_type", "same_mic_all_types", "same_mic_different_type", "all", "different_mic")
OUTSIDE = ("audioset", "scenes")
ALL = "same_mic_all_types"  # the set of the studies of amount and blur
AMOUNTS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16392)
BLURS = (None, 0.125, 0.177, 0.25, 0.354, 0.5, 0.707, 1.0, 2.0, 4.0, 8.0)


class Cell(NamedTuple):
    """One variation of the recipe: a name and the settings it changes."""

    study: str
    name: str
    data: dict[str, Any]
    kind: Literal["ae_workshop"] | None = None


def cells(studies: Sequence[str], amounts: Sequence[int] = AMOUNTS) -> list[Cell]:
    """The variations of the named studies: proxies, outside, amounts, blurs, autoencoder. Raises UserError."""
    table = {
        "proxies": [Cell("proxies", name, {"proxies": name}) for name in PROXY_SETS],
        "outside": [Cell("outside", name, {"proxies": name}) for name in OUTSIDE],
        "amounts": [Cell("amounts", f"{n} clips", {"proxies": ALL, "proxy_clips": n}) for n in amounts],
        "blurs": [
            Cell("blurs", "none" if s is None else f"sigma {s:g}", {"proxies": ALL, "proxy_blur": s}) for s in BLURS
        ],
        "autoencoder": [Cell("autoencoder", "ae_workshop", {"batch": 512}, "ae_workshop")],
    }
    for study in studies:
        if study not in table:
            raise UserError(f"--studies: unknown study {study!r}{did_you_mean(study, table)}")
    return [cell for study in studies for cell in table[study]]


def run_of(run: Run, cell: Cell, seed: int) -> Run:
    """A cell's run with one seed."""
    config: Config = run.config
    config = dataclasses.replace(config, seed=seed, data=dataclasses.replace(config.data, **cell.data))
    if cell.kind:
        optimizer = dataclasses.replace(config.optimizer, epoch_factor=1.0)
        model = dataclasses.replace(config.model, kind=cell.kind, arguments={})
        config = dataclasses.replace(config, model=model, optimizer=optimizer)
    folder = run.folder.parent / GRID / cell.study / cell.name.replace(" ", "_") / f"seed{seed}"
    return dataclasses.replace(run, number=1, folder=folder, config=config)


def run_grid(run: Run, variations: Sequence[Cell], seeds: Sequence[int], jobs: int | None) -> Mapping[str, Any]:
    """Train, score and evaluate every variation with every seed; prints the table and writes it beside the runs.

    Machines are the recipe's that have labelled development test clips. Raises UserError where there are none, and
    where a training fails (the others go on). jobs: trainings at once, None: as many as `train` has.
    """
    if not run.config.model.classifies:
        raise UserError(f"grid: model.kind is {run.config.model.kind}, the study is one of classifiers")
    chosen = set(machines_of(run.config.data))
    truths = [truth for truth in truths_of(run.config, "dev_test") if truth.machine in chosen]
    if not truths:
        raise UserError("grid: no machine with labelled development test clips in this data set")
    machines = [truth.machine for truth in truths]
    cells_run = [(cell, run_of(run, cell, seed)) for cell in _possible(run, variations, machines) for seed in seeds]
    _train_and_score(run.folder.parent / GRID, [own for _, own in cells_run], machines, jobs or default_jobs())
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for cell, own in cells_run:
        folder = scores_folder(own, "dev_test")
        auc, pauc = evaluate(folder, truths).overall()
        if auc is None or pauc is None:
            raise UserError(f"{folder}: AUC is not defined, a machine has no normal or no anomalous test clips")
        found.setdefault((cell.study, cell.name), []).append((auc, pauc))
    return _report(run, found, len(machines))


def _possible(run: Run, variations: Sequence[Cell], machines: Sequence[Machine]) -> list[Cell]:
    """Those whose proxy sets have as many clips as they ask for; the others are named."""
    kept = []
    for cell in variations:
        data = dataclasses.replace(run.config.data, **cell.data)
        wanted = data.proxy_clips
        there = wanted and min(sum(len(open_pack(p)) for p in proxy_packs(data, machine)) for machine in machines)
        if wanted and there < wanted:
            print(f"{cell.study}, {cell.name}: left out, the smallest proxy set has {there} clips")
        else:
            kept.append(cell)
    if not kept:
        raise UserError("grid: no variation that this data set is large enough for")
    return kept


def _train_and_score(out: Path, runs: Sequence[Run], machines: Sequence[Machine], jobs: int) -> None:
    """The same worker processes for all networks of the grid; those with a score file are done."""
    with locked(out):
        for own in runs:
            claim(own)
        compute_features(runs, machines)
        items = [(own, machine) for own in runs for machine in machines]
        ending = [item for item in items if not (scores_folder(item[0], "dev_test") / score_file(item[1])).is_file()]
        failed = []
        with progress("grid", len(items), "networks", done=len(items) - len(ending)) as advance:
            for (own, machine), problem in each(train_and_score, ending, jobs):
                advance(note=f"{own.folder.parent.name} {machine}")
                if problem:
                    failed.append(f"{own.folder}, {machine}: {problem}")
    if failed:
        raise UserError(f"{failed[0]} ({len(failed)} of {len(items)} networks failed)")


def train_and_score(run: Run, machine: Machine) -> None:
    """One network of the grid."""
    train_machine(run, machine)
    predict_machine(run, machine)


def _report(run: Run, found: Mapping[tuple[str, str], list[tuple[float, float]]], machines: int) -> Mapping[str, Any]:
    from task2_anomaly.evaluation.plots import proxy_bars

    out: Path = run.folder.parent / GRID
    rows, table = [], []
    for (study, name), values in found.items():
        means = [mean_spread([v[k] for v in values]) for k in (0, 1)]
        table.append([study, name, len(values), *(x for m in means for x in (m.mean, m.spread))])
        rows.append([study, name, str(len(values)), *(_shown(m) for m in means)])
    write_rows(out / "grid.csv", ("study", "variation", "seeds", "auc", "auc_sd", "pauc", "pauc_sd"), table)
    caveat = "toy data, not comparable; " if is_toy(run.config.data) else ""
    plural = "s" if machines > 1 else ""
    note = f"{caveat}mean over {machines} development machine{plural} (IDs, then types); spread over seeds"
    print_table("grid", ["study", "variation", "seeds", "AUC", "pAUC"], rows, note=note)
    for study in dict.fromkeys(study for study, _ in found):
        bars = {name: [auc for auc, _ in values] for (of, name), values in found.items() if of == study}
        proxy_bars(out / f"{study}.png", bars, note=note, about=f"recipe {run.recipe}")
    by_name = {f"{study}/{name}": arithmetic_mean([auc for auc, _ in v]) for (study, name), v in found.items()}
    return {"grid": str(out / "grid.csv"), "cells": len(found), "auc": by_name, "machines": machines}


def _shown(value: MeanSpread) -> str:
    return f"{value.mean:.3f}" if value.spread is None else f"{value.mean:.3f} ± {value.spread:.3f}"
