"""Class splits: which classes train, validate and test, and which labels bar a clip from training.

As data: a csv with class, role (train, val, test) and reason; classes without a line have no role.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from common.audio.coverage import root_of
from common.run.errors import UserError, did_you_mean
from common.run.files import Row, read_rows, write_rows
from zeroshot.config import Config
from zeroshot.data.classes import ESC50_FOLDS, carried, counterparts
from zeroshot.data.layout import read_classes
from zeroshot.data.ontology import Ontology, find_ontology, needed_ontology

ROLES = ("train", "val", "test")
COLUMNS = ("class", "role", "reason")
MOST_SPLITS = 100_000


@dataclass(frozen=True)
class ClassSplit:
    """One way to hold out classes; `name` is that of its folder in a run."""

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    # Labels of the training data: a clip that carries one is not trained on. Held-out ones, and their relatives.
    held: frozenset[str] = frozenset()
    relatives: frozenset[str] = frozenset()
    reasons: dict[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(class, role, reason)."""
        for role, names in zip(ROLES, (self.train, self.val, self.test), strict=True):
            yield from ((name, role, self.reasons.get(name, "")) for name in names)


@dataclass(frozen=True)
class _Known:
    """Classes of the data sets: those to train on, those to test; the same where there is one data set."""

    training: tuple[str, ...]
    test: tuple[str, ...]
    apart: bool  # two data sets
    single: bool  # of the test: one label for each clip
    ontology: Ontology | None


def class_splits(config: Config) -> list[ClassSplit]:
    """All splits of a recipe, or those of `split.only`, checked.

    Raises UserError for a class that trains and is tested, an unknown class or role, a split without two training
    and two test classes, and where the ontology is needed but absent.
    """
    found = list(_splits(config, _known(config)))
    if config.split.only is None:
        return found
    by_name = {split.name: split for split in found}
    for name in config.split.only:
        if name not in by_name:
            raise UserError(f"split.only: no split {name!r}{did_you_mean(name, by_name)}")
    return [by_name[name] for name in config.split.only]


def _known(config: Config) -> _Known:
    test = read_classes(root_of(config.data), config.data.layout)
    of = config.data.training
    training = test if of is None else read_classes(root_of(of), of.layout)
    return _Known(training, test, of is not None, config.data.layout == "esc50", find_ontology(config.data))


def _splits(config: Config, known: _Known) -> Iterator[ClassSplit]:
    wanted, random = config.split, np.random.default_rng(config.split.seed)
    if wanted.protocol == "file":
        places = (Path(name) if "/" in name else root_of(config.data) / name for name in wanted.files)
        yield from (_barred(config, known, read_split(path, config, known)) for path in places)
        return
    if wanted.protocol in ("near", "far"):
        yield _between(config, known, random)
        return
    names, groups = _test_groups(config, known, random)
    for name, test in zip(names, groups, strict=True):
        rest = [of for of in known.test if of not in test]
        rest = [of for of in rest if of not in _relatives(config, known, test)]
        val = _drawn(rest, wanted.validation, random)
        rest = [of for of in rest if of not in val and of not in _relatives(config, known, val)]
        reason = dict.fromkeys(test, f"{wanted.protocol}, {name}")
        split = ClassSplit(name, tuple(rest), tuple(val), tuple(test), reasons=reason)
        yield _barred(config, known, _checked(split, known, name))


def _test_groups(
    config: Config, known: _Known, random: np.random.Generator
) -> tuple[list[str], Sequence[Sequence[str]]]:
    """Names of splits and their test classes, for protocols within one data set."""
    classes, wanted = known.test, config.split
    if wanted.protocol == "leave_out":
        groups = list(combinations(classes, wanted.leave_out))[: MOST_SPLITS + 1]
        if not groups or len(groups) > MOST_SPLITS or wanted.leave_out > len(classes) - 2:
            raise UserError(
                f"split.leave_out: {wanted.leave_out} of {len(classes)} classes, too few or too many choices"
            )
        return ["+".join(map(safe, group)) for group in groups], groups
    if wanted.protocol == "category":
        category = {row["class"]: row["category"] for row in carried("esc50")}
        if (unknown := next((name for name in classes if name not in category), None)) is not None:
            raise UserError(f"split.protocol: category knows ESC-50's classes, not {unknown!r}")
        there = dict.fromkeys(category[name] for name in category if name in classes)
        groups = [tuple(name for name in classes if category[name] == of) for of in there]
        kept = [(safe(of), group) for of, group in zip(there, groups, strict=True) if len(group) > 1]
        return [of for of, _ in kept], [group for _, group in kept]
    if sorted(classes) == sorted(name for fold in ESC50_FOLDS for name in fold):
        groups = [tuple(fold) for fold in ESC50_FOLDS]
    else:
        shuffled = [classes[i] for i in random.permutation(len(classes))]
        groups = [tuple(sorted(shuffled[n :: wanted.folds], key=classes.index)) for n in range(wanted.folds)]
    return [f"fold{number}" for number in range(1, len(groups) + 1)], groups


