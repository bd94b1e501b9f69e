"""A task's verbs on its tiny data set, as commands of their own, in a folder that many may share."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What makes a task's tiny recipe as small as it goes.
SMALL: dict[str, tuple[str, ...]] = {
    "task1_asc": ("data.splits=[5]", "trainer.check_val_every_n_epoch=1", "data.workers=0"),
    "task2_anomaly": ("data.machines=[fan_id_00,fan_id_01]",),  # one of each set
    "task4_sed": ("data.workers=0",),
    "task6_retrieval": (),
    "zeroshot": ("split.files=[near.csv]",),
}
VERBS = ("prepare", "train", "predict", "evaluate", "compare")


@dataclass(frozen=True)
class Chain:
    """Where a task's data set and runs lie."""

    task: str
    folder: Path

    def command(self, verb: str, *words: str) -> list[str]:
        """A verb in this folder, with one short training."""
        recipe = ROOT / self.task / "tests" / "tiny.yaml"
        usual = ["--recipe", str(recipe), "--run-dir", str(self.folder / "runs"), f"data.root={self.folder / 'data'}"]
        small = ["trainer.max_epochs=1", "energy.enabled=false", *SMALL[self.task]]
        return [sys.executable, "-m", self.task, verb, *words, *usual, *small]

    def run(self, verb: str, *words: str, before: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        """Run a verb to its end; `before` stands before the command."""
        return subprocess.run(
            [*before, *self.command(verb, *words)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
        )


def unshared(*what: str) -> list[str] | None:
    """The command that runs another one in namespaces of its own; None where that is not allowed."""
    words = ["unshare", *what]
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        allowed = False
    return words if allowed else None


def ends_with_one_line(done: "subprocess.CompletedProcess[str]") -> bool:
    """Whether a verb ended well, or with exit code 1 and a last line that says why, without a traceback."""
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return "Traceback" not in done.stderr and (done.returncode == 0 or (done.returncode == 1 and "error: " in last))
