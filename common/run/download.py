"""Files from the network, once: resumed where a download was cut, verified, whole or not at all."""

import fcntl
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from common.run.errors import UserError
from common.run.files import file_hash, write_text
from common.run.progress import progress

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
MB = 10**6
LONGEST_ANSWER = 16 * MB
log = logging.getLogger(__name__)


def fetch(address: str, path: Path, expected: str = "", hint: str = "") -> str:
    """Have the file of `address` at `path`; returns its SHA-256, or its MD5 where that is what is expected.

    expected: its SHA-256 (64 digits) or MD5 (32); where neither is known, the SHA-256 of the first download in one
    piece is noted in `<path>.sha256` and holds from then on. What a cut connection or Ctrl-C leaves in `<path>.part` is
    continued by the next call, if the server still has the same file, and another process that fetches the same file is
    waited for. Raises UserError with the address and `path` where it cannot be fetched, or does not fit on the disk.
    """
    if not path.exists():
        if not address:
            raise UserError(f"{path.name}: has no address to download from ({hint}); put it at {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(path) as part:
            if part is not None:
                in_one_piece = _download(address, part, path)
                _accept(Path(part.name), path, expected, in_one_piece)
    return checked(path, expected)


def checked(path: Path, expected: str = "") -> str:
    """SHA-256 of a file, or MD5 as expected. Raises UserError where it is not the expected or noted one."""
    note = _note(path)
    if not expected and note.exists():
        expected = (note.read_text(encoding="utf-8").split() or [""])[0]
    kind, found = _digest(path, expected)
    if expected and found != expected.lower():
        raise UserError(f"{path}: {kind} is {found}, expected {expected}: remove the file to download it again")
    return found


def _digest(path: Path, expected: str) -> tuple[str, str]:
    """What a hash of the kind of `expected` is called, and that of a file."""
    kind = "MD5" if len(expected) == 32 else "SHA-256"
    return kind, file_hash(path, kind.replace("-", "").lower())


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@contextmanager
def _part_of(path: Path) -> Iterator[BinaryIO | None]:
    """The part of `path` that is there, open for appending, for this process alone; None once `path` is complete."""
    part = path.with_name(f"{path.name}.part")
    while True:
        with open(part, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():  # while this process waited
                if part.exists() and part.stat().st_size == 0:
                    part.unlink()
                yield None
                return
            if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
                yield file
                return


def _accept(part: Path, path: Path, expected: str, in_one_piece: bool) -> None:
    kind, found = _digest(part, expected)
    _tag(part).unlink(missing_ok=True)
    if expected and found != expected.lower():
        part.unlink()
        raise UserError(f"{path.name}: {kind} of the download is {found}, expected {expected}; it was removed")
    if not expected and in_one_piece:
        write_text(_note(path), f"{found}  {path.name}\n")
        log.warning("%s: no SHA-256 is published; %s is noted beside it and checked from now on", path, found)
    elif not expected:
        log.warning("%s: fetched in pieces, and no SHA-256 is published: not checked (it is %s)", path, found)
    os.replace(part, path)


def _tag(part: Path) -> Path:
    """Where the server's mark of the version stands that a part belongs to."""
    return part.with_name(f"{part.name}.tag")


def _download(address: str, part: BinaryIO, path: Path) -> bool:
    """Append to `part` what is missing; returns whether all came in one piece.

    Raises UserError where the network or the server does not give it, and for anything but https.
    """
    first = done = os.fstat(part.fileno()).st_size
    tag = _tag(Path(part.name))
    try:
        with _open(address, done, tag.read_text(encoding="utf-8") if done and tag.is_file() else "") as response:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                part.truncate(first := (done := 0))  # a server that cannot continue, or has another version now
            write_text(tag, _version(response.headers))
            total = done + int(response.headers.get("Content-Length") or 0)
            check_space(path, total - done)
            with progress(path.name, total // MB, "MB", done // MB) as report:
                while chunk := response.read(CHUNK):
                    part.write(chunk)
                    done += len(chunk)
                    report.to(done // MB, max(total, done) // MB)
            sized = "Content-Length" in response.headers
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:
            raise _failed(address, path, f"{error.code} {error.reason}") from None
        if error.headers.get("Content-Range") == f"bytes */{done}":  # the part is the whole
            return False
        part.truncate(0)
        return _download(address, part, path)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _failed(address, path, str(getattr(error, "reason", error))) from None
    finally:
        part.flush()
    if sized and done != total:
        raise _failed(address, path, f"cut after {done} of {total} bytes; the next call goes on from there")
    return first == 0


def check_space(path: Path, needed: int) -> None:
    """UserError where so many bytes do not fit on the disk of a path, whose folder need not be there yet."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(f"{path}: {needed / MB:,.1f} MB do not fit on this disk, {free / MB:,.1f} MB are free")


def read(address: str) -> bytes:
    """A small answer, such as a list of files. Raises UserError with the address where there is none."""
    try:
        with _open(address, 0, "") as response:
            content: bytes = response.read(LONGEST_ANSWER)
            return content
    except urllib.error.HTTPError as error:
        raise UserError(f"{address}: no answer ({error.code} {error.reason})") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"{address}: no answer ({getattr(error, 'reason', error)})") from None


def _version(headers: Message) -> str:
    """What `If-Range` takes: a strong entity tag, else the date of the last change, else nothing."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _open(address: str, done: int, version: str) -> Any:
    headers = {"Range": f"bytes={done}-"} if done else {}
    if version:
        headers["If-Range"] = version
    _check_safe(address)
    opener = urllib.request.build_opener(_SafeRedirects)
    return opener.open(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> Any:
        _check_safe(arguments[-1])
        return super().redirect_request(*arguments)


def _check_safe(address: str) -> None:
    """Raise ValueError for an address that anybody on the way could answer; this machine's own are no such."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")):
        raise ValueError(f"{parts.scheme}://{parts.hostname}: not https")


def _failed(address: str, path: Path, why: str) -> UserError:
    return UserError(f"{path.name}: not fetched from {address} ({why}); or put the file at {path}")
