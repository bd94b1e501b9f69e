"""Cores within the quota of a container, and work shared by processes."""

import os
from pathlib import Path

import pytest

from common.run import processes
from common.run.errors import UserError
from common.run.files import existing_file
from common.run.processes import each, usable_cores


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/of/the/host", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        ("4:cpu,cpuacct:/docker/x", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ("4:cpu:/\n3:cpuset:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_cores_are_those_of_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], cores: int
) -> None:
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    monkeypatch.setattr(processes, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(processes, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores() == cores
    (tmp_path / "own").unlink()
    assert usable_cores() == 8


def test_work_in_processes_and_in_this_one() -> None:
    for workers in (1, 2):
        assert sorted(each(pow, [(2, 3), (3, 2)], workers)) == [((2, 3), 8, None), ((3, 2), 9, None)]


def test_a_killed_process_is_a_user_error() -> None:
    with pytest.raises(UserError, match="out of memory"):
        list(each(os._exit, [(1,), (2,)], 2))


def test_a_user_error_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for jobs in (1, 2):
        found = each(existing_file, [(tmp_path / "b",), (tmp_path / "a",)], jobs)
        problems = {path: problem for (path,), _, problem in found}
        assert problems == {tmp_path / "a": None, tmp_path / "b": f"{tmp_path / 'b'}: file not found"}
