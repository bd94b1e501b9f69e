"""What an archive is measured by: the challenge's evaluation set, or that of the recipe's own data.

Without a word of the person: by the recipe's data where these are the challenge's (which then gives the names of the
clips too), or where the archive was packed from them (toy data, data built from recordings); else by the challenge.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.run.errors import UserError
from common.run.submission.archive import comment_of, write_comment
from common.run.submission.violations import Measure

_COMMENT = "packed from {} data: no submission to a challenge"


def mark(archive: Path, made_of: str) -> None:
    """Note in an archive of own runs that their data are not the challenge's. made_of: as `common.audio` says."""
    if made_of != "official":
        write_comment(archive, _COMMENT.format(made_of))


def packed_from(archive: Path) -> str | None:
    """What the data were made of that an archive of own runs was packed from, as `mark` noted; else None."""
    noted = re.fullmatch(re.escape(_COMMENT).replace(r"\{\}", "(.+)"), comment_of(archive))
    return noted[1] if noted else None


@dataclass(frozen=True)
class OwnData:
    """The recipe's data set. made_of: root -> "official", "toy", ...; fits: it has an evaluation set of the edition."""

    root: str | None
    made_of: Callable[[Path], str]
    fits: bool = True

    @cached_property
    def kind(self) -> str | None:
        """What it is made of; None where it is not there."""
        there = self.root is not None and self.fits and Path(self.root).is_dir()
        return self.made_of(Path(str(self.root))) if there else None

    def measures(self, archive: Path, asked: Measure | None) -> bool:
        """Whether an archive is measured by it. Raises UserError where it is asked for and not there."""
        if asked == "recipe" and self.kind is None:
            where = f"{self.root} has no evaluation set of this edition" if self.root else "data.root names no data set"
            raise UserError(f"--measure recipe: {where}; --measure challenge takes the challenge's evaluation set")
        if asked is not None or self.kind is None:
            return asked == "recipe"
        return self.kind == (packed_from(archive) or "official")

    def told(self, archive: Path, asked: Measure | None, challenge: str, refused: bool = False) -> str:
        """`described`; and where `package` measured the archive by data that are not here, how to do so again.

        refused: the verdict would be another one then. Raises UserError.
        """
        text, kind = self.described(archive, asked, challenge), packed_from(archive)
        if kind is None or asked is not None or self.measures(archive, asked):
            return text
        again = f"`package` measured it by the {kind} data it was packed from: data.root=DIR names them"
        if refused:
            raise UserError(f"{archive}: {again}; --measure challenge takes the challenge's evaluation set")
        return f"{text}; {again}"

    def described(self, archive: Path, asked: Measure | None, challenge: str) -> str:
        """What an archive is measured by, for the person. challenge: the challenge's evaluation set, in words."""
        if self.measures(archive, asked):
            return f"the evaluation set of {self.root} ({self.kind} data)"
        return challenge + (f" (--measure recipe: by {self.root})" if self.kind else "")
