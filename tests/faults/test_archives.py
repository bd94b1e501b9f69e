"""Hostile archives: no validator runs, writes or waits for what somebody sends; every one ends with a verdict."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from common.run.verbs import main
from tests.faults.faults import Tally, limited, one_line

TASKS = ("task1_asc", "task2_anomaly", "task4_sed", "task6_retrieval", "qbv")
TOP = {name: name.partition("_")[0] for name in TASKS}


def zipped(*members: tuple[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return held.getvalue()


def tarred(change: Callable[[tarfile.TarInfo], object]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        info = tarfile.TarInfo("a/b.csv")
        change(info)
        archive.addfile(info, io.BytesIO(b"x" * info.size))
    return held.getvalue()


def linked(kind: bytes, target: str) -> bytes:
    return tarred(lambda info: (setattr(info, "type", kind), setattr(info, "linkname", target)))


def symlink_in_zip(target: bytes) -> bytes:
    info = zipfile.ZipInfo("a/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(info, target)
    return held.getvalue()


def nested(depth: int) -> bytes:
    content = b"x"
    for _ in range(depth):
        content = zipped(("a/inner.zip", content))
    return content


def lying(real: bytes) -> bytes:
    """A zip whose directory says another size than its member has."""
    at = real.rindex(b"PK\x01\x02")
    return real[: at + 24] + (1).to_bytes(4, "little") + real[at + 28 :]


HOSTILE: dict[str, Callable[[str], bytes]] = {
    "above the folder": lambda top: zipped(("../outside.txt", b"x")),
    "absolute": lambda top: zipped(("/tmp/outside-of-the-archive.txt", b"x")),
    "backslashes": lambda top: zipped(("..\\outside.txt", b"x")),
    "a name of a drive": lambda top: zipped(("C:\\outside.txt", b"x")),
    "NUL in a name": lambda top: zipped(("a\0b.txt", b"x")),
    "a name of 5,000 characters": lambda top: zipped((f"{top}/{'a' * 5000}", b"x")),
    "200 folders deep": lambda top: zipped(("/".join([top, *"a" * 200, "x"]), b"x")),
    "file and folder of a name": lambda top: zipped((f"{top}/a", b"x"), (f"{top}/a/b", b"x")),
    "the same member twice": lambda top: zipped((f"{top}/a", b"x"), (f"{top}/A", b"y")),
    "a bomb": lambda top: zipped((f"{top}/a_b/a.csv", b"0" * 300_000_000)),
    "nested": lambda top: nested(40),
    "a lie about the size": lambda top: lying(zipped((f"{top}/a", b"x" * 100_000))),
    "a link to a file": lambda top: symlink_in_zip(b"/etc/passwd"),
    "a link upwards": lambda top: symlink_in_zip(b"../../.."),
    "tar: a link": lambda top: linked(tarfile.SYMTYPE, "/etc/passwd"),
    "tar: a hard link": lambda top: linked(tarfile.LNKTYPE, "/etc/passwd"),
    "tar: a pipe": lambda top: linked(tarfile.FIFOTYPE, ""),
    "tar: a device": lambda top: linked(tarfile.CHRTYPE, ""),
    "tar: above the folder": lambda top: tarred(lambda info: setattr(info, "name", "../outside.txt")),
    "cut": lambda top: zipped((f"{top}/a", b"x" * 10_000))[:-40],
    "nothing in it": lambda top: zipped(),
    "a right top with nothing": lambda top: zipped((f"{top}/", b"")),
    "meta of a bomb": lambda top: zipped((f"{top}/A_B_{top}_1/A_B_{top}_1.meta.yaml", b"a: &a [x]\nb: *c\n")),
    "deep meta": lambda top: zipped((f"{top}/A_B_{top}_1/A_B_{top}_1.meta.yaml", b"[" * 100_000)),
    "binary meta": lambda top: zipped((f"{top}/A_B_{top}_1/A_B_{top}_1.meta.yaml", bytes(range(256)))),
    "a system whose files are folders": lambda top: zipped((f"{top}/A_B_{top}_1/A_B_{top}_1.meta.yaml/x", b"")),
}


@pytest.mark.parametrize("task", TASKS)
def test_hostile_archives(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "sent").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    verbs, lost = import_module(f"{task}.__main__").TASK, []
    for number, (name, make) in enumerate(HOSTILE.items()):
        path = tmp_path / "sent" / f"{number}.{'tar' if name.startswith('tar') else 'zip'}"
        path.write_bytes(make(TOP[task]))
        try:
            with limited(60):
                code = main(verbs, ["validate", str(path)])
        except Exception as error:
            lost.append(f"{name}: {type(error).__name__}: {str(error)[:200]} {one_line(error)}")
            continue
        said = capsys.readouterr()
        if code != 1 or "Traceback" in said.err or len(said.err.strip().splitlines()) > 1:
            lost.append(f"{name}: exit code {code}: {said.err[-300:]}")
        if list((tmp_path / "temporary").iterdir()) or list(tmp_path.glob("outside*")):
            lost.append(f"{name}: left something behind")
    tally(f"hostile archives, {task}", len(HOSTILE), len(HOSTILE) - len(lost))
    assert not Path("/tmp/outside-of-the-archive.txt").exists()
    assert not lost, "\n".join(lost)
