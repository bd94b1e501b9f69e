"""Folders and names as other people's machines make them."""

import os
from collections.abc import Iterator
from pathlib import Path

# What file managers, indexers and network drives put beside the files that they show.
_CLUTTER = {
    *(
        "__macosx",
        ".ds_store",
        ".appledouble",
        ".fseventsd",
        ".spotlight-v100",
        ".temporaryitems",
        ".trashes",
        "icon\r",
    ),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *(".directory", ".trash-0", ".trash-1000", "@eadir"),
    ".dcase-index",  # of common.search
}


def is_clutter(name: str) -> bool:
    """Whether an operating system made a file or folder of this name (`._x.wav`, `__MACOSX`, `Thumbs.db`, ...)."""
    return name.startswith("._") or name.casefold() in _CLUTTER


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without clutter."""
    return [entry for entry in sorted(folder.iterdir()) if not is_clutter(entry.name)]


def below(folder: Path, left_out: list[str] | None = None) -> Iterator[Path]:
    """Everything below a folder that is no folder, in order; clutter is left out, its paths go to `left_out`.

    Links to folders are not followed and come as they are, as do folders that cannot be listed. Of any depth.
    """
    stack = [folder]
    while stack:
        path = stack.pop()
        if not path.is_dir() or (path.is_symlink() and path != folder):
            yield path
            continue
        try:
            found = sorted(path.iterdir(), reverse=True)
        except OSError:  # no permission, or a path that is too long
            yield path
            continue
        stack += [entry for entry in found if not is_clutter(entry.name)]
        if left_out is not None:
            left_out += [entry.relative_to(folder).as_posix() for entry in found if is_clutter(entry.name)][::-1]


def printable(name: str | Path) -> str:
    r"""A file name as text; bytes that are no UTF-8 are shown as `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
