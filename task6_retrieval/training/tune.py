"""Search for the settings of a recipe that validate best: one study on disk, for any number of processes and machines.

<runs>/<task>/<recipe>/tune/
    study.journal   every trial, as it goes; a call goes on with what is there
    trials.csv, trials.png, best.yaml
    <name>/         the training of a trial, by its settings; without checkpoints once it is done
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from common.run.config import config_dict, config_of, dump
from common.run.errors import UserError
from common.run.files import write_rows, write_text
from common.run.results.listing import recipe_file
from common.run.results.runs import section_of
from common.run.results.tables import format_value, print_table
from common.run.verbs import Run
from task6_retrieval.training.train import MONITOR, train_run

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

FIRST_RANDOM = 10  # trials before the sampler has seen enough
FIRST_WHOLE = 5  # trials that are not stopped early
SHOWN = 5
Space = Mapping[str, tuple[float, float, bool]]  # setting: lowest, highest, whether on a logarithmic scale


def tune(run: Run, trials: int) -> dict[str, Any]:
    """Train with settings that Optuna draws from `tune:` of the recipe until the study has so many trials.

    TPE (Bergstra et al. 2011), and trials that validate below the median of the others at the same epoch are stopped.
    What is optimised is mAP@10 on the validation set; the test set is not touched. Raises UserError.
    """
    space, folder = space_of(run), run.folder.parent / "tune"
    study = _study(folder)
    while (drawn := _draw(study, run, space, folder, trials)) is not None:
        trial, lock = drawn
        with lock:
            _train(study, trial, run, folder)
    return _report(study, run, space, folder)


def space_of(run: Run) -> Space:
    """The recipe's space. Raises UserError for what is none, and for ends that the recipe cannot have."""
    if not run.config.tune:
        raise UserError(
            f"tune: recipe {run.recipe} has no section `tune`, e.g. tune: {{optimizer.lr: [1.0e-5, 1.0e-3, log]}}"
        )
    space: dict[str, tuple[float, float, bool]] = {}
    for key, given in run.config.tune.items():
        ends: list[Any] = given if len(given) in (2, 3) else [None, None]
        low, high, *words = ends
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
        if not numbers or not low < high or words not in ([], ["log"]) or (words and low <= 0):
            raise UserError(f"tune.{key}: is {given}, expected [lowest, highest], or [lowest, highest, log]")
        space[key] = (low, high, bool(words))
    for end in (0, 1):
        configured(run, {key: of[end] for key, of in space.items()})
    return space


def configured(run: Run, settings: Mapping[str, Any]) -> Any:
    """The recipe's config with other settings, by their dotted names. Raises UserError where it cannot have them."""
    return config_of(run.task.config, {**_merged(config_dict(run.config), settings), "tune": {}}, "tune")


def _merged(plain: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in settings.items():
        group, (*parents, last) = plain, key.split(".")
        for parent in parents:
            group = group.setdefault(parent, {})
        group[last] = value
    return plain


def _study(folder: Path) -> "Study":
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    except ImportError:
        raise UserError('tune: needs the package optuna: `make setup`, or `pip install ".[tune]"`') from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / "study.journal")
    storage = JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
    pruner = optuna.pruners.MedianPruner(FIRST_WHOLE)
    return optuna.create_study(
        storage=storage, study_name="tune", direction="maximize", pruner=pruner, load_if_exists=True
    )


def _draw(study: "Study", run: Run, space: Space, folder: Path, trials: int) -> "tuple[Trial, FileLock] | None":
    """The next trial and the lock that says that a process is at it; None when there are enough.

    A trial whose process is gone is done again with the same settings: its training goes on where it stopped.
    """
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    with FileLock(folder / ".draw"):
        for of in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            try:
                with _lock(folder, of.number).acquire(timeout=0):
                    study.tell(of.number, state=TrialState.FAIL)
                    study.enqueue_trial(of.params)
            except Timeout:
                pass
        known = study.get_trials(deepcopy=False)
        if (
            sum(of.state.name in ("COMPLETE", "PRUNED", "RUNNING") or "error" in of.user_attrs for of in known)
            >= trials
        ):
            return None
        # A seed of its own for each trial, whichever process draws it.
        study.sampler = TPESampler(n_startup_trials=FIRST_RANDOM, seed=run.seed + len(known), constant_liar=True)
        trial = study.ask()
        for key, (low, high, log) in space.items():
            suggest: Any = trial.suggest_int if isinstance(low, int) and isinstance(high, int) else trial.suggest_float
            suggest(key, low, high, log=log)
        lock = _lock(folder, trial.number)
        lock.acquire(timeout=0)
        return trial, lock


