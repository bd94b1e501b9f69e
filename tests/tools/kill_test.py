"""Kill a task's chain of verbs at random moments, repeat it until it ends, and compare with the undisturbed chain.

    python -m tests.tools.kill_test --task task4_sed --recipe task4_sed/tests/tiny.yaml --kills 10 --seed 0 \
        [--work DIR] [key=value ...] [--runs '1 2 3'] [--verbs prepare:2 train:5 ...]

The chain runs twice in the same place, with a data root and run folders of its own. The first time it is left alone:
that tells when each verb begins and ends to write. The second time `kill -9` hits the verb's whole process group, half
of the times at a moment drawn at random, half of the times after such a moment as soon as a file is being written.
The same command is then repeated until it ends. Afterwards every file of both chains is compared (compare_trees).
Prints a table of the kills and a verdict; ends with exit code 1 on any difference or leftover.

Both chains must run on the same kind of device and with the same number of threads; on CPU they are bit-equal.
"""

import argparse
import fnmatch
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from common.run.errors import UserError
from common.run.results.tables import print_table
from tests.tools.compare_trees import IGNORED_FILES, IGNORED_KEYS, differences, files_below, partials_below

VERBS = ("prepare:2", "train:5", "predict:1", "evaluate:1", "package:1")
# What a kill that waits for a write waits for, in verbs that write such files; in others it takes any.
TARGETS = ("*.ckpt", "*.h5", "*.zip")
POLL = 0.002  # seconds
MOST_ATTEMPTS = 4  # of a verb that ends before it is killed, for each of its kills


@dataclass(frozen=True)
class Step:
    """A verb with its options, and its share of the kills."""

    words: tuple[str, ...]
    share: float

    @property
    def verb(self) -> str:
        return self.words[0]


@dataclass(frozen=True)
class Timing:
    """Seconds after its start when a verb first and last wrote a file, and when it ended."""

    first_write: float
    last_write: float
    end: float
    writes_targets: bool = False  # files that are worth being hit while they are written

    @property
    def writes_early(self) -> bool:
        """Whether it writes all along, so that its first file tells that its work has begun."""
        return self.first_write < self.last_write / 2

    @property
    def work(self) -> float:
        """Seconds in which it is killed: not while it still imports, not after its last file."""
        return self.last_write - min(self.first_write, self.last_write / 2)


@dataclass(frozen=True)
class Kill:
    """One kill -9: the attempt's seconds, whether it hit a file being written, and what lay on the disk then."""

    verb: str
    seconds: float
    in_write: bool
    state: str


