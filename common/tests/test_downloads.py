"""`prepare --download` against a server of this process that answers as Zenodo does."""

import functools
import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from common.audio import downloads
from common.audio.downloads import COLUMNS, download, fetch_sources, read_sources, table_of
from common.run.errors import UserError
from common.run.files import write_rows

ROOT = Path(__file__).resolve().parents[2]
TABLES = sorted(ROOT.glob("*/downloads.csv"))


class Server(ThreadingHTTPServer):
    """Files at /file/NAME, in ranges, the record with all of them at /record/1; `cut`: bytes of the next answers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.md5: dict[str, str] = {}
        self.cut: list[int] = []
        self.seen: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def record(self) -> bytes:
        files = [
            {
                "key": name,
                "size": len(content),
                "checksum": f"md5:{self.md5.get(name, hashlib.md5(content).hexdigest())}",
                "links": {"self": f"{self.address}/file/{name}"},
            }
            for name, content in self.files.items()
        ]
        return json.dumps({"files": files}).encode()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, name = self.server, self.path.rpartition("/")[2]
        content = server.record() if self.path == "/record/1" else server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range", "bytes=0-")
        server.seen.append(f"{name} {wanted}")
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        length = server.cut.pop(0) if server.cut and self.path != "/record/1" else len(content)
        self.wfile.write(content[start : start + length])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        monkeypatch.setattr(downloads, "ZENODO", f"{server.address}/record/")
        yield server
        server.shutdown()
        thread.join()


class Place(NamedTuple):
    """The settings that say where a data set lies."""

    root: str | None
    toy: str | None = None
    packs: str | None = None


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, f"content of {name}" * 100)
    return content.getvalue()


def tarred(*names: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return content.getvalue()


Fetch = Callable[..., dict[str, Any]]


@pytest.fixture
def fetch(server: Server, tmp_path: Path) -> Fetch:
    """Fetch names into tmp_path/data by a table of rows, given as {column: text}."""

    def run(*names: str, rows: list[dict[str, str]] | None = None, place: Place | None = None) -> dict[str, Any]:
        default = [{"name": "set", "record": "1", "file": "*", "into": "dev_data", "without": "dev_data"}]
        table = tmp_path / "downloads.csv"
        write_rows(table, COLUMNS, [[row.get(column, "") for column in COLUMNS] for row in rows or default])
        return download(table, names, place or Place(str(tmp_path / "data")), "baseline")

    return run


def below(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and ".locks" not in path.parts
    }


def test_nothing_is_fetched_without_a_name(server: Server, fetch: Fetch, tmp_path: Path, capsys: Any) -> None:
    rows = [
        {"name": "set", "holds": "clips", "record": "1", "file": "*", "licence": "CC BY 4.0", "into": "dev_data"},
        {"name": "other", "holds": "labels", "note": "from the organisers"},
    ]
    found = fetch(rows=rows)
    text = capsys.readouterr().out
    assert list(found["sources"]) == ["set", "other"]
    for word in ("Zenodo 1", "CC BY 4.0", "not known here", "data.root/dev_data", "by hand", "from the organisers"):
        assert word in text
    assert server.seen == []
    assert not (tmp_path / "data").exists()


def test_archives_lie_in_the_layout_and_are_gone(server: Server, fetch: Fetch, tmp_path: Path, capsys: Any) -> None:
    server.files = {
        "fan.zip": zipped("dev_data/fan/train/a.wav", "fan/test/b.wav", "__MACOSX/c"),
        "pump.tar.gz": tarred("pump/train/x.wav"),
        "labels.csv": b"a,b\n",
    }
    found = fetch("set")
    assert sorted(found["fetched"]) == ["fan.zip", "labels.csv", "pump.tar.gz"]
    in_place = {"fan/train/a.wav", "fan/test/b.wav", "pump/train/x.wav", "labels.csv"}
    notes = {f"downloads/{name}.json" for name in server.files}
    assert below(tmp_path / "data") == {f"dev_data/{name}" for name in in_place} | notes
    assert "content of dev_data/fan" in (tmp_path / "data/dev_data/fan/train/a.wav").read_text()
    assert "3 files fetched, 0 were there" in capsys.readouterr().out
    server.seen.clear()
    again = fetch("set")
    assert again == {"fetched": [], "there": found["fetched"]}
    assert server.seen == ["1 bytes=0-"]  # the list of files alone


def test_a_cut_download_goes_on_and_nothing_is_in_place_before(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    server.files, server.cut = {"fan.zip": zipped("fan/a.wav")}, [200]
    with pytest.raises(UserError, match="cut after 200 of"):
        fetch("set")
    assert below(tmp_path / "data") == {"downloads/fan.zip.part", "downloads/fan.zip.part.tag"}
    fetch("set")
    assert server.seen[-1] == "fan.zip bytes=200-"
    assert "dev_data/fan/a.wav" in below(tmp_path / "data")


def test_stopped_between_unpacking_and_placing_goes_on(
    server: Server, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"fan.zip": zipped("fan/a.wav", "fan/b.wav", "fan/c.wav")}
    moves = []

    def move_twice(*arguments: Any) -> None:
        moves.append(arguments)
        if len(moves) == 3:
            raise KeyboardInterrupt
        original(*arguments)

    original = downloads._move
    with monkeypatch.context() as patched:
        patched.setattr(downloads, "_move", move_twice)
        with pytest.raises(KeyboardInterrupt):
            fetch("set")
    server.seen.clear()
    fetch("set")
    assert server.seen == ["1 bytes=0-"]  # the archive was there
    assert below(tmp_path / "data") == {"downloads/fan.zip.json", *(f"dev_data/fan/{n}.wav" for n in "abc")}


def test_wrong_md5(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    server.files, server.md5 = {"fan.zip": zipped("fan/a.wav")}, {"fan.zip": "0" * 32}
    with pytest.raises(UserError, match=f"fan.zip: MD5 of the download is [0-9a-f]{{32}}, expected {'0' * 32}"):
        fetch("set")
    assert below(tmp_path / "data") == set()
    server.seen.clear()
    row = {"name": "set", "record": "1", "file": "fan.zip", "md5": "1" * 32}
    with pytest.raises(UserError, match=f"MD5 in Zenodo record 1 is {'0' * 32}, expected {'1' * 32}"):
        fetch("set", rows=[row])
    assert server.seen == ["1 bytes=0-"]


@pytest.mark.parametrize("content", [zipped("../outside.txt"), tarred("a/../../outside.txt"), tarred("/outside.txt")])
def test_archives_that_lead_out(server: Server, fetch: Fetch, tmp_path: Path, content: bytes) -> None:
    server.files = {"evil.zip": content}
    with pytest.raises(UserError, match=r"evil.zip: member '.*outside.txt' (leads out|has an absolute name)"):
        fetch("set")
    assert below(tmp_path / "data") == {"downloads/evil.zip"}
    assert not list(tmp_path.rglob("outside.txt"))


def test_nobodys_files_are_overwritten(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    server.files = {"fan.zip": zipped("fan/a.wav", "fan/b.wav")}
    mine = tmp_path / "data/dev_data/fan/b.wav"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=r"b\.wav: is there and differs from that of .*fan\.zip"):
        fetch("set")
    assert mine.read_text() == "mine"
    mine.unlink()
    fetch("set")
    assert mine.read_text() != "mine"


def test_disk_space_is_looked_at_first(
    server: Server, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"fan.zip": zipped("fan/a.wav"), "pump.zip": zipped("pump/a.wav")}
    size = len(server.files["fan.zip"]) + 2 * len(server.files["pump.zip"])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=size - 1))
    with pytest.raises(UserError, match="do not fit on this disk"):
        fetch("set")
    assert server.seen == ["1 bytes=0-"]
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    fetch("set")


def test_single_files_and_plain_addresses(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    server.files = {"dev_fan.zip": zipped("fan/a.wav"), "dev_pump.zip": zipped("pump/a.wav"), "split5.csv": b"x\n"}
    row = {"name": "splits", "file": "split5.csv", "address": f"{server.address}/file/split5.csv", "into": "splits"}
    rows = [{"name": "set", "record": "1", "file": "dev_*.zip"}, row]
    fetch("set/dev_pump.zip", "splits", rows=rows)
    assert below(tmp_path / "data") == {
        "pump/a.wav", "splits/split5.csv", "downloads/dev_pump.zip.json", "downloads/split5.csv.json",
    }  # fmt: skip


def test_what_cannot_be_fetched_is_one_line(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    gone = {"name": "gone", "file": "x.csv", "address": f"{server.address}/file/x.csv"}
    rows = [
        {"name": "set", "record": "1", "file": "dev_*.zip"},
        {"name": "missing", "record": "2", "file": "*"},
        {"name": "hand", "note": "from the organisers", "into": "audio"},
        gone,
    ]
    for name, message in (
        ("sett", "unknown data set 'sett'; did you mean 'set'"),
        ("hand", "--download hand: cannot be fetched, it is there by hand only: from the organisers"),
        ("set", r"Zenodo record 1: has no file dev_\*\.zip \(set\)"),
        ("missing", "record/2: no answer (404 Not Found.; by hand: Zenodo record 2, unpacked into data.root"),
        ("gone", "x.csv: not fetched from .* (404"),
        ("gone/y.csv", "--download gone/y.csv: no such file"),
    ):
        with pytest.raises(UserError, match=message.replace("(404", r"\(404")) as error:
            fetch(name, rows=rows)
        assert "\n" not in str(error.value)
    for place in (Place(None), Place(str(tmp_path), toy="tiny")):
        with pytest.raises(UserError, match=r"--recipe baseline data\.root=DIR"):
            fetch("set", rows=rows, place=place)


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b'{"files": [{"key": "../x", "size": 1, "links": {"self": "a"}}]}']
)
def test_an_answer_that_is_no_record(
    server: Server, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(Server, "record", lambda _: answer)
    with pytest.raises(UserError, match="record/1: not the list of files of a Zenodo record"):
        fetch("set")


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.parent.name)
def test_tables_of_the_tasks(table: Path) -> None:
    """Names are those of one place each; hashes are MD5; nothing leads out of data.root."""
    sources = read_sources(table)
    assert len(sources) > 5
    for source in sources:
        assert source.name
        assert source.holds
        assert not (source.record and source.address)
        assert source.by_hand == bool(not source.file)
        assert not source.by_hand or source.note
        assert source.record.isdigit() or not source.record
        assert not source.md5 or len(bytes.fromhex(source.md5)) == 16
        assert ".." not in source.into
        assert not source.into.startswith("/")
    readme = table.with_name("README.md").read_text(encoding="utf-8")
    for cells in table_of(sources):
        assert f"| {' | '.join(cells)} |" in readme
    assert all(" ".join(source.note.split()) in " ".join(readme.split()) for source in sources)
    hashes = [source.md5 for source in sources if source.md5]
    assert len(hashes) == len(set(hashes))


def test_fetching_none_of_them_asks_nobody(tmp_path: Path) -> None:
    assert fetch_sources([], tmp_path / "data") == {"fetched": [], "there": []}
