"""What is trained: the run folders of a task, each with its settings, state and main figure."""

import fcntl
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from common.run.config import changes, config_dict, load_config
from common.run.energy import energy_text
from common.run.errors import UserError
from common.run.files import existing_file, existing_folder
from common.run.folders import entries, printable
from common.run.results.comparison import Caveat
from common.run.results.runs import kept
from common.run.results.store import CONFIG, FILE_NAME, read_results, recorded
from common.run.results.tables import format_value, print_table
from common.run.verbs import Task, run_name
from common.run.yaml_lines import NotYamlError, read_yaml

RUN = re.compile(r"run([1-9][0-9]{0,8})")
HEAD = re.compile(r"# (?P<task>\w+), recipe (?P<recipe>.+), training [0-9]+\n")  # first line of a run's config.yaml
NOT_COMPARED = ("seed", "submission")  # settings in which the runs of one recipe differ


class Figure(NamedTuple):
    """The main figure of a run: of which metric and test set, and why it must not be compared with published ones."""

    metric: str
    set: str
    value: float | None
    low: float | None = None
    high: float | None = None
    caveat: Caveat | None = None
    decimals: int = 3

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "caveat": self.caveat and self.caveat.text}


class Standing(NamedTuple):
    """evaluated, trained, training (now) or interrupted; the last two in the training `part`, after `epoch` epochs."""

    state: str
    part: str | None = None
    epoch: int | None = None
    epochs: int | None = None

    def __str__(self) -> str:
        at = f", epoch {self.epoch}/{self.epochs}" if self.epoch is not None else ""
        return f"{self.state}{f', {self.part}' if self.part else ''}{at}"


class Settings(NamedTuple):
    """What a run's config.yaml says: task and recipe by name, and every setting."""

    task: str
    recipe: str
    values: dict[str, Any]


def read_settings(training: Path) -> Settings:
    """The config.yaml of a training. Raises UserError where it is damaged or was not written by `train`."""
    path = existing_file(training / CONFIG, "settings of a training")
    try:
        text = path.read_text(encoding="utf-8")
        head, (values, _) = HEAD.match(text), read_yaml(text)
    except (NotYamlError, UnicodeDecodeError):
        raise UserError(f"{path}: not valid YAML, damaged") from None
    if head is None or not isinstance(values, dict):
        raise UserError(f"{path}: not as `train` writes it")
    return Settings(head["task"], head["recipe"], values)


@dataclass(frozen=True)
class Layout:
    """Where the runs of a task keep what is listed.

    test: the section of results.json that `evaluate` writes; figure: the main figure of such a run; beside: more
    figures, which tell what a step of a system reached
    parts: patterns of the folders of single trainings, where a run has several. settings: of a run. finished: whether
    a run's training has come to its end (None: where all that began have). growing: settings that are not all there
    before.
    """

    test: str
    figure: Callable[[Path, Mapping[str, Any]], Figure]
    parts: tuple[str, ...] = ()
    settings: Callable[[Path], Settings] = read_settings
    finished: Callable[[Path], bool] | None = None
    growing: tuple[str, ...] = ()
    beside: Callable[[Path, Mapping[str, Any]], Sequence[Figure]] | None = None

    def figures(self, run: Path, values: Mapping[str, Any]) -> list[Figure]:
        """The main figure, and those beside it."""
        return [self.figure(run, values), *(self.beside(run, values) if self.beside else ())]

    def trainings(self, run: Path) -> list[Path]:
        """The folders of a run's trainings that have begun."""
        parts = [path for pattern in self.parts for path in sorted(run.glob(pattern)) if (path / CONFIG).is_file()]
        return parts or [run] * (run / CONFIG).is_file()


@dataclass(frozen=True)
class Listed:
    """A run. kwh: of its trainings; settings: that differ from the recipe's file, None where that is not found."""

    folder: str
    recipe: str
    run: int
    standing: Standing
    figure: Figure | None
    date: str
    kwh: float | None
    settings: dict[str, Any] | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        standing, figure = self.standing._asdict(), self.figure and self.figure.plain()
        found = {key: value for key, value in vars(self).items() if key != "standing"}
        return {**found, **standing, "figure": figure}


def list_runs(task: Task, layout: Layout, folder: Path | None) -> dict[str, Any]:
    """Print the runs below runs/<task>, or those in `folder`: of run folders, or of folders of these.

    What is no run of this task, or is damaged, is listed with the reason. Returns {"runs": [...], "others": {folder:
    reason}}.
    """
    root = existing_folder(folder or Path("runs") / task.name, "folder of runs (`train` makes it)")
    found, others, recipes = [], dict[str, str](), cache(partial(_recipe, task))
    for path in _candidates(root):
        try:
            found.append(read_run(task, layout, path, recipes))
        except UserError as error:
            others[printable(path)] = str(error).removeprefix(f"{path}: ")
        except Exception as error:  # whatever somebody wrote there: the other runs are listed nonetheless
            others[printable(path)] = f"cannot be read ({type(error).__name__}: {error})"
    columns = ["recipe", "run", "state", "figure", "of", "date", "energy", "differs from the recipe in"]
    print_table(f"{printable(root)}: {len(found)} run{'' if len(found) == 1 else 's'}", columns, list(map(_row, found)))
    for name, reason in others.items():
        print(f"not listed: {name}: {reason}")
    return {"runs": [of.plain() for of in found], "others": others}


def _candidates(root: Path) -> Iterator[Path]:
    """Every run<N> of a folder, or of the folders in it; a folder in it that has none, itself."""
    if own := _numbered(root):
        yield from own
        return
    for folder in entries(root):
        if folder.is_dir() and not folder.name.startswith("."):
            yield from _numbered(folder) or [folder]


