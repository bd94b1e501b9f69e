"""Numbers in tables, as every program of the field reads them; rows of length 1."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBER = re.compile(r"[-+]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE)
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")


def number(text: str) -> float:
    """The number that a field of a table holds, blanks around it aside.

    Raises ValueError for other text, also for what Python alone takes for a number (1_000, ٣). NaN and infinity are
    numbers here.
    """
    if not _NUMBER.fullmatch(text.strip(" \t")):
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def integer(text: str) -> int:
    """The same for whole numbers, written without a point."""
    if not _INTEGER.fullmatch(text.strip(" \t")):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def unit_rows(rows: "NDArray[Any]") -> "NDArray[Any]":
    """Vectors (..., dim) of length 1, those of zeros as they are."""
    import numpy as np  # readers of tables do without

    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
