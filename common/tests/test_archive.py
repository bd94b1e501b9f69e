"""Archives: equal bytes for equal content, and nothing unsafe, damaged or endless gets out of one."""

import gzip
import io
import os
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.errors import UserError
from common.run.submission.archive import (
    Budget,
    Limits,
    build_zip,
    comment_of,
    is_archive,
    open_archive,
    write_comment,
)
from common.run.submission.measure import OwnData, mark
from common.run.submission.violations import Findings, Violation, has_errors, judge_archives, listing, verdict

FILES = {"a/one.txt": b"one\n", "a/b/two.bin": bytes(range(256)) * 300, "three.txt": b""}


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def tar_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(path: Path, *names: str, data: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in names:
            zipped.writestr(name, data)
    return path


def refusal(path: Path, limits: Limits | None = None) -> str:
    before = set(os.listdir(tempfile.gettempdir()))
    with pytest.raises(UserError) as caught, open_archive(path, limits or Limits()):
        pass
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    left = set(os.listdir(tempfile.gettempdir())) - before
    assert not [name for name in left if name.startswith("archive-")]
    return message


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def test_zip_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "source.bin").write_bytes(FILES["a/b/two.bin"])
    first = build_zip(tmp_path / "first.zip", dict(FILES))
    shuffled = {
        "three.txt": lambda: "",
        "a/one.txt": "one\n",
        "a/b/two.bin": tmp_path / "source.bin",
    }
    os.utime(tmp_path / "source.bin", (1e9, 1e9))
    second = build_zip(tmp_path / "second.zip", shuffled)
    assert first.read_bytes() == second.read_bytes()
    with open_archive(first) as folder:
        assert content(folder) == FILES
    assert not folder.exists()
    with zipfile.ZipFile(first) as zipped:
        assert zipped.namelist() == sorted(FILES)
        assert {stat.S_IMODE(info.external_attr >> 16) for info in zipped.infolist()} == {0o644}


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a\\b", "", "a/../b", "./a"])
def test_build_refuses_names_that_others_would_refuse(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"out\.zip: member"):
        build_zip(tmp_path / "out.zip", {name: b""})
    assert not list(tmp_path.glob("*.zip"))


def test_build_is_all_or_nothing(tmp_path: Path) -> None:
    out = build_zip(tmp_path / "out.zip", {"a": "old"})
    before = out.read_bytes()

    def fails() -> str:
        raise UserError("no scores")

    with pytest.raises(UserError, match="no scores"):
        build_zip(out, {"a": "new", "b": fails})
    with pytest.raises(UserError, match=r"missing\.txt"):
        build_zip(out, {"a": "new", "b": tmp_path / "missing.txt"})
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zip", "tmp"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_is_known_by_its_content(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "any.name"
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in FILES.items():
            info = tarfile.TarInfo("./" + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert is_archive(path)
    with open_archive(path) as unpacked:
        assert content(unpacked) == FILES


def test_folder_is_given_as_it_is(tmp_path: Path) -> None:
    with open_archive(tmp_path) as folder:
        assert folder == tmp_path
    assert tmp_path.is_dir()


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not an archive")
    assert "neither a folder nor" in refusal(tmp_path / "text.zip")
    assert "not found" in refusal(tmp_path / "missing.zip")
    assert not is_archive(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["../evil.txt"], "out of the archive"),
        (["a/../../evil.txt"], "out of the archive"),
        (["/etc/evil.txt"], "absolute"),
        (["C:/evil.txt"], "absolute"),
        (["a\\..\\evil.txt"], "backslash"),
        (["a/One.tsv", "a/one.tsv"], "only in case"),
        (["A/one.tsv", "a/two.tsv"], "only in case"),
        (["a/e\u0301.tsv", "a/\u00c9.tsv"], "only in case"),
        (["a", "a/b"], "both a file and a folder"),
        (["line\nbreak"], "control character"),
    ],
)
def test_unsafe_names(tmp_path: Path, names: list[str], expected: str) -> None:
    zipped = zip_of(tmp_path / "bad.zip", "good.txt", *names)
    assert expected in refusal(zipped)
    tarred = tmp_path / "bad.tar"
    tarred.write_bytes(tar_bytes({"good.txt": b"x", **dict.fromkeys(names, b"x")}))
    message = refusal(tarred)
    assert expected in message
    assert repr(names[-1]) in message
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_name_twice(tmp_path: Path) -> None:
    assert "there twice" in refusal(zip_of(tmp_path / "bad.zip", "a.txt", "a.txt"))


