"""Files that appear whole or not at all, and tables whose mistakes are named."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError, did_you_mean
from common.run.files import (
    _PROCESS,
    alone,
    existing_file,
    existing_folder,
    is_complete,
    read_json,
    read_rows,
    remove_partials,
    sha256,
    write_folder_then_rename,
    write_json,
    write_rows,
    write_text,
    write_then_rename,
)
from common.run.files import (
    partial_name as partial_name_of,
)
from common.run.numbers import integer, number
from common.tests.helpers import partial_name


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_did_you_mean() -> None:
    assert did_you_mean("leraning", ["learning", "other"]) == "; did you mean 'learning'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("zzz", [f"k{i:02d}" for i in range(13)]).endswith("k11, ...")


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.tar.gz"
    with write_then_rename(path) as partial:
        assert partial.parent == path.parent
        assert partial.suffix == ".gz"
        partial.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with write_then_rename(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_partials_of_dead_processes_are_removed(tmp_path: Path, dead_pid: int) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    stale, whole, live = (
        partial_name("a", dead_pid, ".txt"),
        partial_name("b", dead_pid),
        partial_name("c", os.getppid()),
    )
    earlier = partial_name("e", os.getpid())  # of an earlier process that had this one's number
    own, elsewhere = (
        partial_name("f", os.getpid(), process=_PROCESS),
        partial_name("g", dead_pid, place="0" * 12),
    )  # of another container or host
    abandoned = partial_name("h", dead_pid, place="0" * 12)
    for name in (stale, live, earlier, own, elsewhere, abandoned, "a.txt", ".hidden", ".d.partial"):
        (folder / name).write_text("x")
    os.utime(folder / abandoned, (0, time.time() - 8 * 24 * 3600))
    (folder / whole).mkdir()
    (folder / whole / "inside").write_text("x")
    remove_partials(tmp_path)
    kept = [live, own, elsewhere, "a.txt", ".hidden", ".d.partial"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(kept)


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5, None], "where": Path("x")})
    assert read_json(path) == {"a": [1, 2.5, None], "where": "x"}
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert read_json(path)["a"] == [1, 2.5, None]
    path.write_text('{\n"a": 1,\n}')
    with pytest.raises(UserError, match=r"a\.json:3: not valid JSON"):
        read_json(path)
    path.write_bytes(b"\xff{}")
    with pytest.raises(UserError, match=r"a\.json:1: not valid JSON"):
        read_json(path)


def test_existing_paths(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert existing_file(str(file)) == file
    assert existing_folder(tmp_path) == tmp_path
    for call, path, message in (
        (existing_file, tmp_path / "no", "no: table not found"),
        (existing_file, tmp_path, "is a folder, expected a table"),
        (existing_folder, tmp_path / "no", "no: table not found"),
        (existing_folder, file, "is a file, expected a table"),
    ):
        with pytest.raises(UserError, match=message):
            call(path, "table")


def test_sha256(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    content = os.urandom(3_000_000)
    (tmp_path / "b").write_bytes(content)
    assert sha256(tmp_path / "b") == hashlib.sha256(content).hexdigest()


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "set"

    def fail() -> None:
        with write_folder_then_rename(folder) as partial:
            (partial / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()  # an empty one is in nobody's way
    with write_folder_then_rename(folder) as partial:
        (partial / "a").touch()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["set", "set/a"]
    with pytest.raises(OSError, match="not empty"), write_folder_then_rename(folder) as partial:
        (partial / "b").touch()
    assert [p.name for p in folder.iterdir()] == ["a"]


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path: Path, dead_pid: int) -> None:
    with write_folder_then_rename(tmp_path / "set") as partial:
        stale = partial.with_name(partial.name.replace(str(os.getpid()), str(dead_pid)))
        other = partial.with_name(partial.name.replace(".set.", ".other."))
    for left in (stale, other):
        left.mkdir()
        (left / "x").touch()
    (tmp_path / "set").rmdir()
    with write_folder_then_rename(tmp_path / "set"):
        assert not stale.exists()
        assert other.exists()


def test_is_complete(tmp_path: Path) -> None:
    folder, identity = tmp_path / "set", {"seed": 0, "of": (1, 2)}
    assert not is_complete(folder, "m.json", identity)
    folder.mkdir()
    assert not is_complete(folder, "m.json", identity)
    (folder / "x").touch()
    with pytest.raises(UserError, match=r"exists and has no m\.json"):
        is_complete(folder, "m.json", identity)
    write_json(folder / "m.json", identity)
    assert is_complete(folder, "m.json", identity)
    with pytest.raises(UserError, match="made with seed=0, now 1"):
        is_complete(folder, "m.json", {**identity, "seed": 1})
    with pytest.raises(UserError, match=r"made with of=\[1, 2\], now None"):
        is_complete(folder, "m.json", {"seed": 0})
    with pytest.raises(UserError, match="is a file"):
        is_complete(folder / "x", "m.json", identity)


def table(tmp_path: Path, content: str | bytes, name: str = "a.tsv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    ["filename\tlabel\na.wav\tDog\n\nb.wav\t\n", "\ufefffilename\tlabel\r\na.wav\tDog\r\nb.wav\r\n"],
    ids=["plain", "with byte order mark, CRLF and a dropped tab"],
)
def test_rows(tmp_path: Path, content: str) -> None:
    rows = read_rows(table(tmp_path, content), ("label", "filename"))
    assert [dict(row) for row in rows] == [{"filename": "a.wav", "label": "Dog"}, {"filename": "b.wav", "label": ""}]
    assert rows[0].at == f"{tmp_path / 'a.tsv'}:2"


def test_the_delimiter_follows_the_suffix(tmp_path: Path) -> None:
    (row,) = read_rows(table(tmp_path, 'name,text\nx,"a,b\tc"\n', "a.csv"), ("name",))
    assert row["text"] == "a,b\tc"
    (row,) = read_rows(table(tmp_path, "name;text\nx;y,z\n"), ("name",), delimiter=";")
    assert row["text"] == "y,z"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.tsv: empty, expected a header line with filename, onset"),
        ("filename\tonsett\n", "a.tsv:1: no column 'onset'; did you mean 'onsett'?"),
        ("filename\tonset\tx\na.wav\t0\n", "a.tsv:2: 2 fields, expected 3 as in the header"),
        ("filename\tonset\na.wav\t0\t1\n", "a.tsv:2: 3 fields, expected 2 as in the header"),
        (b"filename\tonset\n\xff\xfe\t0\n", "a.tsv: not a text file in UTF-8"),
        ('filename\tonset\n"a.wav\t0\nb.wav\t1\n', "a.tsv:3: unexpected end of data"),
        ('filename\tonset\n"a"b.wav\t0\n', "a.tsv:2: "),
        (f"filename\tonset\n{'x' * 200_000}\t0\n", "a.tsv:2: field larger than field limit"),
    ],
)
def test_a_broken_table_is_named_by_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_rows(table(tmp_path, content), ("filename", "onset"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.tsv: table not found"):
        read_rows(tmp_path / "no.tsv", ("a",))


@pytest.mark.parametrize("text", ["x", "", "nan", "inf", "-inf", "1,5"])
def test_numbers_of_a_row(tmp_path: Path, text: str) -> None:
    good, bad = read_rows(table(tmp_path, f"a\tb\n1e-3\t\n{text}\t\n"), ("a",))
    assert good.number("a") == 0.001
    with pytest.raises(UserError, match=rf"a\.tsv:3: a is '{text}', expected a (finite )?number"):
        bad.number("a")


@settings(deadline=None, max_examples=30)
@given(
    fields=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=6)] * 2), max_size=4
    ),
    suffix=st.sampled_from([".tsv", ".csv"]),
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, fields: list[tuple[str, str]], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"a{suffix}"
    write_rows(path, ("x", "y"), fields)
    assert [(row["x"], row["y"]) for row in read_rows(path, ("x", "y"))] == fields


@pytest.mark.parametrize("text", ["1_0", "٣", "0x10", "1e", "--1", "1 2", "²"])
def test_numbers_are_those_of_the_field_not_pythons(tmp_path: Path, text: str) -> None:
    (row,) = read_rows(table(tmp_path, f"a\tb\n{text}\tx\n"), ("a",))
    with pytest.raises(UserError, match=r"a\.tsv:2: a is .*, expected a number"):
        row.number("a")
    for read in (number, integer):
        with pytest.raises(ValueError, match="number"):
            read(text)


@pytest.mark.parametrize(
    ("text", "value"), [(" 1 ", 1.0), ("+.5", 0.5), ("2.", 2.0), ("-1E-3", -0.001), ("0010", 10.0)]
)
def test_numbers_as_they_are_written(text: str, value: float) -> None:
    assert number(text) == value


@given(st.floats())
def test_every_number_that_python_writes_is_read(value: float) -> None:
    assert number(repr(value)) == value or value != value


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.tsv:1: column 'x' is there twice"):
        read_rows(table(tmp_path, "a\tx\tx\n1\t2\t3\n"), ("a",))
    (row,) = read_rows(table(tmp_path, "a\t\t\n1\t\t\n"), ("a",))  # what an editor leaves behind the last column
    assert row["a"] == "1"


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_pipe_or_a_device_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tsv"
    os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"a\.tsv: is a pipe or a device, expected a table"):
        read_rows(path, ("a",))


def test_json_without_end(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a": ' * 100_000, '{"a": ' + "9" * 5000 + "}"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UserError, match=r"a\.json:1: not valid JSON"):
            read_json(tmp_path / "a.json")


HOLD = """
import sys, time
from pathlib import Path
from common.run.files import alone
with alone(Path(sys.argv[1]), "x"):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_a_lock_is_waited_for_and_ends_with_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen([*command, "0.5"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with alone(tmp_path, "y"):  # another name is another lock
            assert other.poll() is None
        with alone(tmp_path, "x"):
            assert other.wait() == 0
    assert "another process works on it; waiting" in capsys.readouterr().err
    with subprocess.Popen([*command, "60"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        other.kill()
        with alone(tmp_path, "x"):
            pass
    with alone(tmp_path / "no", "x"):  # nothing there to be alone in
        assert not (tmp_path / "no").exists()


def test_temporary_names_differ_for_every_file_and_fit(tmp_path: Path) -> None:
    names = {partial_name_of("a") for _ in range(100)}
    assert len(names) == 100
    for stem in ("x" * 240, "é" * 120):
        write_text(tmp_path / f"{stem}.txt", "a")
        assert (tmp_path / f"{stem}.txt").read_text() == "a"