def safe(name: str) -> str:
    """A name as part of a folder's."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


def _between(config: Config, known: _Known, random: np.random.Generator) -> ClassSplit:
    """Train on one data set, test on all classes of another: near or far."""
    wanted, same = config.split, counterparts(config.data.layout)
    if (unknown := next((name for name in known.test if name not in same), None)) is not None:
        raise UserError(f"{root_of(config.data)}: the counterparts of {unknown!r} in AudioSet are not known")
    held = {name for of in known.test for name in same[of]}
    reason = "a counterpart of a test class"
    if wanted.protocol == "far":
        ontology = needed_ontology(config.data, "split.protocol=far")
        tops = held | ({wanted.far_root} if config.data.layout == "openmic" else set())
        held = tops | {name for top in tops for name in ontology.descendants(top)}
        reason = "in the sub-tree of a counterpart"
    rest = [name for name in known.training if name not in held]
    val = _drawn(rest, wanted.validation, random)
    rest = [name for name in rest if name not in val and name not in _relatives(config, known, val)]
    reasons = dict.fromkeys(rest, f"{wanted.protocol}: not {reason}")
    relatives = frozenset(_relatives(config, known, val) - held)
    held_out = frozenset(held | set(val))
    split = ClassSplit(wanted.protocol, tuple(rest), tuple(val), known.test, held_out, relatives, reasons)
    return _checked(split, known, wanted.protocol)


def _drawn(classes: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    """Validation classes, in the order of `classes`."""
    if count > len(classes) - 2:
        raise UserError(f"split.validation: {count} of {len(classes)} training classes leave fewer than two")
    chosen = set(random.permutation(len(classes))[:count].tolist())
    return [name for number, name in enumerate(classes) if number in chosen]


def _relatives(config: Config, known: _Known, names: Iterable[str]) -> set[str]:
    """Ancestors and descendants of held-out classes of AudioSet, where these bar too."""
    names = list(names)
    of = (config.data.training or config.data).layout
    if of != "audioset" or config.split.barred_by != "relatives" or not names:
        return set()
    return needed_ontology(config.data, "split.barred_by=relatives").relatives(names)


def _barred(config: Config, known: _Known, split: ClassSplit) -> ClassSplit:
    """With the labels that bar a clip from training. UserError where a relative of a held-out class trains."""
    held = set(split.val)
    if not known.apart:
        held |= set(split.test)
    elif config.data.layout != "audioset":
        same = counterparts(config.data.layout)
        for name in split.test:
            for other in same.get(name, ()):
                if other in split.train:
                    raise UserError(f"{split.name}: {other!r} trains, but is the test class {name!r}: seen and unseen")
            held |= set(same.get(name, ()))
    relatives = _relatives(config, known, held)
    if seen := sorted(relatives & {*split.train, *split.val} - set(split.val)):
        raise UserError(
            f"{split.name}: {seen[0]!r} trains, but is an ancestor or descendant of a held-out class; take it out or "
            "set split.barred_by=labels"
        )
    fields = {of: getattr(split, of) for of in ("name", "train", "val", "test", "reasons")}
    return ClassSplit(**fields, held=frozenset(held), relatives=frozenset(relatives))


def read_split(path: str | Path, config: Config, known: "_Known | None" = None) -> ClassSplit:
    """The split of a csv; its name is the file's.

    Raises UserError (file, line) for an unknown class or role, a class that stands twice (one that is both seen and
    unseen above all), and fewer than two training or test classes.
    """
    known, path = known or _known(config), Path(path)
    rows = read_rows(path, COLUMNS[:2])
    first: dict[str, Row] = {}
    for row in rows:
        name, role = row["class"], row["role"]
        if role not in ROLES:
            raise UserError(f"{row.at}: role {role!r}{did_you_mean(role, ROLES)}")
        of = known.test if role == "test" else known.training
        if name not in of:
            raise UserError(f"{row.at}: unknown class {name!r}{did_you_mean(name, of)}")
        if name in first:
            line, other = first[name].at.rpartition(":")[2], first[name]["role"]
            both = f"{other} in line {line} and {role} here: a class is either seen or unseen"
            raise UserError(f"{row.at}: class {name!r} is {both if other != role else f'there twice (line {line})'}")
        first[name] = row
    by_role = {role: tuple(name for name, row in first.items() if row["role"] == role) for role in ROLES}
    reasons = {name: row.get("reason", "") for name, row in first.items()}
    split = ClassSplit(safe(path.stem), by_role["train"], by_role["val"], by_role["test"], reasons=reasons)
    return _checked(split, known, str(path))


def write_split(path: str | Path, split: ClassSplit) -> None:
    """The split as a csv, whole or not at all."""
    write_rows(path, COLUMNS, split.rows())


def _checked(split: ClassSplit, known: _Known, at: str) -> ClassSplit:
    """Raises UserError for a class in two roles, and for too few."""
    roles: Collection[set[str]] = [set(split.train), set(split.val), set(split.test)]
    for a, b in combinations(roles, 2):
        if both := sorted(a & b):
            raise UserError(f"{at}: class {both[0]!r} is both seen and unseen")
    for role, names, fewest in (("train", split.train, 2), ("test", split.test, 2), ("val", split.val, 0)):
        if len(names) < fewest or (role == "val" and len(names) == 1):
            raise UserError(f"{at}: {len(names)} {role} class{'es' if len(names) != 1 else ''}, expected two or more")
    return split
