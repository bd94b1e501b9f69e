"""Arrays per clip on disk: order, what is kept, going on after a kill; which clips of a data set are there."""

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.audio import arrays
from common.audio.coverage import Coverage, cover, pack, packs_of, root_of, verify
from common.audio.loading import turn_of
from common.audio.packs import Pack, open_pack
from common.audio.reading import write_wav
from common.run.errors import UserError

RATE = 1000
LENGTHS = (300, 100, 300, 200, 100, 300)


def packed(folder: Path, level: float = 0.1) -> Pack:
    clips = [(f"{n}.wav", folder / f"{n}.wav") for n in range(len(LENGTHS))]
    for n, (_, path) in enumerate(clips):
        write_wav(path, np.full(LENGTHS[n], level * (n + 1), np.float32), RATE)
    pack(cover(clips), folder / "packs" / "some", RATE, workers=1, clips_per_worker=100)
    return open_pack(folder / "packs" / "some")


def hundreds(asked: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    """A row for every hundred samples: two values."""

    def compute(waveform: np.ndarray) -> np.ndarray:
        asked.append(len(waveform))
        return np.repeat(waveform[:, ::100, None], 2, axis=2)

    return compute


def stored(of: Pack, folder: Path, asked: list[int], batch: int = 2) -> arrays.ClipArrays:
    return arrays.store(of, folder, hundreds(asked), batch, sizes=np.array(LENGTHS) // 100)


def test_clips_of_many_lengths(tmp_path: Path) -> None:
    asked: list[int] = []
    found = pickle.loads(pickle.dumps(stored(packed(tmp_path), tmp_path / "arrays", asked)))
    assert asked == [2, 1, 2, 1]  # batches hold clips of one length
    assert found.rows.shape == (13, 2)
    assert found.rows.dtype == np.float16
    for n, length in enumerate(LENGTHS):
        rows = found.rows[found.starts[n] : found.starts[n] + found.sizes[n]]
        np.testing.assert_allclose(rows, np.full((length // 100, 2), 0.1 * (n + 1)), atol=1e-3)


def test_going_on_after_a_kill_wherever_it_was(tmp_path: Path) -> None:
    of, folder, row = packed(tmp_path), tmp_path / "arrays", 4
    path = stored(of, folder, []).path
    content = path.read_bytes()
    header = len(content) - 13 * row
    for kept, computed in (
        (0, 6),
        (header - 1, 6),
        (header, 6),
        (header + row, 5),
        (header + 2 * row + 1, 4),
        (header + 12 * row, 1),
    ):
        path.unlink()
        path.with_suffix(".unfinished").write_bytes(content[:kept])
        asked: list[int] = []
        assert stored(of, folder, asked, batch=3).path.read_bytes() == content
        assert sum(asked) == computed
    assert stored(of, folder, asked := []).path == path
    assert asked == []


def test_another_pack_replaces_the_arrays(tmp_path: Path) -> None:
    first = stored(packed(tmp_path), tmp_path / "arrays", []).path
    (tmp_path / "arrays" / "some-other-0123456789ab.npy").touch()
    second = stored(packed(tmp_path, 0.05), tmp_path / "arrays", []).path
    assert {path.name for path in second.parent.glob("*.npy")} == {second.name, "some-other-0123456789ab.npy"}
    assert first != second


def test_what_half_precision_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"some: 3\.wav gives values that are not finite in <f2"):
        arrays.store(packed(tmp_path), tmp_path, lambda x: np.where(x[:, :1] > 0.35, 1e6, x[:, :1]), 1, samples=50)
    assert not list(tmp_path.glob("*.npy"))


def test_coverage(tmp_path: Path) -> None:
    write_wav(tmp_path / "a" / "1.wav", np.zeros(RATE), RATE)
    (tmp_path / "a" / "2.wav").write_bytes(b"RIFF")
    names = ("a/1.wav", "a/2.wav", "a/3.wav", "b/1.wav")
    before = cover((name, tmp_path / name) for name in names)
    assert before.counts() == {"listed": 4, "missing": 2, "broken": 0, "packed": 0}
    after = pack(before, tmp_path / "packs" / "x", RATE, workers=1, clips_per_worker=100)
    assert after.counts() == {"listed": 4, "missing": 2, "broken": 1, "packed": 1}
    assert (after.missing, after.broken) == (("a/3.wav", "b/1.wav"), ("a/2.wav",))
    assert {path.name for path in (tmp_path / "packs").glob("*.tsv")} == {"x.missing.tsv", "x.broken.tsv"}
    pack(cover([(names[0], tmp_path / names[0])]), tmp_path / "packs" / "x", RATE, workers=1, clips_per_worker=100)
    assert not list((tmp_path / "packs").glob("*.tsv"))
    verify([tmp_path / "packs" / "x"])
    nothing = pack(Coverage((), ("a",)), tmp_path / "packs" / "y", RATE, workers=1, clips_per_worker=100)
    assert (nothing.packed, (tmp_path / "packs" / "y").exists()) == (0, False)


def test_where_a_data_set_lies(tmp_path: Path) -> None:
    def place(**given: str | None) -> SimpleNamespace:
        return SimpleNamespace(**{"root": None, "toy": None, "packs": None, **given})

    with pytest.raises(UserError, match=r"data\.root=DIR names the folder"):
        root_of(place())
    with pytest.raises(UserError, match=r"none: data set not found$"):
        packs_of(place(root=str(tmp_path / "none")))
    with pytest.raises(UserError, match=r"none: data set not found; `prepare` writes it"):
        root_of(place(root=str(tmp_path / "none"), toy="tiny"))
    assert packs_of(place(root=str(tmp_path))) == tmp_path / "packed"
    assert packs_of(place(packs="elsewhere")) == Path("elsewhere")


def test_the_turn_of_a_training() -> None:
    assert (turn_of(None).epoch(), *turn_of(None)[1:]) == (0, 0, 1)
    trainer = SimpleNamespace(current_epoch=3, global_rank=1, world_size=2)
    epoch, rank, ranks = turn_of(trainer)
    trainer.current_epoch = 4
    assert (epoch(), rank, ranks) == (4, 1, 2)
