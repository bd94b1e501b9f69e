"""Building challenge archives, and opening anybody's archive safely.

`build_zip` writes the same bytes for the same content: names in order, fixed dates and modes. `open_archive` takes a
folder, a .zip or a (compressed) .tar by content, not by suffix, and trusts nothing in it: every name, type and size is
checked before anything is written, and the unpacked copy is removed afterwards. What an operating system has added is
left out.
"""

import bz2
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from common.run.errors import UserError
from common.run.files import existing_file, write_then_rename
from common.run.folders import is_clutter

# What goes into an archive under a name: a file on disk, text, bytes, or a function that makes text or bytes when
# its turn comes (so that a large archive never stands in memory).
Content = Path | str | bytes | Callable[[], str | bytes]

CHUNK = 1 << 20  # bytes copied at a time
HEADER_BYTES = 16 << 20  # no tar header is longer; longer reads would be a bomb in an extended header
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
COMPRESSED_TAR_MAGIC: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
# What the readers of the standard library raise on damaged or forged bytes (OSError: gzip's and bz2's checksums).
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to: bytes in all, members, folders within one another, and bytes per packed byte.

    The ratio counts only once `ratio_free_bytes` are unpacked: a small file of zeros is no bomb.
    """

    total_bytes: int = 16 << 30
    members: int = 200_000
    depth: int = 32
    ratio: float = 200.0
    ratio_free_bytes: int = 64 << 20


def _damage(archive: Path, where: str, error: BaseException) -> UserError:
    if isinstance(error, OSError) and error.errno is not None:  # the disk's fault or a name too long for it
        return UserError(f"{archive}: cannot unpack {where}: {error.strerror}")
    return UserError(f"{archive}: truncated or damaged at {where} ({' '.join(str(error).split())})")


class _Names:
    """The names seen so far; refuses those that are unsafe or that clash where case does not count."""

    def __init__(self, archive: str | Path, depth: int = Limits.depth) -> None:
        self.archive, self.depth = archive, depth
        self.seen: dict[str, tuple[str, bool]] = {}  # folded path -> path as spelt, is it a folder
        self.files: set[str] = set()

    def _refuse(self, name: str, why: str) -> UserError:
        return UserError(f"{self.archive}: member {name!r} {why}")

    def add(self, name: str, is_folder: bool) -> str:
        """The name without a trailing slash or `./`, once it is known to be harmless."""
        if name.count("/") > self.depth + 1 and len([part for part in name.split("/") if part]) > self.depth + 1:
            shown = f"{name[:40]}..."
            raise self._refuse(shown, f"lies deeper than {self.depth} folders, the limit")
        if re.search("[\x00-\x1f\x7f\ud800-\udfff]", name):
            raise self._refuse(name, "has a control character or is not UTF-8")
        if "\\" in name:
            raise self._refuse(name, "has a backslash in its name, expected forward slashes")
        if name.startswith("/") or re.match(r"[A-Za-z]:", name):
            raise self._refuse(name, "has an absolute name, expected one relative to the archive")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refuse(name, "leads out of the archive ('..')")
        if not parts and not is_folder:
            raise self._refuse(name, "has no name")
        for depth in range(1, len(parts) + 1):
            path, last = "/".join(parts[:depth]), depth == len(parts)
            folder = is_folder or not last
            folded = unicodedata.normalize("NFC", path).casefold()
            known, known_folder = self.seen.setdefault(folded, (path, folder))
            if known != path:
                raise self._refuse(name, f"differs from {known!r} only in case")
            if known_folder != folder:
                raise self._refuse(name, "is both a file and a folder")
        path = "/".join(parts)
        if not is_folder:
            if path in self.files:
                raise self._refuse(name, "is there twice")
            self.files.add(path)
        return path


class Budget:
    """Counts what is unpacked of an archive, and of the archives in it, against the limits.

    left_out: names of what an operating system had added.
    """

    def __init__(self, archive: Path, limits: Limits = Limits(), left_out: list[str] | None = None) -> None:
        self.archive, self.limits = archive, limits
        self.left_out = [] if left_out is None else left_out
        self.packed = max(1, archive.stat().st_size)
        self.members = self.total = 0

    def member(self, name: str) -> bool:
        """Count a member; whether it is to be unpacked."""
        self.members += 1
        if self.members > self.limits.members:
            raise UserError(f"{self.archive}: more than {self.limits.members:,} members, the limit (at {name!r})")
        if any(map(is_clutter, name.split("/"))):
            self.left_out.append(name)
            return False
        return True

    def data(self, name: str, count: int) -> None:
        """Count bytes of a member."""
        self.total += count
        if self.total > self.limits.total_bytes:
            limit = f"{self.limits.total_bytes:,} bytes"
            raise UserError(f"{self.archive}: unpacks to more than {limit}, the limit (at member {name!r})")
        if self.total > self.limits.ratio_free_bytes and self.total > self.limits.ratio * self.packed:
            ratio = f"{self.limits.ratio:g} times its size"
            raise UserError(f"{self.archive}: unpacks to more than {ratio}, the limit (at member {name!r})")


def _write_member(folder: Path, name: str, source: IO[bytes], budget: Budget) -> int:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with open(target, "xb") as file:
        while chunk := source.read(CHUNK):
            budget.data(name, len(chunk))
            written += file.write(chunk)
    return written


def _check_zip_member(archive: Path, info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    if info.flag_bits & 1:
        raise UserError(f"{archive}: member {name!r} is encrypted, expected one without a password")
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "a device or pipe"
        raise UserError(f"{archive}: member {name!r} is {what}, expected files and folders only")


def _unpack_zip(archive: Path, folder: Path, budget: Budget) -> None:
    names = _Names(archive, budget.limits.depth)
    with zipfile.ZipFile(archive) as zipped:
        accepted = []
        for info in zipped.infolist():  # first everything that the directory tells, so that a refusal is quick
            if budget.member(info.orig_filename):
                _check_zip_member(archive, info)
                accepted.append((info, names.add(info.orig_filename, info.is_dir())))
        declared = copy(budget)
        for info, name in accepted:
            declared.data(name, info.file_size)
        for info, name in accepted:
            if info.is_dir():
                (folder / name).mkdir(parents=True, exist_ok=True)
                continue
            try:
                with zipped.open(info) as source:
                    written = _write_member(folder, name, source, budget)
            except DAMAGE as error:
                raise _damage(archive, f"member {name!r}", error) from None
            if written != info.file_size:
                raise UserError(f"{archive}: member {name!r} is truncated ({written:,} of {info.file_size:,} bytes)")


class _Metered:
    """A stream for tarfile that refuses the huge reads which only a forged header asks for."""

    def __init__(self, archive: Path, stream: IO[bytes]) -> None:
        self.archive, self.stream = archive, stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise UserError(f"{self.archive}: a header in it claims {size:,} bytes, damaged or forged")
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()


def _check_tar_member(archive: Path, member: tarfile.TarInfo) -> None:
    if member.issym() or member.islnk():
        raise UserError(f"{archive}: member {member.name!r} is a link, expected files and folders only")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise UserError(f"{archive}: member {member.name!r} is no plain file, expected files and folders only")


def _unpack_tar(archive: Path, stream: IO[bytes], folder: Path, budget: Budget) -> None:
    names = _Names(archive, budget.limits.depth)
    last = "(none)"
    try:
        with tarfile.open(fileobj=_Metered(archive, stream), mode="r:") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile keeps all of them otherwise
                if not budget.member(member.name):
                    budget.data(member.name, member.size)  # read over
                    continue
                _check_tar_member(archive, member)
                last = name = names.add(member.name, member.isdir())
                if member.isdir():
                    (folder / name).mkdir(parents=True, exist_ok=True)
                    continue
                source = tar.extractfile(member)
                assert source is not None  # a regular file has one
                if _write_member(folder, name, source, budget) != member.size:
                    raise UserError(f"{archive}: member {name!r} is truncated")
            # tarfile stops without a word at a cut between members and at a damaged header.
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise UserError(f"{archive}: truncated or damaged after member {last!r}, no end mark")
        while chunk := stream.read(CHUNK):  # to the end, where a compressed stream has its checksum
            budget.data(last, len(chunk))
    except DAMAGE as error:
        raise _damage(archive, f"or after member {last!r}", error) from None


def is_archive(path: str | Path) -> bool:
    """Whether a file's first bytes are those of a .zip or a (compressed) .tar."""
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(512)
    return head.startswith(ZIP_MAGIC) or head[257:262] == b"ustar" or head.startswith(tuple(COMPRESSED_TAR_MAGIC))


