"""Files from the network, once: resumed where a download was cut, verified, in a folder that all projects share."""

import fcntl
import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from common.run.errors import UserError
from common.run.files import sha256, write_text
from common.run.progress import progress

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
MB = 10**6
log = logging.getLogger(__name__)


def cached(name: str) -> Path:
    """Where a file lies: `$DCASE_CACHE/checkpoints`, or `~/.cache/dcase-systems/checkpoints`.

    `name`: a file's name, or an address, whose file lies in a folder of its own.
    """
    folder = Path(os.environ.get("DCASE_CACHE") or "~/.cache/dcase-systems").expanduser() / "checkpoints"
    if "://" not in name:
        return folder / name
    file = unquote(urlsplit(name).path).rpartition("/")[2]
    if not file or file in (".", ".."):
        raise UserError(f"{name}: an address that names no file")
    return folder / hashlib.sha256(name.encode()).hexdigest()[:12] / file


def fetch(address: str, path: Path, expected: str = "", hint: str = "") -> str:
    """Have the file of `address` at `path`; returns its SHA-256.

    expected: its SHA-256; where it isn't known, that of the first download is noted in `<path>.sha256` and holds from
    then on. What a cut connection or Ctrl-C leaves in `<path>.part` is continued by the next call, and another process
    that fetches the same file is waited for. Raises UserError with the address and `path` where it cannot be fetched.
    """
    if not path.exists():
        if not address:
            raise UserError(f"{path.name}: has no address to download from ({hint}); put it at {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(path) as part:
            if part is not None:
                _download(address, part, path)
                _accept(Path(part.name), path, expected)
    return checked(path, expected)


def checked(path: Path, expected: str = "") -> str:
    """SHA-256 of a file. Raises UserError where it is not the expected or noted one."""
    note = _note(path)
    if not expected and note.exists():
        expected = (note.read_text(encoding="utf-8").split() or [""])[0]
    found = sha256(path)
    if expected and found != expected.lower():
        raise UserError(f"{path}: SHA-256 is {found}, expected {expected}: remove the file to download it again")
    return found


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


def _accept(part: Path, path: Path, expected: str) -> None:
    found = sha256(part)
    if expected and found != expected.lower():
        part.unlink()
        raise UserError(f"{path.name}: SHA-256 of the download is {found}, expected {expected}; it was removed")
    if not expected:
        write_text(_note(path), f"{found}  {path.name}\n")
        log.warning("%s: no SHA-256 is published; %s is noted beside it and checked from now on", path, found)
    os.replace(part, path)


def _download(address: str, part: BinaryIO, path: Path) -> None:
    """Append to `part` what is missing. Raises UserError where the network or the server does not give it."""
    done = os.fstat(part.fileno()).st_size
    request = urllib.request.Request(address, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                part.truncate(done := 0)  # a server that cannot continue
            total = done + int(response.headers.get("Content-Length") or 0)
            with progress(path.name, total // MB, "MB", done // MB) as report:
                while chunk := response.read(CHUNK):
                    part.write(chunk)
                    done += len(chunk)
                    report.to(done // MB, max(total, done) // MB)
            sized = "Content-Length" in response.headers
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:
            raise _failed(address, path, f"{error.code} {error.reason}") from None
        if error.headers.get("Content-Range") != f"bytes */{done}":  # else the part is the whole
            part.truncate(0)
            _download(address, part, path)
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _failed(address, path, str(getattr(error, "reason", error))) from None
    finally:
        part.flush()
    if sized and done != total:
        raise _failed(address, path, f"cut after {done} of {total} bytes; the next call goes on from there")


def _failed(address: str, path: Path, why: str) -> UserError:
    return UserError(f"{path.name}: not fetched from {address} ({why}); or put the file at {path}")
