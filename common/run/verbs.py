"""The verbs of a task: functions with typed arguments and a docstring -> a command line.

A task lists its verbs as functions. A function whose first parameter is `run: Run` or `runs: list[Run]` works on runs
of a recipe: `--recipe`, `--run-dir`, `--runs` and `key=value` overrides are added; with `run` it is called once for
each run, with `runs` once for all; with `run: Run | None` it does without, where none of these is given. A parameter
`files: list[Path]` takes the positional arguments, `task: Task` gets the task, `json: bool` whether `--json` is given:
such a verb prints JSON lines of its own before it. All others become options; `@computes`
adds `--device`. What a verb returns, a plain mapping, is printed as one line of JSON at the end with `--json`. The
docstring's section `Example:` is the words after the verb that `--help` shows; `{task}` in it is the task's name.
"""

import argparse
import functools
import inspect
import io
import json
import logging
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import __version__
from common.run.config import OVERRIDE, find_recipe, load_config
from common.run.errors import UserError, did_you_mean
from common.run.files import remove_partials
from common.run.numbers import integer, number
from common.run.processes import check_accelerator, known_device, on_device
from common.run.progress import show_as

Verb = Callable[..., Mapping[str, Any] | None]
_computing: set[Verb] = set()


def computes(verb: Verb) -> Verb:
    """Mark a verb in which networks compute: it takes `--device`."""
    _computing.add(verb)
    return verb


@dataclass(frozen=True)
class Task:
    """One challenge system as the command line sees it."""

    name: str  # package, e.g. task4_sed
    title: str
    config: type  # dataclass of its recipes
    verbs: Sequence[Verb]
    default_recipe: str = "toy"

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process: without the verbs, functions of a `__main__` that it does not have."""
        return {**self.__dict__, "verbs": ()}

    @property
    def recipes(self) -> Path:
        """Folder with the task's recipes."""
        return Path(__import__(self.name).__file__ or "").parent / "recipes"

    def room(self, name: str) -> Any:
        """A module of the task by the name that it has in every task, e.g. evaluation.runs."""
        return import_module(f"{self.name}.{name}")


@dataclass(frozen=True)
class Run:
    """One training run: a task's recipe, and the folder in which all that comes of it lies.

    `number` counts independent trainings of one recipe from 1; each has its own seed and folder.
    """

    task: Task
    recipe: str
    number: int
    folder: Path
    config: Any

    @property
    def seed(self) -> int:
        """Seed of this training: the recipe's seed for run 1, the next ones for the others."""
        return int(self.config.seed) + self.number - 1

    @property
    def title(self) -> str:
        """What pictures call it."""
        return f"recipe {self.recipe}, training {self.number}"


