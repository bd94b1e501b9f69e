"""The one exception whose message is meant for the person at the terminal."""

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """Wrong input: the message is one line that names the file, the line or key, and what would be right."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint for a misspelt word: `; did you mean 'lr'?`, or the choices when nothing is close."""
    choices = sorted(choices)
    close = get_close_matches(word, choices, n=1)
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