def _lock(folder: Path, number: int) -> FileLock:
    return FileLock(folder / f".trial{number}")


def _train(study: "Study", trial: "Trial", run: Run, folder: Path) -> None:
    from optuna import TrialPruned
    from optuna.trial import TrialState

    def watch(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        if trial.should_prune():
            raise TrialPruned

    name = hashlib.sha256(json.dumps(trial.params, sort_keys=True).encode()).hexdigest()[:12]
    of = replace(run, folder=folder / name, config=configured(run, trial.params))
    try:
        train_run(of, watch=watch)
        value = section_of(of.folder, "train", "no finished training")["best"][MONITOR]
        study.tell(trial, value)
        print(f"trial {trial.number}: {MONITOR} {value:.4f}, best {study.best_value:.4f}")
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        print(f"trial {trial.number}: stopped early")
    except UserError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        print(f"trial {trial.number}: {error}")
    shutil.rmtree(of.folder / "checkpoints", ignore_errors=True)


def _report(study: "Study", run: Run, space: Space, folder: Path) -> dict[str, Any]:
    """Table, plot and the best settings as a recipe; what is printed, as a JSON-able mapping."""
    told = [of for of in study.get_trials() if of.state.is_finished() and (of.state.name != "FAIL" or of.user_attrs)]
    told.sort(key=lambda of: (of.state.name != "COMPLETE", -(of.value or 0.0)))
    rows = [
        [of.number, of.state.name.lower(), of.value, len(of.intermediate_values), *_settings(of, space)] for of in told
    ]
    columns = ("trial", "state", MONITOR, "epochs", *space)
    write_rows(folder / "trials.csv", columns, [["" if cell is None else cell for cell in row] for row in rows])
    if not told or told[0].value is None:
        raise UserError(f"{folder}: no trial came to its end; trials.csv has all")
    _draw_trials(told, space, folder / "trials.png")
    best, parent = told[0], recipe_file(run.task, run.recipe)
    own = parent is None or parent.parent == run.task.recipes
    extends = run.recipe if own else os.path.relpath(parent or "", folder)
    note = f"# {MONITOR} {best.value:.4f}, the best of {len(told)} trials of `tune`\n"
    write_text(folder / "best.yaml", note + dump({"extends": extends, **_merged({}, best.params)}))
    shown = [[str(cell) if not isinstance(cell, float) else f"{cell:.3g}" for cell in row] for row in rows[:SHOWN]]
    for row, of in zip(shown, told, strict=False):
        row[2] = format_value(of.value, decimals=4)
    print_table(
        f"the best of {len(told)} trials, recipe {run.recipe}", columns, shown, note=f"all: {folder}/trials.csv"
    )
    print(f"{folder / 'best.yaml'}: their recipe; also trials.png")
    return {"trials": len(told), "best": {"value": best.value, "settings": best.params}, "out": str(folder)}


def _settings(of: "FrozenTrial", space: Space) -> list[Any]:
    return [of.params.get(key) for key in space]


def _draw_trials(told: "list[FrozenTrial]", space: Space, path: Path) -> None:
    """The value of every trial over its number, and over each setting."""
    from common.run.plots import COLOURS, new_figure, save, style, title_and_legend

    told = [of for of in told if of.value is not None]
    with style():
        wide = min(len(space) + 1, 4)
        tall = -(-(len(space) + 1) // wide)
        figure = new_figure(3.2 * wide, 2.8 * tall, "trials that were stopped early are not shown")
        for at, key in enumerate(("trial", *space)):
            axes = figure.add_subplot(tall, wide, at + 1, xlabel=key, ylabel=MONITOR if at % wide == 0 else "")
            axes.plot(
                [of.number if key == "trial" else of.params[key] for of in told],
                [of.value or 0.0 for of in told],
                "o",
                color=COLOURS[0],
            )
            if at and space[key][2]:
                axes.set_xscale("log")
        title_and_legend(figure, f"{len(told)} trials")
        save(figure, path)