def _unpack(archive: Path, folder: Path, budget: Budget) -> None:
    with open(archive, "rb") as file:
        head = file.read(512)
    if head.startswith(ZIP_MAGIC):
        try:
            _unpack_zip(archive, folder, budget)
        except DAMAGE as error:
            raise _damage(archive, "the directory of the zip archive", error) from None
        return
    opener = next((opener for magic, opener in COMPRESSED_TAR_MAGIC.items() if head.startswith(magic)), open)
    with opener(archive, "rb") as stream:
        _unpack_tar(archive, stream, folder, budget)


def unpack(archive: Path, folder: Path, limits: Limits) -> None:
    """Unpack an archive into an empty folder; refuses what `open_archive` refuses."""
    _unpack(archive, folder, Budget(archive, limits))


@contextmanager
def open_archive(path: str | Path, limits: Limits = Limits(), budget: Budget | None = None) -> Iterator[Path]:
    """Yield a folder with the content of `path`: the folder itself, or a .zip / .tar(.gz, .bz2, .xz) unpacked.

    The unpacked copy lies in the system's temporary folder (TMPDIR) and is removed afterwards. budget: of the archive
    that this one lies in, which then holds for both. UserError for a path that is missing or no archive, and for a
    member that is unsafe, encrypted or damaged, or over the limits.
    """
    path = Path(path)
    if path.is_dir():
        yield path
        return
    existing_file(path, "archive or folder")
    if not is_archive(path):
        raise UserError(f"{path}: neither a folder nor a .zip or .tar archive")
    with tempfile.TemporaryDirectory(prefix="archive-") as temporary:
        _unpack(path, Path(temporary), budget or Budget(path, limits))
        yield Path(temporary)