KEY_VALUE = "settings of the recipe are given as key=value (e.g. trainer.max_epochs=3); config.py has all of them\n"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def main(task: Task, arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 1 after a user's error, 130 after Ctrl-C."""
    logging.getLogger("numexpr").setLevel(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        return _dispatch(task, list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        # A loader's worker process wraps the message into its traceback.
        return _fail(str(error).rpartition("UserError: ")[2])
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a missing permission: the machine's state, not a bug
        if error.errno is None:
            raise
        return _fail(f"{os.fsdecode(error.filename or 'file system')}: {os.strerror(error.errno)}")


def release() -> str:
    """Name and version of this software, with the revision of a checkout where there is one."""
    from common.run.results.environment import environment

    code = environment()["code"]
    revision = f" ({code['revision'][:12]}{', modified' if code['dirty'] else ''})" if code else ""
    return f"dcase-systems {__version__}{revision}"


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _dispatch(task: Task, arguments: list[str]) -> int:
    verbs = {verb.__name__.rstrip("_"): verb for verb in task.verbs}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview(task, verbs))
        return 0
    if arguments == ["--version"]:
        print(release())
        return 0
    name, *rest = arguments
    if name not in verbs:
        raise UserError(f"unknown verb {name!r}{did_you_mean(name, verbs)}")
    verb = verbs[name]
    parser = _parser(task, name, verb)
    words, settings = _settings_apart(_join_runs(rest), parser, task.config)
    parsed, extra = parser.parse_known_args(words)
    values = vars(parsed)
    as_json, chosen = values.pop("json"), values.pop("device", None)
    loose = [*(values.pop("loose", None) or []), *extra, *settings]
    unknown = [word for word in loose if word.startswith("-") and word != "-"]
    if unknown:
        options = [o for action in parser._actions for o in action.option_strings if o.startswith("--")]
        raise UserError(f"{name}: unknown option {unknown[0]!r}{did_you_mean(unknown[0], options)}")
    of_runs = ("recipe", "runs", "run_dir") if _takes_runs(verb) else ()
    keywords = {key: value for key, value in values.items() if key not in of_runs}
    if "json" in inspect.signature(verb).parameters:
        keywords["json"] = as_json
    try:
        with on_device(chosen):
            result = _call(task, verb, values, keywords, loose)
    except UserError as error:
        if as_json and error.result is not None:
            print(json.dumps(error.result, default=str))
        raise
    if as_json:
        print(json.dumps(result or {}, default=str))
    sys.stdout.flush()  # a reader that has gone away (`| head`) shows here, not while Python ends
    return 0


def _call(
    task: Task, verb: Verb, values: dict[str, Any], keywords: dict[str, Any], loose: list[str]
) -> Mapping[str, Any] | None:
    parameters = inspect.signature(verb).parameters
    overrides = [word for word in loose if _is_setting(word)]
    others = [word for word in loose if word not in overrides]
    takes_run = _takes_runs(verb)
    if "files" in parameters:
        keywords["files"] = [Path(word) for word in others]
    elif others:
        hint = "a setting is overridden as key=value, in quotes where it has spaces" if takes_run else "see --help"
        raise UserError(f"{verb.__name__.rstrip('_')}: unexpected argument {others[0]!r}; {hint}")
    if "task" in parameters:
        keywords["task"] = task
    if overrides and not takes_run:
        raise UserError(f"{verb.__name__.rstrip('_')} takes no settings, but got {overrides[0]!r}")
    if not takes_run:
        return verb(**keywords)
    if values["recipe"] is None and not (overrides or values["run_dir"] or values["runs"] != [1]):
        return verb(run=None, **keywords)
    values["recipe"] = values["recipe"] or task.default_recipe
    runs = [open_run(task, values["recipe"], overrides, number, values["run_dir"]) for number in values["runs"]]
    check_accelerator(runs[0].config)
    remove_partials(runs[0].folder.parent, recursive=False)
    for run in runs:
        remove_partials(run.folder)
    results = []
    try:
        if "runs" in parameters:
            return verb(runs, **keywords)
        for run in runs:
            show_as(run_label(run, runs))
            results.append(verb(run, **keywords) or {})
    finally:
        show_as("")
    return results[0] if len(results) == 1 else {"runs": results}


def run_label(run: Run, runs: Sequence[Run]) -> str:
    """Which of the runs of a command this is: `run 2 of 3`, `run 5` of runs 4 and 5; nothing of run 1 alone."""
    of = f" of {len(runs)}" if len(runs) > 1 and [of.number for of in runs] == list(range(1, len(runs) + 1)) else ""
    return f"run {run.number}{of}" if len(runs) > 1 or run.number > 1 else ""


def _takes_runs(verb: Verb) -> bool:
    return not {"run", "runs"}.isdisjoint(inspect.signature(verb).parameters)


def open_run(
    task: Task, recipe: str, overrides: Sequence[str] = (), number: int = 1, folder: Path | None = None
) -> Run:
    """Run `number` of a recipe: config read and checked, its folder `<folder>/run<number>` named (not yet made)."""
    if number < 1:
        raise UserError(f"--runs: {number}, expected 1 or more")
    config: Any = load_config(task.config, task.recipes, recipe, overrides)
    name = run_name(task.recipes, recipe)
    return Run(task, name, number, (folder or Path("runs") / task.name / name) / f"run{number}", config)


def run_name(recipes: Path, recipe: str) -> str:
    """What the runs of a recipe are called, and their folder below `runs/<task>`.

    A task's own recipe: its name. A file elsewhere: its path from the current folder, without `.yaml`, `/` as `-`
    (`ideas/my.yaml`: `ideas-my`); one that would have the name of one of the task's own keeps its `.yaml`. So files
    of the same name in two folders have two run folders. `run-folder` in task.mk here is the same rule for make.
    """
    path = Path(os.path.abspath(find_recipe(recipes, recipe)))
    if path.parent.resolve() == recipes.resolve():
        return path.name.removesuffix(".yaml")
    name = "-".join(path.relative_to(Path.cwd() if path.is_relative_to(Path.cwd()) else "/").parts)
    name = name.removesuffix(".yaml")
    return f"{name}.yaml" if (recipes / f"{name}.yaml").exists() else name


def _overview(task: Task, verbs: Mapping[str, Verb]) -> str:
    lines = [f"{task.title}", "", f"usage: python -m {task.name} VERB [options] [key=value ...]", "", "verbs:"]
    lines += [f"  {name:<11} {_summary(verb)}" for name, verb in verbs.items()]
    recipes = ", ".join(sorted(path.stem for path in task.recipes.glob("*.yaml")))
    lines += ["", f"recipes: {recipes} (default: {task.default_recipe}; --recipe also takes a yaml file)"]
    lines += ["", f"`python -m {task.name} VERB --help` explains a verb."]
    return "\n".join(lines)


def _summary(verb: Verb) -> str:
    return (inspect.getdoc(verb) or "").split("\n")[0].rstrip(".")


def _parser(task: Task, name: str, verb: Verb) -> argparse.ArgumentParser:
    text, described, example = _docstring((inspect.getdoc(verb) or "").replace("{task}", task.name))
    example = example or (f"--recipe {task.default_recipe}" if _takes_runs(verb) else "")
    parser = _Parser(
        prog=f"python -m {task.name} {name}",
        description=text,
        epilog=f"{KEY_VALUE if _takes_runs(verb) else ''}example: python -m {task.name} {name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(verb, include_extras=True)
    parameters = inspect.signature(verb).parameters
    optional = _optional(hints.get("run"))
    if _takes_runs(verb):
        group = parser.add_argument_group("recipe and run")
        group.add_argument(
            "--recipe",
            default=None if optional else task.default_recipe,
            metavar="NAME",
            help=f"recipe by name or yaml file (default: {'none' if optional else task.default_recipe})",
        )
        group.add_argument(
            "--runs",
            type=_run_numbers,
            default=[1],
            metavar="N [N ...]",
            help="numbers of independent trainings of the recipe, each with its own seed (default: 1)",
        )
        group.add_argument(
            "--run-dir",
            type=Path,
            metavar="DIR",
            help=f"run N lies in DIR/run<N> (default: runs/{task.name}/<recipe>)",
        )
    if verb in _computing:
        text = "where networks compute: cpu, cuda or cuda:N (default: a GPU where there is one)"
        parser.add_argument("--device", type=device, metavar="DEVICE", help=text)
    with_files = "files" in parameters
    loose_help = described.get("files", "files or folders") if with_files else "settings of the recipe"
    parser.add_argument("loose", nargs="*", metavar="FILE" if with_files else "key=value", help=loose_help)
    for parameter in parameters.values():
        if parameter.name not in ("task", "run", "runs", "files", "json"):
            _add_option(parser, parameter, hints[parameter.name], described.get(parameter.name, ""))
    parser.add_argument("--json", action="store_true", help="print the result as JSON in the last line")
    return parser


def _join_runs(words: list[str]) -> list[str]:
    """`--runs 1 2 key=value` -> `--runs=1 2`, `key=value`: argparse would take all that follows for numbers."""
    joined, rest = [], list(words)
    while rest:
        joined.append(rest.pop(0))
        numbers = []
        while joined[-1] == "--runs" and rest and rest[0].isdecimal():
            numbers.append(rest.pop(0))
        if numbers:
            joined[-1] = f"--runs={' '.join(numbers)}"
    return joined


def _settings_apart(words: list[str], parser: argparse.ArgumentParser, config: type) -> tuple[list[str], list[str]]:
    """`--names a b key=value` -> the words without, and the settings: a list option would take them for its own.

    Where the option's values look like settings themselves (`--folds train=1 test=2`), those that the recipe does not
    have stay with it.
    """
    lists = {option for action in parser._actions if action.nargs in ("+", "*") for option in action.option_strings}
    kept: list[str] = []
    settings: list[str] = []
    alike = False
    for before, word in pairwise(["", *words]):
        is_first, is_setting = before.startswith("--") and "=" not in before, _is_setting(word)
        if is_first or word.startswith("--"):
            alike = is_setting and before in lists
        (settings if is_setting and not is_first and not (alike and not _in_recipe(word, config)) else kept).append(
            word
        )
    return kept, settings


def _in_recipe(word: str, config: type) -> bool:
    """Whether `key=value` may be a setting of a recipe; a group of settings has no value of its own."""
    key = word.partition("=")[0]
    kinds = typing.get_type_hints(config)
    return "." in key or (key in kinds and not is_dataclass(kinds[key]))


def _is_setting(word: str) -> bool:
    return bool(OVERRIDE.match(word)) and not os.path.exists(word)  # False for words that are too long for a path


def _run_numbers(text: str) -> list[int]:
    words = text.replace(",", " ").split()
    try:
        numbers = [integer(word) for word in words]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected numbers of trainings, e.g. 1 2 3")
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r}, expected each training once")
    return numbers


def _add_option(parser: argparse.ArgumentParser, parameter: inspect.Parameter, hint: Any, text: str) -> None:
    flag = "--" + parameter.name.replace("_", "-")
    default = parameter.default
    required = default is inspect.Parameter.empty
    kind = next((a for a in typing.get_args(hint) if a is not types.NoneType), hint) if _optional(hint) else hint
    shown = "" if required or default in (None, False, (), []) else f" (default: {default})"
    bare = getattr(kind, "__metadata__", None)  # Annotated[str, "default"]: the value of the bare flag
    kind = typing.get_args(kind)[0] if bare else kind
    if kind is bool:
        parser.add_argument(flag, action="store_true", help=text)
        return
    options: dict[str, Any] = {"help": text + shown, "required": required}
    if not required:
        options["default"] = default
    if typing.get_origin(kind) in (list, tuple):
        inner = typing.get_args(kind)[0]
        if typing.get_origin(inner) is list:  # list[list[int]]: the option may be given more than once
            options["action"], inner = "append", typing.get_args(inner)[0]
        options |= {"nargs": "*" if bare else "+", "type": inner}  # Annotated[list[str], ()]: the flag may be bare
        if typing.get_origin(inner) is typing.Literal:
            options |= {"type": str, "choices": typing.get_args(inner)}
    elif typing.get_origin(kind) is typing.Literal:
        options |= {"choices": typing.get_args(kind)} | ({"nargs": "?", "const": bare[0]} if bare else {})
    else:
        options |= {"type": kind} | ({"nargs": "?", "const": bare[0]} if bare else {})
    if "choices" not in options:
        options["metavar"] = getattr(options["type"], "__name__", "value").upper().replace("STR", "TEXT")
        options["type"] = _strict(options["type"])
    parser.add_argument(flag, **options)


def device(text: str) -> str:
    """The value of `--device`, for argparse."""
    try:
        return known_device(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _strict(kind: Any) -> Any:
    """int and float by the readers of tables, under their own names in argparse's messages."""
    read = {int: integer, float: number}.get(kind)
    return functools.wraps(kind, ("__name__",), ())(lambda text: read(text)) if read else kind


def _optional(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType) and types.NoneType in typing.get_args(hint)


def _docstring(text: str) -> tuple[str, dict[str, str], str]:
    """The text above `Args:`, {argument: description} (Google style), and the line below `Example:`."""
    text, _, example = text.partition("\nExample:\n")
    head, _, tail = text.partition("\nArgs:\n")
    described: dict[str, str] = {}
    name = ""
    for line in tail.split("\n"):
        if line.startswith("    ") and not line.startswith("     ") and ":" in line:
            name, _, first = line.strip().partition(":")
            described[name] = first.strip()
        elif name and line.strip():
            described[name] += " " + line.strip()
    return head.strip(), {key: value.replace("%", "%%") for key, value in described.items()}, example.strip()
