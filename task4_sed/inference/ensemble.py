"""Systems of several runs: the mean of their stored logits, and the trainings that they come of."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import alone, existing_file
from common.run.results.ensembles import members, members_of, record_ensemble, trained_run
from common.run.results.listing import read_settings
from common.run.results.store import CONFIG, record, recorded
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.hdf5 import open_hdf5, texts
from task4_sed.data.pseudo import average
from task4_sed.inference.networks import OTHER, check_network

LOGITS = "logits.h5"  # of training clips, in a run's folder


def pseudo_labels(runs: Sequence[Run], names: Sequence[str], out: Path) -> Mapping[str, Any]:
    """Write the mean of the logits of runs (of recipes, folders) and files to `out`, in half precision.

    runs: the command's, whose numbers count for each recipe. Raises UserError, and writes nothing then.
    """
    if not names:
        raise UserError("pseudo_labels: no recipe, run folder or file of logits named, whose mean is asked for")
    files, made = [], list[str]()
    for name in names:
        if Path(name).is_file() and Path(name).suffix not in (".yaml", ".yml"):
            files.append(Path(name))
            made += _makers(Path(name))
            continue
        for folder in dict.fromkeys(trained_run(run.task, name, run.number).folder for run in runs):
            files.append(existing_file(folder / LOGITS, "logits of training clips (`predict --logits` makes them)"))
            made.append(str(folder))
    if len({file.resolve() for file in files}) < len(files):
        raise UserError("pseudo_labels: a run is named twice")
    clips = average(files, out, np.float16, list(dict.fromkeys(made)))
    print(f"{out}: mean logits of {len(files)} run{'s' if len(files) > 1 else ''}, {clips:,} clips")
    return {"out": str(out), "files": [str(file) for file in files], "clips": clips}


def _makers(path: Path) -> list[str]:
    """The runs that a file of logits comes of; itself where it does not say so, or is gone."""
    if not path.is_file():
        return [str(path)]
    with open_hdf5(path, "stored logits") as file:
        return texts(file, "runs") if "runs" in file else [str(path)]


def join(run: Run, names: Sequence[str]) -> Run:
    """Make `run.folder` the ensemble of the runs of its number of some recipes or folders: as a run that predicted.

    scores/<set>.h5: mean logits of the test, tuning and submission sets; config.yaml: the settings of `run`, by which
    it is evaluated; results.json: members, energy of everything that they come of. Raises UserError.
    """
    joined, config = members(run, names), run.config
    for member in joined:
        if member.config.system is not config.system:
            raise UserError(f"--ensemble: {member.folder} has other classes than recipe {run.recipe}")
        check_network(member.folder, config.postprocess.network)
    sets: dict[str, Any] = config.system.does("ensembled")(config)
    found = [[_scores(member.folder, name) for member in joined] for name in sets]
    run = replace(run, recipe=run.folder.parent.name)
    with alone(run.folder, "ensemble", run.folder):
        out = run.folder / "scores"
        clips = {
            name: average(files, out / f"{name}.h5", dtype)
            for (name, dtype), files in zip(sets.items(), found, strict=True)
        }
        _join_other(config, joined, out)
        folders = [member.folder for member in joined]
        kwh = sum((recorded(folder, "predict") or {}).get("kwh", 0.0) for folder in folders)
        record(run.folder, "predict", {"network": config.postprocess.network, "clips": clips, "kwh": kwh})
        about = {"data": made_of(root_of(config.data)), "kwh": training_kwh(*folders)}
        record_ensemble(run, joined, about)
    return run


def ensembled(config: Config) -> dict[str, Any]:
    """Files of scores whose mean makes an ensemble: {data set: type of the numbers}."""
    submission = [config.submission_set] if config.submission_set else []
    return dict.fromkeys([*config.test_sets, *config.postprocess.tune_on, *submission], np.float32)


def _scores(member: Path, name: str) -> Path:
    return existing_file(member / "scores" / f"{name}.h5", "scores (`predict` makes them)")


def _join_other(config: Config, joined: Sequence[Run], out: Path) -> None:
    """The same of the network that is not submitted, to compare with, where all members have its test scores."""
    other = OTHER[config.postprocess.network]
    for name in config.test_sets:
        files = [member.folder / "scores" / other / f"{name}.h5" for member in joined]
        if all(file.is_file() for file in files):
            average(files, out / other / f"{name}.h5", np.float32)
        else:
            (out / other / f"{name}.h5").unlink(missing_ok=True)


def steps(folders: Sequence[Path]) -> list[Path]:
    """All trainings that runs come of, each once, after those that it needs; they are the last.

    Of an ensemble its members, of a training where it started and who made its pseudo labels. What is not a run here
    (a published checkpoint) is named on the screen: nothing is known of its energy.
    """
    found: dict[Path, None] = {}

    def visit(folder: Path) -> None:
        if not (folder / CONFIG).is_file():
            print(f"{folder}: no run, the energy that it took is not known")
            return
        joined = members_of(folder)
        for origin in joined or origins(folder):
            visit(origin)
        if not joined:
            found.setdefault(folder)

    for folder in folders:
        visit(folder)
    return list(found)


def origins(folder: Path) -> list[Path]:
    """The runs that a training began with: those of `start` and of `data.pseudo_labels`."""
    values, found = read_settings(folder).values, list[Path]()
    if start := values.get("start"):  # a recipe, or a checkpoint: as training/train.py:start_file has it
        path = Path(start)
        begun = path.parent.parent if path.suffix else folder.parent.parent / path / folder.name
        found.append(begun if (begun / CONFIG).is_file() else path)
    if labels := (values.get("data") or {}).get("pseudo_labels"):
        found += map(Path, _makers(Path(labels)))
    return found


def training_kwh(*folders: Path) -> float:
    """Energy of all trainings that runs come of, their own included, and of the logits that they gave to others."""
    parts = [recorded(step, section) or {} for step in steps(folders) for section in ("train", "logits")]
    return sum(float(of.get("kwh") or 0.0) for of in parts)
