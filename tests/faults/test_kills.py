"""kill -9 at any moment of any verb of any task: the same command goes on, to what the undisturbed one gives."""

import re
from pathlib import Path

import pytest

from tests.faults.chain import ROOT, SMALL
from tests.faults.faults import Tally
from tests.tools.kill_test import main

pytestmark = pytest.mark.faults
# The other verbs that write files; `prepare`, `train`, `predict`, `evaluate` and `compare` are everybody's.
MORE = {
    "task1_asc": ["teach:1", "export:1"],
    "task2_anomaly": ["package:1"],
    "task4_sed": ["predict --floors:1"],
    "task6_retrieval": ["predict --sets clotho_development:1", "export:1"],
    "zeroshot": ["distance:1"],
}
KILLS = 12


@pytest.mark.parametrize("task", sorted(SMALL))
def test_killed_chain(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], tally: Tally) -> None:
    recipe = str(ROOT / task / "tests" / "tiny.yaml")
    words = ["--task", task, "--recipe", recipe, "--kills", str(KILLS), "--seed", "0", "--work", str(tmp_path / "work")]
    verbs = ["prepare:2", "train:4", "predict:2", "evaluate:1", "compare:1", *MORE[task]]
    code = main(
        [*words, "--runs", "1", *SMALL[task], "trainer.max_epochs=2", "energy.enabled=false", "--verbs", *verbs]
    )
    said = capsys.readouterr().out
    verdict = re.search(r"verdict: (\d+) kills, (\d+) files compared, (?:(\d+) differences)?", said)
    assert verdict is not None, said
    kills, compared, different = (int(number or 0) for number in verdict.groups())
    tally(f"kill -9, {task}", kills, kills if code == 0 else 0)
    tally(f"files after kill -9, {task}", compared, compared - different)
    assert code == 0, said
