"""Systems of several runs: an ensemble has a run folder of its own, with the settings by which it is evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.run.config import config_dict, config_of, dump, find_recipe
from common.run.errors import UserError
from common.run.files import write_text
from common.run.results.listing import RUN, read_settings
from common.run.results.store import CONFIG, record, recorded
from common.run.verbs import Run, Task, run_name


def trained_run(task: Task, name: str, number: int) -> Run:
    """Run `number` of a recipe, or of a folder of runs; of a run's own folder, that. With the settings of its training.

    Raises UserError where there is none.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or (task.recipes / f"{name}.yaml").is_file() or not path.is_dir():
        find_recipe(task.recipes, name)  # says which there are
        path = Path("runs") / task.name / run_name(task.recipes, name)
    folder = path if RUN.fullmatch(path.name) else path / f"run{number}"
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder}: no trained run there; first: python -m {task.name} train --recipe {name} --runs {number}"
        )
    settings, own = read_settings(folder), RUN.fullmatch(folder.name)
    if settings.task != task.name:
        raise UserError(f"{folder}: a run of {settings.task}")
    number = int(own[1]) if own else number
    values = {**settings.values, "seed": settings.values["seed"] - number + 1}
    return Run(task, settings.recipe, number, folder, config_of(task.config, values, str(folder), folder))


def members_of(folder: Path) -> list[Path]:
    """The runs whose mean an ensemble is; none of a training."""
    return [Path(member) for member in (recorded(folder, "train") or {}).get("members", ())]


def members(run: Run, names: Sequence[str]) -> list[Run]:
    """The runs of `run`'s number of some recipes or folders, to be joined in its folder. Raises UserError."""
    found = [trained_run(run.task, name, run.number) for name in names]
    folders = [member.folder.resolve() for member in found]
    if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise UserError(f"--ensemble: {found[folders.index(twice)].folder} is named twice")
    if run.folder.resolve() in folders or ((run.folder / CONFIG).is_file() and not members_of(run.folder)):
        raise UserError(f"{run.folder}: holds a run; --run-dir DIR: a folder of its own for the ensemble")
    return found


def check_members(run: Run, names: Sequence[str]) -> None:
    """UserError where a run is not the ensemble of the runs of its number of these recipes or folders."""
    asked = [str(trained_run(run.task, name, run.number).folder) for name in names]
    if [str(member) for member in members_of(run.folder)] != asked:
        raise UserError(f"{run.folder}: not the ensemble of {', '.join(names)}; `evaluate --ensemble` makes it")


def trainings_of(run: Run) -> list[Run]:
    """The trainings that a run is made of: itself, or those of an ensemble, also of ensembles in it."""
    parts = members_of(run.folder)
    return [of for part in parts for of in trainings_of(trained_run(run.task, str(part), 1))] if parts else [run]


def record_ensemble(run: Run, joined: Sequence[Run], about: Mapping[str, Any]) -> None:
    """Make `run.folder` that of an ensemble: its config.yaml, and its members and `about` in results.json."""
    record(run.folder, "train", {"members": [str(of.folder) for of in joined], **about})
    # Last: settings without members are those of a training.
    text = dump({**config_dict(run.config), "seed": run.seed})
    write_text(run.folder / CONFIG, f"# {run.task.name}, recipe {run.recipe}, training {run.number}\n{text}")


def called(run: Run) -> str:
    """The recipe of a run, or the name of an ensemble: that of its folder."""
    return run.folder.parent.name if members_of(run.folder) else run.recipe