@pytest.mark.parametrize(
    ("mode", "expected"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "device"), (stat.S_IFCHR, "dev")]
)
def test_links_and_devices_in_zip(tmp_path: Path, mode: int, expected: str) -> None:
    info = zipfile.ZipInfo("inner/link")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as zipped:
        zipped.writestr(info, "/etc/passwd")
    message = refusal(tmp_path / "bad.zip")
    assert expected in message
    assert "inner/link" in message


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("inner/link")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(info)
    message = refusal(tmp_path / "bad.tar")
    assert "files and folders only" in message
    assert "inner/link" in message


def test_encrypted_member(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "bad.zip", "secret.txt")
    data = bytearray(path.read_bytes())
    data[6] |= 1  # local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # directory
    path.write_bytes(data)
    message = refusal(path)
    assert "encrypted" in message
    assert "secret.txt" in message


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_limits(tmp_path: Path, suffix: str) -> None:
    files = {"one": bytes(300_000), "two": bytes(300_000)}
    path = tmp_path / f"bomb{suffix}"
    if suffix == ".zip":
        build_zip(path, files)
    else:
        path.write_bytes(gzip.compress(tar_bytes(files)))
    assert "members" in refusal(path, Limits(members=1))
    total = refusal(path, Limits(total_bytes=500_000))
    assert "500,000 bytes" in total
    assert "'two'" in total
    assert "times its size" in refusal(path, Limits(ratio=50, ratio_free_bytes=100_000))
    with open_archive(path, Limits(ratio=50)) as folder:  # small: the ratio doesn't count
        assert content(folder) == files


def test_forged_size_does_not_pass_the_limit(tmp_path: Path) -> None:
    """The directory of the zip claims fewer bytes than the member has."""
    path = build_zip(tmp_path / "bomb.zip", {"one": bytes(1_000_000)})
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    assert "'one'" in refusal(path, Limits(total_bytes=2000))


def test_forged_tar_header_is_not_read_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    path = tmp_path / "bomb.tar"
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(4096))
    assert "claims" in refusal(path)


@pytest.mark.parametrize("pack", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_truncated(tmp_path: Path, pack: str, part: float) -> None:
    path = tmp_path / f"cut{pack}"
    if pack == ".zip":
        build_zip(path, FILES)
    else:
        data = tar_bytes({**FILES, "last.bin": os.urandom(50_000)})
        path.write_bytes(gzip.compress(data) if pack == ".tar.gz" else data)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(int(len(whole) * part), 600 if pack == ".tar" else 4)])
    if pack == ".tar" and part == 0.95:  # within the padding at the end: everything is still there
        path.write_bytes(whole[: whole.rindex(b"ustar") + 512])
    assert "truncated or damaged" in refusal(path)


def test_tar_cut_between_two_members(tmp_path: Path) -> None:
    data = tar_bytes({"one": bytes(512), "two": bytes(512)})
    (tmp_path / "cut.tar").write_bytes(data[:1024])
    assert "'one'" in refusal(tmp_path / "cut.tar")


