"""The one exception whose message is meant for the person at the terminal."""

import reprlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

LONGEST_WORD = 200  # that is compared with others: it takes time and memory in proportion to its length


class UserError(Exception):
    """Wrong input: the message is one line that names the file, the line or key, and what would be right.

    result: what the verb returns nonetheless, where only a part of its input was wrong.
    """

    def __init__(self, message: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint for a misspelt word: `; did you mean 'lr'?`, or the choices when nothing is close."""
    choices = sorted(choices)
    close = get_close_matches(word, choices, n=1) if len(word) <= LONGEST_WORD else []
    if close:
        return f"; did you mean {close[0]!r}?"
    shown = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    return f"; known: {shown}"


def brief(value: Any) -> str:
    """How Python writes a value that somebody else wrote, shortened."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 100
    try:
        return short.repr(value)[:200]
    except ValueError:
        return "a number of thousands of digits"