def _numbered(folder: Path) -> list[Path]:
    found = {int(number[1]): path for path in entries(folder) if (number := RUN.fullmatch(path.name))}
    return [found[number] for number in sorted(found)]


def read_run(task: Task, layout: Layout, folder: Path, recipes: Callable[[str], Mapping[str, Any] | None]) -> Listed:
    """What a run's folder says; recipes: the settings of a recipe's file, None where there is no valid one.

    Raises UserError where it is none of this task, or where a file in it is damaged.
    """
    number, begun = RUN.fullmatch(folder.name), layout.trainings(folder)
    if number is None:
        raise UserError(f"{folder}: no run<N> in it")
    sections = read_results(folder) if (folder / FILE_NAME).is_file() else {}
    if not begun and layout.test not in sections:
        raise UserError(f"{folder}: no {CONFIG} in it: no run, or none that has begun")
    settings = layout.settings(folder) if begun else Settings(task.name, folder.parent.name, {})  # of an ensemble
    if settings.task != task.name:
        raise UserError(f"{folder}: a run of {settings.task}")
    values = {name: of["values"] for name, of in sections.items()}
    trained = {folder: values["train"]} if "train" in values else {path: recorded(path, "train") for path in begun}
    open_ones = [path for path, of in trained.items() if of is None]
    finished = layout.finished(folder) if layout.finished and begun else not open_ones
    done = "evaluated" if layout.test in sections else "trained"
    left_out = NOT_COMPARED if finished else (*NOT_COMPARED, *layout.growing)
    changed = _changed(task, settings, recipes(settings.recipe), left_out) if begun else {}
    kwh = [kwh for of in trained.values() if isinstance(kwh := (of or {}).get("kwh"), float)]
    return Listed(
        printable(folder),
        settings.recipe,
        int(number[1]),
        Standing(done) if finished else _unfinished(folder, open_ones),
        layout.figure(folder, values[layout.test]) if layout.test in values else None,
        max((of["recorded"] for of in sections.values()), default="") or _last_write(begun),
        sum(kwh) or None,
        changed,
    )


def _unfinished(folder: Path, begun: Sequence[Path]) -> Standing:
    """Where the trainings stand that have begun and have not come to their end."""
    state = "training" if any(_is_locked(path) for path in {folder, *begun}) else "interrupted"
    if not begun:  # between two of them
        return Standing(state)
    ahead = max(begun, key=_epochs_done)
    epochs = kept(read_settings(ahead).values, ("trainer", "max_epochs"))
    return Standing(
        state, None if ahead == folder else printable(ahead.relative_to(folder)), _epochs_done(ahead), epochs
    )


def _epochs_done(training: Path) -> int:
    """Rows of metrics.csv: one an epoch, below a header."""
    path = training / "metrics.csv"
    return max(len(path.read_bytes().splitlines()) - 1, 0) if path.is_file() else 0


def _is_locked(training: Path) -> bool:
    """Whether a process works on it (`common.run.training.locked`)."""
    try:
        with open(training / ".lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock there, or a file system without locks
        return False
    return False


def _last_write(trainings: Sequence[Path]) -> str:
    """Of a training that has no results yet: when it last wrote an epoch, or began."""
    files = [path / name for path in trainings for name in (CONFIG, "metrics.csv") if (path / name).is_file()]
    newest = max(file.stat().st_mtime for file in files)
    return datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")


def _changed(
    task: Task, settings: Settings, recipe: Mapping[str, Any] | None, left_out: Sequence[str]
) -> dict[str, Any] | None:
    """{key: value} of the settings that differ from what the recipe's file says now; None where there is no file."""
    if recipe is None:
        return None
    there = _merged(config_dict(task.config()), settings.values)  # settings that came later had their defaults
    found = {key: value for key, (_, value) in changes(recipe, there).items()}
    return {key: value for key, value in found.items() if key.split(".")[0] not in left_out and key not in left_out}


def _recipe(task: Task, name: str) -> dict[str, Any] | None:
    path = recipe_file(task, name)
    try:
        return None if path is None else config_dict(load_config(task.config, task.recipes, str(path)))
    except UserError:
        return None


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], over[key]) for key in base.keys() & over.keys() if _are_groups(base[key], over[key])
    }
    return {**base, **over, **both}


def _are_groups(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def recipe_file(task: Task, name: str) -> Path | None:
    """The file whose runs are called so (`run_name`), from the current folder; None where there is none."""
    own = task.recipes / f"{name}.yaml"
    if own.is_file():
        return own
    first, *words = name.removesuffix(".yaml").split("-")
    for start in ("", "/"):
        for signs in product("/-", repeat=len(words)) if len(words) < 10 else ():
            path = Path(start + first + "".join(map("".join, zip(signs, words, strict=True))) + ".yaml")
            if path.is_file() and run_name(task.recipes, str(path)) == name:
                return path
    return None


def _row(run: Listed) -> list[str]:
    of = run.figure
    figure = format_value(of and of.value, of and of.low, of and of.high, decimals=of.decimals if of else 3)
    settings = "no valid recipe file" if run.settings is None else ""
    settings = settings or " ".join(f"{key}={_shown(value)}" for key, value in (run.settings or {}).items())
    return [
        printable(run.recipe),
        str(run.run),
        str(run.standing),
        f"{figure} ({of.caveat.mark})" if of and of.caveat else figure,
        f"{of.metric}, {of.set}" if of else "",
        run.date[:16].replace("T", " "),
        "n/a" if run.kwh is None else energy_text(run.kwh),
        settings,
    ]


def _shown(value: Any) -> str:
    """A setting as it is given on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value).replace(" ", "") if isinstance(value, list | dict) else str(value)
