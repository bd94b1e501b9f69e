"""Full disks, disks without inodes, read-only disks: verbs end with one line, and go on once there is room."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.chain import SMALL, VERBS, Chain, ends_with_one_line, unshared
from tests.faults.faults import Tally
from tests.tools.compare_trees import differences, partials_below

pytestmark = pytest.mark.faults
# Mounts a small disk in a namespace of its own, brings the folder there, runs the command, and brings it back.
ON_SMALL_DISK = """
set -e
folder=$1 options=$2; shift 2
mount -t tmpfs -o size=1g none /mnt
cp -a "$folder/." /mnt/
code=0
mount -o "remount,$options" /mnt
mount --bind /mnt "$folder"
"$@" || code=$?
umount "$folder"
find "$folder" -mindepth 1 -delete
cp -a /mnt/. "$folder/"
exit $code
"""
READ_ONLY = """
set -e
folder=$1; shift
mount --bind "$folder" "$folder"
mount -o remount,ro,bind "$folder"
exec "$@"
"""


def namespace() -> list[str]:
    words = unshared("--mount")
    if words is None:
        pytest.skip("no mount namespaces here (unshare --mount needs root)")
    return words


@pytest.fixture(scope="module", params=sorted(SMALL))
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A task's chain, and beside it what every verb leaves (`after <verb>`)."""
    namespace()
    chain = Chain(request.param, tmp_path_factory.mktemp("disk") / "chain")
    chain.folder.mkdir()
    for verb in VERBS:
        done = chain.run(verb)
        assert done.returncode == 0, done.stderr
        copy(chain.folder, after(chain, verb))
    return chain


def copy(source: Path, target: Path) -> None:
    subprocess.run(["rm", "-rf", str(target)], check=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def after(chain: Chain, verb: str) -> Path:
    return chain.folder.with_name(f"after {verb}")


def before(chain: Chain, verb: str) -> None:
    """The folder as it is before a verb."""
    number = VERBS.index(verb)
    if number:
        copy(after(chain, VERBS[number - 1]), chain.folder)
    else:
        chain.folder.with_name("none").mkdir(exist_ok=True)
        copy(chain.folder.with_name("none"), chain.folder)


def used(folder: Path) -> tuple[int, int]:
    """Bytes in pages, and files and folders."""
    files = list(folder.rglob("*")) if folder.is_dir() else []
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files if path.is_file()), len(files)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("what", ["size", "nr_inodes"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_full_disk(chain: Chain, verb: str, what: str, share: float, tally: Tally) -> None:
    before(chain, verb)
    there, then = used(chain.folder), used(after(chain, verb))
    index = ("size", "nr_inodes").index(what)
    limit = there[index] + int(share * max(then[index] - there[index], 8192 if what == "size" else 2)) + 2
    options = f"size={max(limit, 4096)},nr_inodes=100000" if what == "size" else f"size=1g,nr_inodes={limit + 1}"
    words = [*namespace(), "sh", "-c", ON_SMALL_DISK, "sh", str(chain.folder), options]
    full = chain.run(verb, before=words)
    good = ends_with_one_line(full) and not partials_below(chain.folder)
    again = chain.run(verb)  # with room
    found = differences(after(chain, verb), chain.folder)[0] if again.returncode == 0 else [again.stderr[-300:]]
    kind = "full disk" if what == "size" else "no inodes"
    tally(f"{kind}, {chain.task}", 1, int(good and not found))
    assert good, (full.returncode, full.stderr[-1500:], partials_below(chain.folder))
    assert not found, found[:10]


@pytest.mark.parametrize("verb", VERBS)
def test_a_read_only_disk(chain: Chain, verb: str, tally: Tally) -> None:
    before(chain, verb)
    there = {str(path): os.stat(path).st_mtime_ns for path in chain.folder.rglob("*") if path.is_file()}
    done = chain.run(verb, before=[*namespace(), "sh", "-c", READ_ONLY, "sh", str(chain.folder)])
    same = there == {str(path): os.stat(path).st_mtime_ns for path in chain.folder.rglob("*") if path.is_file()}
    good = ends_with_one_line(done) and done.returncode == 1 and "Read-only file system" in done.stderr
    tally(f"read-only disk, {chain.task}", 1, int(good and same))
    assert good, (done.returncode, done.stderr[-1500:])
    assert same


@pytest.mark.parametrize("verb", ["train", "predict"])
def test_read_only_data(chain: Chain, verb: str, tally: Tally) -> None:
    """A data set with its packs on a disk that nobody may write to; what keeps features there says so."""
    before(chain, verb)
    words = [*namespace(), "sh", "-c", READ_ONLY, "sh", str(chain.folder / "data")]
    done = chain.run(verb, before=words)
    kept = {("task2_anomaly", "train"): "packed/features", ("task2_anomaly", "predict"): "packed/features"}
    kept[("zeroshot", "train")] = "/embeddings"
    if written := kept.get((chain.task, verb)):
        good = ends_with_one_line(done) and written in done.stderr and "Read-only" in done.stderr
    else:
        good = done.returncode == 0
    tally(f"read-only data, {chain.task}", 1, int(good))
    assert good, done.stderr[-1500:]
