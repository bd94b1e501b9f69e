"""Progress of long work: a bar in a terminal, a line now and then in a log; with a rate and the remaining time."""

import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LINE_EVERY_SECONDS = 10.0
BAR = 8  # characters that the bar and the blanks beside it take at least


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, rest = divmod(int(max(seconds, 0) + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """What `progress` yields: call it with the number of new steps, or tell it where the work stands."""

    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        self.what, self.total, self.unit, self.done, self.first = what, total, unit, done, done
        self.start = time.monotonic()
        self.note = ""

    def text(self, width: int | None = None) -> str:
        """`30/100 clips · 2.5 clips/s · 0:12 gone · 0:28 left · note`, or what of it fits: the rate goes first."""
        elapsed = time.monotonic() - self.start
        rate = (self.done - self.first) / max(elapsed, 1e-9)
        left = clock((self.total - self.done) / rate) if rate > 0 else "?"
        share = f"{self.done}/{self.total} {self.unit}"
        note = self.note.split(" · ") if self.note else []
        parts = [share, self._pace(rate), f"{clock(elapsed)} gone", f"{left} left", *note]
        for at in (1, 2, *range(len(parts) - 1, 2, -1)):
            if width is not None and len(" · ".join(filter(None, parts))) > width:
                parts[at] = ""
        return " · ".join(filter(None, parts))

    def _pace(self, rate: float) -> str:
        """`2.5 clips/s`; of slow work a minute's or an hour's; nothing before there is a first step."""
        for factor, of in ((1, "s"), (60, "min"), (3600, "h")):
            if rate * factor >= 0.95 or (rate > 0 and of == "h"):
                return f"{rate * factor:.1f} {self.unit}/{of}"
        return ""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` is shown behind the numbers."""
        self.done += steps
        self.note = note or self.note
        self.show()

    def to(self, done: int, total: int) -> None:
        """`done` of `total` steps are done."""
        self.done, self.total = done, total
        self.show()

    def show(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _Lines(Progress):
    """For logs and pipes: one line every few seconds and one at the end."""

    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        super().__init__(what, total, unit, done)
        self.shown = self.start

    def show(self) -> None:
        now = time.monotonic()
        if now - self.shown >= LINE_EVERY_SECONDS:
            self.shown = now
            print(f"{self.what}: {self.text()}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.done > self.first:
            print(f"{self.what}: {self.text()}", file=sys.stderr, flush=True)


class _Silent(Progress):
    """For a worker whose parent shows how far all of them are."""

    def show(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Bar(Progress):
    """For terminals."""

    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        super().__init__(what, total, unit, done)
        console = Console(stderr=True)
        self.room = console.width - len(what) - BAR
        self.bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), console=console
        )
        self.bar.start()
        self.task = self.bar.add_task(what, total=total, completed=done, text=self.text(self.room))

    def show(self) -> None:
        self.bar.update(self.task, completed=self.done, total=self.total, text=self.text(self.room))

    def close(self) -> None:
        self.show()
        self.bar.stop()


_shown_as = ""


def show_as(name: str) -> None:
    """What this process shows from now on begins with `name`, which of several runs it works on ("": none).

    A worker process is silent without a name; with one, its work takes minutes and it shows lines.
    """
    global _shown_as
    _shown_as = name


@contextmanager
def progress(what: str, total: int, unit: str = "clips", done: int = 0) -> Iterator[Progress]:
    """Show the progress of a block. `done` of `total` steps were made before (resumed work).

    Goes to standard error, so that standard output stays clean for results.
    """
    kind = _Silent if multiprocessing.parent_process() else _Bar if sys.stderr.isatty() else _Lines
    if _shown_as:
        kind, what = _Lines if kind is _Silent else kind, f"{_shown_as}: {what}"
    report = kind(what, total, unit, done)
    try:
        yield report
    finally:
        report.close()
