"""Two containers on one volume: each is process 1 of its own PID namespace, on a host of the same name."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.run.files import _place
from common.run.results.store import read_results
from tests.faults.chain import ROOT, VERBS, Chain, unshared
from tests.faults.faults import Tally
from tests.tools.compare_trees import differences, partials_below

CONTAINER = ("--pid", "--fork", "--mount-proc", "--kill-child")
RECORD = """
import sys
from common.run.results.store import record
for number in range(int(sys.argv[3])):
    record(sys.argv[1], f"{sys.argv[2]}{number}", {"number": number})
"""
WRITE = """
import sys, time
from pathlib import Path
from common.run.files import remove_partials, write_then_rename
path, mark = Path(sys.argv[1]), sys.argv[2]
for _ in range(200):
    remove_partials(path.parent)
    with write_then_rename(path) as partial:
        with open(partial, "w") as file:
            for _ in range(20):
                file.write(mark * 1000)
                file.flush()
    assert path.read_text() in ("a" * 20000, "b" * 20000)
"""


def container() -> list[str]:
    """The command before another one that puts it into a container."""
    words = unshared(*CONTAINER)
    if words is None:
        pytest.skip("no PID namespaces here (unshare --pid needs root or user namespaces)")
    return words


def both(commands: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Run commands side by side, each in a container: exit codes and what they said."""
    before = container()
    started = [
        subprocess.Popen([*before, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    said = [process.communicate(timeout=900)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def test_every_container_has_a_place_of_its_own() -> None:
    code = "import os; from common.run.files import _place; print(os.getpid(), _place())"
    found = [text.split() for _, text in both([[sys.executable, "-c", code]] * 2)]
    assert [pid for pid, _ in found] == ["1", "1"]
    assert len({_place(), *(place for _, place in found)}) == 3


def test_results_of_two_containers_lose_no_section(tmp_path: Path, tally: Tally) -> None:
    number = 20
    commands = [[sys.executable, "-c", RECORD, str(tmp_path), name, str(number)] for name in ("a", "b")]
    assert [code for code, _ in both(commands)] == [0, 0]
    there = read_results(tmp_path)
    wanted = {f"{name}{i}" for name in "ab" for i in range(number)}
    tally("sections of results.json, two containers", len(wanted), len(wanted & set(there)))
    assert set(there) == wanted


def test_files_of_two_containers_stay_whole(tmp_path: Path, tally: Tally) -> None:
    commands = [[sys.executable, "-c", WRITE, str(tmp_path / "file"), mark] for mark in "ab"]
    ended = both(commands)
    tally("one file written by two containers", 400, 400 if [code for code, _ in ended] == [0, 0] else 0)
    assert [code for code, _ in ended] == [0, 0], ended
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.faults
@pytest.mark.parametrize("task", ["task1_asc", "task2_anomaly", "task4_sed", "task6_retrieval"])
def test_every_verb_in_two_containers_at_once(task: str, tmp_path: Path, tally: Tally) -> None:
    """What they leave is what one alone leaves; of two trainings of one run the second says that it is at work."""
    place, alone = Chain(task, tmp_path / "chain"), tmp_path / "alone"
    place.folder.mkdir()
    for verb in VERBS:
        done = place.run(verb)
        assert done.returncode == 0, done.stderr
    place.folder.rename(alone)
    place.folder.mkdir()
    lost = []
    for verb in VERBS:
        for code, said in both([place.command(verb)] * 2):
            if code != 0 and not (verb == "train" and "another process is working on this run" in said):
                lost.append(f"{verb}: {code}: {said[-300:]}")
    found, compared = differences(alone, place.folder)
    found += [f"{name}: left over" for name in partials_below(place.folder)]
    tally(f"verbs in two containers, {task}", 2 * len(VERBS), 2 * len(VERBS) - len(lost))
    tally(f"files after two containers, {task}", compared, compared - len(found))
    assert not lost, "\n".join(lost)
    assert not found, "\n".join(found[:20])


def test_what_a_killed_container_left_goes_after_a_week(tmp_path: Path) -> None:
    code = "from common.run.files import partial_name; print(partial_name('x'))"
    names = [text.strip() for _, text in both([[sys.executable, "-c", code]] * 2)]
    for name in names:
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / names[0], (0, 0))
    from common.run.files import remove_partials

    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [names[1]]