@dataclass
class Chain:
    """Where a chain of verbs runs and how its commands look."""

    task: str
    folder: Path
    options: Sequence[str]
    log: Path
    files: dict[str, int] = field(default_factory=dict)  # after each verb of the undisturbed chain

    def command(self, step: Step) -> list[str]:
        return [sys.executable, "-m", self.task, *step.words, *self.options]

    def start(self, step: Step) -> subprocess.Popen[bytes]:
        """Start a verb in a process group of its own; what it prints is added to the log."""
        with open(self.log, "ab") as log:
            log.write(f"$ {' '.join(self.command(step))}\n".encode())
            log.flush()
            return subprocess.Popen(
                self.command(step), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def finish(self, step: Step) -> Timing:
        """Run a verb to its end. Raises UserError where it fails."""
        begin, clock = time.time(), time.monotonic()
        process = self.start(step)
        try:
            code = process.wait()
        except BaseException:
            _kill_group(process)
            raise
        self.check(step, code)
        end = time.monotonic() - clock
        written = {name: when - begin for name, when in _times(self.folder).items() if when >= begin}
        times = list(written.values()) or [end]
        return Timing(min(times), max(times), end, any(_is_target(name) for name in written))

    def check(self, step: Step, code: int) -> None:
        """Raise UserError with the verb's last line for another exit code than 0."""
        if code != 0:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise UserError(f"{step.verb} ended with exit code {code}: {lines[-1]} (all it printed: {self.log})")

    def state(self, step: Step) -> str:
        """What lies on the disk, in a few words."""
        names = list(files_below(self.folder))
        whole = [name for name in names if ".partial" not in name]
        share = f"{len(whole)}/{self.files[step.verb]} files"
        newest = max(_times(self.folder, whole).items(), key=lambda item: item[1], default=("none", 0))[0]
        partial = [name.rsplit("/", 1)[-1] for name in partials_below(self.folder)]
        return f"{share}, newest {newest}" + (f", partial {', '.join(partial[:3])}" if partial else "")


def _times(folder: Path, names: Iterable[str] | None = None) -> dict[str, float]:
    """When each file was last written; without those that vanish meanwhile."""
    times = {}
    for name in files_below(folder) if names is None else names:
        with suppress(FileNotFoundError):
            times[name] = (folder / name).stat().st_mtime
    return times


def _is_target(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in TARGETS)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def parse_step(text: str) -> Step:
    """`train:5` or `evaluate --no-plots:1`; without a share it gets 1."""
    words, colon, share = text.rpartition(":")
    if not colon:
        words, share = text, "1"
    try:
        step = Step(tuple(words.split()), float(share))
    except ValueError:
        raise UserError(f"--verbs: {text!r}, expected a verb and its share of the kills, e.g. train:5") from None
    if not step.words or step.share < 0:
        raise UserError(f"--verbs: {text!r}, expected a verb and a share of 0 or more")
    return step


def share_out(kills: int, steps: Sequence[Step]) -> list[int]:
    """Kills for each step, by largest remainder."""
    total = sum(step.share for step in steps)
    if total <= 0:
        raise UserError("--verbs: the shares of the kills are all 0")
    exact = [kills * step.share / total for step in steps]
    counts = [int(value) for value in exact]
    rest = sorted(range(len(steps)), key=lambda i: counts[i] - exact[i])
    for i in rest[: kills - sum(counts)]:
        counts[i] += 1
    return counts


def kill_moments(count: int, work: float, rng: random.Random) -> list[tuple[float, bool]]:
    """(seconds of work, wait for a write?) of the kills of a verb that goes on where it was killed.

    The `work` seconds are cut into `count` pieces with a moment in each; an attempt lives as long as from one moment
    to the next, so that kills spread over the whole work although finished work is not repeated.
    """
    moments = [(i + rng.random()) / count for i in range(count)]
    lives = [b - a for a, b in zip([0.0, *moments], moments, strict=False)]
    first_waits = rng.random() < 0.5
    return [(life * work, (i % 2 == 0) == first_waits) for i, life in enumerate(lives)]


def kill_once(chain: Chain, step: Step, timing: Timing, seconds: float, wait_for_write: bool) -> Kill | float:
    """Start a verb and kill it after `seconds` of work; or how long it worked where it ended before."""
    known = set(partials_below(chain.folder))
    begin, clock = time.time(), time.monotonic()
    process = chain.start(step)

    def wait(until: Callable[[], object]) -> None:
        while process.poll() is None and not until():
            time.sleep(POLL)

    def writes() -> bool:
        new = set(partials_below(chain.folder)) - known
        return any(_is_target(name) for name in new) if timing.writes_targets else bool(new)

    try:
        if timing.writes_early:
            wait(lambda: max(_times(chain.folder).values(), default=0.0) >= begin or writes())
        else:
            wait(lambda: time.monotonic() - clock >= timing.last_write - timing.work)
        work_began = time.monotonic()
        wait(lambda: time.monotonic() - work_began >= seconds)
        if wait_for_write:
            wait(writes)
        now = time.monotonic()
        ended = process.poll() is not None
    finally:
        _kill_group(process)
    if ended:
        chain.check(step, process.returncode)
        return now - work_began
    return Kill(step.verb, now - clock, wait_for_write, chain.state(step))


def disturb(chain: Chain, step: Step, count: int, timing: Timing, rng: random.Random) -> list[Kill]:
    """Kill a verb `count` times, then let it end. One that ends before its time is started, and killed, again."""
    kills: list[Kill] = []
    moments, early = kill_moments(count, timing.work, rng), 0
    while moments and early < MOST_ATTEMPTS * count:
        seconds, waits = moments[0]
        result = kill_once(chain, step, timing, seconds, waits)
        if isinstance(result, Kill):
            kills.append(result)
            moments.pop(0)
        else:
            early += 1
            moments[0] = (result * rng.uniform(0.2, 0.9), False)
    chain.finish(step)
    return kills


def kill_test(
    task: str, steps: Sequence[Step], kills: int, seed: int, work: Path, options: Sequence[str], data_key: str
) -> tuple[list[Kill], list[str], int]:
    """Both chains in `work`; returns the kills, every difference and leftover, and the number of files compared."""
    place, untouched = work / "chain", work / "untouched"
    for folder in (place, untouched):
        if folder.exists():
            raise UserError(f"{folder}: exists; name a new folder with --work")
    chain = Chain(
        task, place, [*options, "--run-dir", str(place / "runs"), f"{data_key}={place / 'data'}"], work / "log.txt"
    )
    place.mkdir(parents=True)
    timings = []
    for step in steps:
        timings.append(chain.finish(step))
        chain.files[step.verb] = sum(1 for _ in files_below(place))
        print(f"undisturbed {step.verb}: {timings[-1].end:.1f} s", file=sys.stderr, flush=True)
    place.rename(untouched)
    place.mkdir()
    rng, done = random.Random(seed), list[Kill]()
    for step, count, timing in zip(steps, share_out(kills, steps), timings, strict=True):
        done += disturb(chain, step, count, timing, rng)
        print(f"killed {step.verb}: {count} times", file=sys.stderr, flush=True)
    found, compared = differences(untouched, place, IGNORED_FILES, IGNORED_KEYS)
    found += [f"{name}: left over" for name in partials_below(place)]
    return done, found, compared


def show(kills: Sequence[Kill], wanted: int, found: Sequence[str], compared: int) -> None:
    """Print the table of kills, the differences, and the verdict."""
    rows = [
        [str(number), kill.verb, f"{kill.seconds:.2f}", "yes" if kill.in_write else "no", kill.state]
        for number, kill in enumerate(kills, 1)
    ]
    print_table("kill -9", ["kill", "verb", "seconds into it", "while writing", "state found"], rows)
    for line in found:
        print(f"differs: {line}")
    if len(kills) < wanted:
        print(f"only {len(kills)} of {wanted} kills: the verbs ended before; lengthen the recipe")
    verdict = f"{len(found)} differences" if found else "everything is the same as undisturbed"
    print(f"verdict: {len(kills)} kills, {compared} files compared, {verdict}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.tools.kill_test", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--task", required=True, help="package of the task, e.g. task4_sed")
    parser.add_argument("--recipe", required=True, help="a recipe that needs no more than minutes")
    parser.add_argument("--kills", type=int, default=10, help="in all (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--work", type=Path, help="folder for both chains; stays there (default: a temporary one)")
    parser.add_argument("--runs", default="1 2 3", help="trainings (default: '1 2 3')")
    parser.add_argument("--verbs", nargs="+", default=VERBS, help=f"with their shares (default: {' '.join(VERBS)})")
    parser.add_argument("--data-key", default="data.root", help="the setting of the data set's folder")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of the recipe")
    words, extra = parser.parse_known_args(arguments)
    options = ["--recipe", words.recipe, "--runs", *words.runs.split(), *words.settings, *extra]
    work = words.work or Path(tempfile.mkdtemp(prefix="kill-test-"))
    try:
        steps = [parse_step(text) for text in words.verbs]
        kills, found, compared = kill_test(
            words.task, steps, words.kills, words.seed, work.resolve(), options, words.data_key
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(kills, words.kills, found, compared)
    good = not found and len(kills) == words.kills
    if good and words.work is None:
        shutil.rmtree(work)
    else:
        print(f"both chains and what they printed: {work}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