def test_damaged_member_is_named(tmp_path: Path) -> None:
    path = build_zip(tmp_path / "bad.zip", {"good": os.urandom(2000), "hurt": os.urandom(2000)})
    data = bytearray(path.read_bytes())
    data[data.index(b"hurt") + 1000] ^= 255
    path.write_bytes(data)
    assert "'hurt'" in refusal(path)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["zip", "tar", "gz"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_never_crash(kind: str, changes: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz"
        build_zip(path, FILES)
        if kind != "zip":
            path.write_bytes(tar_bytes(FILES))
        data = bytearray(gzip.compress(path.read_bytes()) if kind == "gz" else path.read_bytes())
        for where, value in changes:
            data[int(where * (len(data) - 1))] = value
        path.write_bytes(data)
        try:
            with open_archive(path) as unpacked:
                assert unpacked.is_dir()
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 (either way is right)


def test_listing_is_capped_but_counts_everything() -> None:
    found = [Violation("a.tsv", line, "gap", f"row {line}") for line in range(2, 1002)]
    found += [Violation(f"{i}.tsv", None, "empty", "no rows", "warning") for i in range(30)]
    lines = listing(found, per_file=3, per_rule=10)
    assert lines[0] == "a.tsv:2: error: row 2 [gap]"
    assert sum(line.startswith("a.tsv") for line in lines) == 3
    assert "0.tsv: warning: no rows [empty]" in lines
    assert lines[-2:] == ["... and 997 more of this kind: error [gap]", "... and 20 more of this kind: warning [empty]"]
    assert verdict(found) == "not valid: 1,000 errors, 30 warnings"
    assert verdict(found[-1:]) == "ok: 0 errors, 1 warning"
    assert verdict([]) == "ok: no rule is broken"
    assert has_errors(found)
    assert not has_errors(found[-3:])


MAC = ("__MACOSX/a/._one.txt", "a/.DS_Store", "a/b/._two.bin", "Thumbs.db", "Icon\r")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_an_operating_system_adds_is_left_out(tmp_path: Path, kind: str) -> None:
    path, files = tmp_path / "x", FILES | dict.fromkeys(MAC, b"\0\5\x16\7")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in files.items():
                zipped.writestr(name, data)
    else:
        path.write_bytes(tar_bytes(files))
    budget = Budget(path)
    with open_archive(path, budget=budget) as folder:
        assert content(folder) == FILES
    assert budget.left_out == list(MAC)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_path_that_is_too_deep(tmp_path: Path, kind: str) -> None:
    path, names = tmp_path / "x", {"a/" * depth + "x": b"" for depth in (32, 2000)}
    for name in names:
        path.write_bytes(tar_bytes({name: b""})) if kind == "tar" else zip_of(path, name)
        if name.count("/") <= 32:
            with open_archive(path) as folder:
                assert len(content(folder)) == 1
        else:
            assert "lies deeper than 32 folders, the limit" in refusal(path)


def test_archives_within_archives_share_a_budget(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner.zip", "a", data=bytes(40_000))
    outer = build_zip(tmp_path / "outer.zip", {f"{n}.zip": inner for n in range(3)})
    limits = Limits(total_bytes=100_000)
    with open_archive(inner, limits), open_archive(inner, limits), open_archive(inner, limits):
        pass  # each has its own
    budget = Budget(outer, limits)
    with open_archive(outer, limits, budget) as folder:
        for name in ("0.zip", "1.zip"):
            with open_archive(folder / name, limits, budget):
                pass
        with (
            pytest.raises(UserError, match=r"outer\.zip: unpacks to more than 100,000 bytes"),
            open_archive(folder / "2.zip", limits, budget),
        ):
            pass
    assert budget.members == 3 + 3


def test_a_comment_changes_nothing_else(tmp_path: Path) -> None:
    path = build_zip(tmp_path / "x.zip", dict(FILES))
    assert comment_of(path) == ""
    before = path.read_bytes()
    write_comment(path, "toy")
    assert comment_of(path) == "toy"
    assert path.read_bytes().startswith(before[:-2])
    with open_archive(path) as folder:
        assert content(folder) == FILES
    (tmp_path / "text").write_text("no archive")
    assert comment_of(tmp_path / "text") == comment_of(tmp_path) == ""


def test_violations_of_any_length_are_short() -> None:
    long = Violation("x", 1, "rule", "a" * 10**6 + "the end")
    assert len(long.message) < 1100
    assert long.message.endswith("the end")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    findings = Findings()
    assert findings.content(tmp_path / "x", "x", 100) == bytes(100)
    assert findings.content(tmp_path / "x", "shown/x", 99) is None
    assert [(v.file, v.rule) for v in findings.found] == [("shown/x", "file-size")]


def test_an_archive_that_cannot_be_opened_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(path: Path) -> list[Violation]:
        if path.name == "cut.zip":
            raise UserError(f"{path}: truncated")
        return []

    paths = [tmp_path / "cut.zip", tmp_path / "good.zip"]
    with pytest.raises(UserError, match=r"cut\.zip: truncated") as error:
        judge_archives(paths, find, lambda _: "the challenge")
    assert error.value.result is not None
    assert [len(found) for found in error.value.result["archives"].values()] == [1, 0]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{paths[0]}: measured by the challenge"
    assert out[-1] == f"{paths[1]}: ok: no rule is broken"
    with pytest.raises(UserError, match=r"cut\.zip: truncated"):
        judge_archives(paths[:1], find, lambda _: "the challenge")


@pytest.mark.parametrize(
    ("kind", "packed_from", "asked", "measures"),
    [
        ("toy", "toy", None, True),
        ("toy", "recordings", None, False),
        ("toy", "official", None, False),
        ("toy", "official", "recipe", True),
        ("toy", "toy", "challenge", False),
        ("official", "official", None, True),
        ("official", "official", "challenge", False),
    ],
)
def test_what_an_archive_is_measured_by(
    tmp_path: Path, kind: str, packed_from: str, asked: Any, measures: bool
) -> None:
    archive = build_zip(tmp_path / "x.zip", dict(FILES))
    mark(archive, packed_from)
    own = OwnData(str(tmp_path), lambda _: kind)
    assert own.measures(archive, asked) == measures
    assert own.described(archive, asked, "the challenge").startswith("the challenge") != measures
    for absent in (OwnData(None, lambda _: kind), OwnData(str(tmp_path), lambda _: kind, fits=False)):
        assert not absent.measures(archive, None)
        assert absent.described(archive, None, "the challenge") == "the challenge"
        with pytest.raises(UserError, match="--measure recipe: "):
            absent.measures(archive, "recipe")
