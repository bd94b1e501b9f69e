"""Which classes of a network are told: a choice by name or MID, or groups of classes under names of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file, read_rows


@dataclass(frozen=True)
class Labels:
    """What is told: its names, the MIDs of single AudioSet classes ("": a group), and the network's columns of each.

    order, starts: columns (n,), label by label, and where each label's begin.
    """

    names: tuple[str, ...]
    mids: tuple[str, ...] | None
    order: np.ndarray
    starts: np.ndarray

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Logits (frames, classes) -> (frames, labels), the largest of a group."""
        return np.maximum.reduceat(logits[:, self.order], self.starts, axis=1)

    def members(self, classes: Sequence[str]) -> dict[str, list[str]]:
        """{label: its classes} of the network's."""
        parts = np.split(self.order, self.starts[1:])
        return {name: [classes[at] for at in part] for name, part in zip(self.names, parts, strict=True)}


class Names:
    """Names and MIDs, in any case, to positions."""

    def __init__(self, names: Sequence[str], mids: Sequence[str] | None) -> None:
        of_mids = {mid.casefold(): at for at, mid in enumerate(mids or ()) if mid}
        self.position = of_mids | {name.casefold(): at for at, name in enumerate(names)}

    def find(self, word: str, at: str) -> int:
        """The position of a name or MID. Raises UserError that begins with `at`."""
        folded = " ".join(word.split()).casefold()
        if folded not in self.position:
            raise UserError(f"{at}: unknown class {word!r}{did_you_mean(folded, self.position)}")
        return self.position[folded]


def labels_of(
    classes: Sequence[str], mids: Sequence[str] | None, wanted: Sequence[str] | None = None, groups: Path | None = None
) -> Labels:
    """All classes of a network, or the groups of a table, or of these those that are wanted.

    wanted: names, MIDs, and text files with one of them a line. groups: a table with the columns event_label (name or
    MID) and group; classes that it does not name are left out. Raises UserError, with file and line, for unknown ones.
    """
    names, known = tuple(classes), None if mids is None else tuple(mids)
    columns = [[at] for at in range(len(names))]
    if groups is not None:
        of_group = _read_groups(groups, Names(names, mids))
        known = known and tuple(known[of[0]] if len(of) == 1 else "" for of in of_group.values())
        names, columns = tuple(of_group), list(of_group.values())
    if wanted is not None:
        kept = _chosen(wanted, Names(names, known))
        names, columns = tuple(names[at] for at in kept), [columns[at] for at in kept]
        known = known and tuple(known[at] for at in kept)
    starts = np.cumsum([0, *map(len, columns)])[:-1]
    return Labels(names, known, np.concatenate([np.array(of) for of in columns]), starts)


def _read_groups(path: Path, classes: Names) -> dict[str, list[int]]:
    """{group: columns of its classes}."""
    found: dict[str, list[int]] = {}
    for row in read_rows(path, ("event_label", "group")):
        group, column = row["group"].strip(), classes.find(row["event_label"], row.at)
        if not group:
            raise UserError(f"{row.at}: empty group")
        if column in found.setdefault(group, []):
            raise UserError(f"{row.at}: {row['event_label']} is in {group} twice")
        found[group].append(column)
    if not found:
        raise UserError(f"{path}: no rows, expected a class and its group in each")
    return found


def _chosen(words: Sequence[str], names: Names) -> list[int]:
    """Positions of what is wanted, in the order of the names."""
    found: set[int] = set()
    for word in words:
        if Path(word).is_file():
            found |= {names.find(line, at) for at, line in _lines(Path(word))}
        elif word.casefold().endswith((".txt", ".tsv", ".csv")):
            existing_file(word, "list of classes")
        else:
            found.add(names.find(word, "--labels"))
    return sorted(found)


def _lines(path: Path) -> list[tuple[str, str]]:
    """(`<file>:<line>`, text) of the lines of a text file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    lines = [(f"{path}:{number}", line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: empty, expected a class in each line")
    return lines