def build_zip(out: str | Path, files: Mapping[str, Content], level: int = 3) -> Path:
    """Write a zip archive, whole or not at all; returns its path.

    files: name in the archive -> content (see `Content`). Equal content gives equal bytes: members in the order of
    their names, dated 1980-01-01, mode 0644. `level` is deflate's, 0 to 9 (3: a third of the time of 6 for 8 % more
    bytes on score tables). UserError for an unsafe name or a missing file.
    """
    out = Path(out)
    names = _Names(out)
    for name in files:
        if names.add(name, False) != name:
            raise UserError(f"{out}: member {name!r}, expected a plain relative name")
    with write_then_rename(out) as partial, zipfile.ZipFile(partial, "w") as zipped:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100644 << 16
            content = files[name]
            if callable(content):
                content = content()
            if isinstance(content, Path):
                info.file_size = existing_file(content).stat().st_size  # decides on zip64
                _copy_in(zipped, info, content, level)
            else:
                zipped.writestr(info, content, compresslevel=level)
    return out


def write_comment(path: Path, comment: str) -> None:
    """Give a zip archive a comment, whole or not at all."""
    with write_then_rename(path) as partial:
        shutil.copyfile(path, partial)
        with zipfile.ZipFile(partial, "a") as zipped:
            zipped.comment = comment.encode()


def comment_of(path: Path) -> str:
    """The comment of a zip archive; empty for one without, and for what is no zip archive."""
    try:
        with zipfile.ZipFile(path) as zipped:
            return zipped.comment.decode(errors="replace")
    except DAMAGE:
        return ""


def _copy_in(zipped: zipfile.ZipFile, info: zipfile.ZipInfo, source: Path, level: int) -> None:
    info._compresslevel = level  # type: ignore[attr-defined]  # ZipInfo takes it from the archive only
    with open(source, "rb") as file, zipped.open(info, "w") as member:
        while chunk := file.read(CHUNK):
            member.write(chunk)
