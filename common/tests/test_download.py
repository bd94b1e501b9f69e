"""Downloads against a server of this process: resumed, verified, shared, and clear where they fail."""

import functools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from common import encoders
from common.run import download
from common.run.errors import UserError
from common.run.files import sha256
from common.run.progress import Progress

CONTENT = bytes(range(256)) * 2**14  # 4 MiB


class Server(ThreadingHTTPServer):
    """Gives CONTENT at /file.pt. cut: bytes after which connections break, in turn; ranges: whether it can resume."""

    def __init__(self) -> None:
        self.cut: list[int] = []
        self.ranges = True
        self.version = ""
        self.redirect = ""
        self.seen: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.pt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.seen.append(wanted or "all")
        if self.path != "/file.pt":
            self.send_error(404)
            return
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        if self.headers.get("If-Range", server.version) != server.version:
            wanted = None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if server.version:
            self.send_header("ETag", server.version)
        self.end_headers()
        length = server.cut.pop(0) if server.cut else len(CONTENT)
        self.wfile.write(CONTENT[start : start + length])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file.pt"


def part_of(path: Path) -> Path:
    return path.with_name("file.pt.part")


def test_fetch_and_never_again(server: Server, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    digest = download.fetch(server.address, path)
    assert path.read_bytes() == CONTENT
    assert digest == sha256(path)
    assert caplog.text.count("no SHA-256 is published") == 1
    assert download.fetch(server.address, path) == digest
    assert server.seen == ["all"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["file.pt", "file.pt.sha256"]
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="remove the file to download it again"):
        download.fetch(server.address, path)
    assert caplog.text.count("no SHA-256 is published") == 1


def test_cut_connection_is_resumed(server: Server, path: Path) -> None:
    server.cut = [1_000_000, 2_500_000]
    for kept in (1_000_000, 3_500_000):
        with pytest.raises(
            UserError, match=rf"cut after {kept} of {len(CONTENT)} bytes; the next call goes on"
        ) as error:
            download.fetch(server.address, path)
        assert str(path) in str(error.value)
        assert not path.exists()
        assert part_of(path).stat().st_size == kept
    download.fetch(server.address, path)
    assert path.read_bytes() == CONTENT
    assert server.seen == ["all", "bytes=1000000-", "bytes=3500000-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    server: Server, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.version, server.cut = '"one"', [1_000_000]
    with pytest.raises(UserError, match="cut after"):
        download.fetch(server.address, path)
    other = CONTENT[::-1]
    monkeypatch.setitem(globals(), "CONTENT", other)
    server.version = '"two"'
    download.fetch(server.address, path)
    assert path.read_bytes() == other
    assert path.with_name("file.pt.sha256").exists()  # in one piece after all


@pytest.mark.parametrize("version", ["", '"one"'])
def test_no_hash_is_noted_of_what_came_in_pieces(
    server: Server, path: Path, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.version, server.cut = version, [1_000_000]
    with pytest.raises(UserError, match="cut after"):
        download.fetch(server.address, path)
    download.fetch(server.address, path)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.pt"]
    assert "fetched in pieces" in caplog.text


@pytest.mark.parametrize("address", ["http://example.org/file.pt", "ftp://example.org/file.pt", "file:///etc/hosts"])
def test_https_only(server: Server, path: Path, address: str) -> None:
    with pytest.raises(UserError, match="not https"):
        download.fetch(address, path)
    server.redirect = address
    with pytest.raises(UserError, match=r"not https|not allowed"):
        download.fetch(server.address, path)
    assert not path.exists()


def test_server_that_cannot_resume(server: Server, path: Path) -> None:
    server.ranges, server.cut = False, [1_000_000]
    with pytest.raises(UserError, match="cut after"):
        download.fetch(server.address, path)
    download.fetch(server.address, path)
    assert path.read_bytes() == CONTENT


def test_part_that_is_the_whole(server: Server, path: Path) -> None:
    """A kill between the last byte and the renaming."""
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT)
    download.fetch(server.address, path)
    assert path.read_bytes() == CONTENT


def test_part_that_is_too_long(server: Server, path: Path) -> None:
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT + b"x")
    download.fetch(server.address, path)
    assert path.read_bytes() == CONTENT


def test_wrong_hash(server: Server, path: Path) -> None:
    with pytest.raises(UserError, match=f"SHA-256 of the download is {'[0-9a-f]' * 64}, expected {'0' * 64}"):
        download.fetch(server.address, path, "0" * 64)
    assert list(path.parent.iterdir()) == []


def test_ctrl_c_keeps_the_part(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "to", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download.fetch(server.address, path)
    assert 0 < part_of(path).stat().st_size < len(CONTENT)
    download.fetch(server.address, path)
    assert path.read_bytes() == CONTENT
    assert server.seen[1].startswith("bytes=")


def test_two_at_once(server: Server, path: Path) -> None:
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(download.fetch(server.address, path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [sha256(path)] * 4
    assert server.seen == ["all"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["file.pt", "file.pt.sha256"]


def test_offline_and_missing_say_where_to_put_it(server: Server, path: Path) -> None:
    missing = server.address.replace("file.pt", "other.pt")
    for address, why in ((missing, "404 Not Found"), ("http://127.0.0.1:1/file.pt", "refused")):
        with pytest.raises(UserError, match=why) as error:
            download.fetch(address, path)
        message = str(error.value)
        assert message.startswith("file.pt: not fetched from " + address)
        assert message.endswith(f"put the file at {path}")
        assert "\n" not in message


def test_create_from_an_address(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCASE_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "weights.pt"
    torch.save(encoders.create("panns-tiny").state_dict(), weights)
    monkeypatch.setitem(globals(), "CONTENT", weights.read_bytes())
    encoder = encoders.create("panns-tiny", f"{server.address}#sha256={sha256(weights)}")
    assert encoder.checkpoint == {"name": "file", "file": "file.pt", "sha256": sha256(weights)}
    assert len(list((tmp_path / "cache" / "checkpoints").glob("*/file.pt"))) == 1
    with pytest.raises(UserError, match="SHA-256 is"):
        encoders.create("panns-tiny", f"{server.address}#sha256={'0' * 64}")
