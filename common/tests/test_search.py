"""The index of a folder of recordings: kept up to date, and asked, exactly."""

import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio.reading import load
from common.run.errors import UserError
from common.run.numbers import unit_rows
from common.search.index import BATCH, CONTENTS, FILES, HIDDEN, VECTORS, Index, build

RATE, DIM = 8000, 12


class Levels:
    """The spectrum of each second in a few bands: says at once whether a vector is that of the right file."""

    has_text, window, command = False, 1.0, "python -m some_task index"

    def __init__(self, key: str = "levels", stop_after: int | None = None) -> None:
        self.key, self.title, self.dim = key, f"{key} of bands", DIM
        self.heard: list[str] = []
        self.stop_after = stop_after

    def sounds(self, paths: Sequence[Path]) -> Iterator[np.ndarray | UserError]:
        for path in paths:
            if self.stop_after is not None and len(self.heard) >= self.stop_after:
                raise KeyboardInterrupt
            try:
                x = load(path, RATE)
            except UserError as error:
                yield error
                continue
            self.heard.append(path.name)
            windows = np.pad(x, (0, -len(x) % RATE)).reshape(-1, RATE)
            yield np.abs(np.fft.rfft(windows))[:, 100:3700].reshape(len(windows), DIM, -1).mean(axis=2)

    def texts(self, sentences: Sequence[str]) -> np.ndarray:
        raise NotImplementedError


def write(path: Path, *frequencies: float) -> Path:
    """Half a second of each tone, and of silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(RATE) / RATE
    x = np.concatenate([0.5 * np.sin(2 * np.pi * f * time) for f in frequencies])
    soundfile.write(path, x, RATE)
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for number, frequency in enumerate((300, 1000, 1600, 2200, 2800)):
        write(tmp_path / "library" / f"folder{number % 2}" / f"tone{number}.wav", frequency)
    return tmp_path / "library"


def best(index: Index, encoder: Levels, path: Path, k: int = 1, below: str | None = None) -> list[str]:
    (query,) = encoder.sounds([path])
    return [hit.name for hit in index.search(query[:1], k, below)[0]]


def test_what_is_in_a_folder_is_found(library: Path) -> None:
    encoder = Levels()
    report = build(library, encoder)
    assert (report.added, report.kept, report.removed, report.unreadable) == (5, 0, 0, {})
    index = Index.open(library, "levels")
    assert index.names == sorted(p.relative_to(library).as_posix() for p in library.rglob("*.wav"))
    assert index.title == encoder.title
    for name in index.names:
        assert best(index, encoder, library / name) == [name]
    assert str(index.changes()) == ""


def test_only_what_is_new_is_heard(library: Path) -> None:
    build(library, Levels())
    (library / "folder0/tone0.wav").rename(library / "folder1/renamed.wav")
    (library / "folder1/copy.wav").write_bytes((library / "folder0/tone2.wav").read_bytes())
    os.utime(library / "folder0/tone4.wav", (1, 1))  # touched, the same content
    write(library / "folder1/tone3.wav", 3200)
    (library / "folder1/tone1.wav").unlink()
    changes = Index.open(library, "levels").changes()
    assert changes.new == ["folder1/copy.wav", "folder1/renamed.wav"]
    assert changes.changed == ["folder0/tone4.wav", "folder1/tone3.wav"]
    assert changes.gone == ["folder0/tone0.wav", "folder1/tone1.wav"]
    assert str(changes) == "since it was indexed: 2 new, 2 changed, 2 gone files"
    again = Levels()
    report = build(library, again)
    assert again.heard == ["tone3.wav"]
    assert (report.added, report.kept, report.removed) == (4, 1, 2)
    index = Index.open(library, "levels")
    assert "folder1/tone1.wav" not in index.names
    assert best(index, again, library / "folder1/copy.wav", 2) == ["folder0/tone2.wav", "folder1/copy.wav"]
    assert best(index, again, library / "folder1/tone3.wav") == ["folder1/tone3.wav"]
    assert str(index.changes()) == ""
    untouched = Levels()
    assert build(library, untouched).kept == 5
    assert untouched.heard == []


def test_a_long_recording_says_where(library: Path) -> None:
    write(library / "long.wav", 300, 1000, 3300, 300)
    encoder = Levels()
    build(library, encoder)
    hits = Index.open(library, "levels").search(next(encoder.sounds([write(library.parent / "q.wav", 3300)])), 3)[0]
    assert (hits[0].name, hits[0].start) == ("long.wav", 2.0)
    assert [hit.name for hit in hits].count("long.wav") == 1


def test_a_subfolder(library: Path) -> None:
    write(library / "folder10/tone.wav", 300)
    encoder = Levels()
    build(library, encoder)
    index = Index.open(library, "levels")
    for below in ("folder1", "folder1/", "/folder1"):
        found = best(index, encoder, library / "folder0/tone0.wav", 10, below)
        assert sorted(found) == ["folder1/tone1.wav", "folder1/tone3.wav"]
    assert len(best(index, encoder, library / "folder0/tone0.wav", 10, ".")) == 6
    with pytest.raises(UserError, match=r"no indexed recording below folder$"):
        index.search(np.ones((1, DIM)), below="folder")


def test_interrupted_it_goes_on(library: Path) -> None:
    for number in range(2 * BATCH):
        write(library / f"more/{number:02d}.wav", 410 + 31 * number)
    first = Levels(stop_after=BATCH + 3)
    with pytest.raises(KeyboardInterrupt):
        build(library, first)
    index = Index.open(library, "levels")  # what was done can be asked already
    assert len(index.names) == BATCH
    second = Levels()
    build(library, second)
    assert len(second.heard) == 2 * BATCH + 5 - BATCH
    assert len(Index.open(library, "levels").names) == 2 * BATCH + 5


@given(cut=st.integers(0, 400), of=st.sampled_from([VECTORS, CONTENTS, FILES]))
@settings(max_examples=8, deadline=None)
def test_a_damaged_index_is_refused_and_repaired(tmp_path_factory: pytest.TempPathFactory, cut: int, of: str) -> None:
    """A file that ends anywhere."""
    library = tmp_path_factory.mktemp("library")
    for number, frequency in enumerate((300, 1000, 1600)):
        write(library / f"{number}.wav", frequency)
    build(library, Levels())
    at = library / HIDDEN / "levels"
    whole = (at / of).read_text() if of == FILES else (at / of).read_bytes()
    os.truncate(at / of, min(cut, len(whole.rstrip()) - 1))
    with pytest.raises(UserError, match="repairs it"):
        Index.open(library, "levels")
    found_again(library)


def found_again(library: Path) -> None:
    encoder = Levels()
    build(library, encoder)
    index = Index.open(library, "levels")
    for name in index.names:
        assert best(index, encoder, library / name) == [name]


def test_killed_between_rows_and_lines(library: Path) -> None:
    build(library, Levels())
    at = library / HIDDEN / "levels"
    left_behind = ((600, VECTORS, b"\1" * 55), (2000, CONTENTS, b'["abc", 5, 1'), (3400, CONTENTS, b'["abc", 5, 1]'))
    for frequency, name, left in left_behind:
        with open(at / name, "ab") as file:
            file.write(left)
        assert len(Index.open(library, "levels").names) == len(list(library.rglob("*.wav")))
        write(library / f"{frequency}.wav", frequency)
        found_again(library)


def test_what_cannot_be_read_is_listed(library: Path) -> None:
    (library / "broken.wav").write_bytes(b"RIFF....WAVEnothing")
    (library / "empty.flac").touch()
    (library / "notes.txt").write_text("no sound")
    report = build(library, Levels())
    assert sorted(report.unreadable) == ["broken.wav", "empty.flac"]
    assert "empty file" in report.unreadable["empty.flac"]
    assert report.added == 5
    index = Index.open(library, "levels")
    assert len(index.names) == 5
    assert sorted(index.unreadable) == ["broken.wav", "empty.flac"]
    assert index.changes().new == []


def test_nothing_to_hear(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no audio in this folder"):
        build(tmp_path, Levels())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="not found"):
        build(tmp_path / "missing", Levels())
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="no file of 1 can be read"):
        build(tmp_path, Levels())


def test_another_model_is_refused_with_the_command(library: Path) -> None:
    with pytest.raises(UserError, match=f"not indexed yet; `python -m some_task index {library}` makes it"):
        Index.open(library, "levels", command=Levels.command)
    build(library, Levels())
    with pytest.raises(UserError, match=r"of another model .levels., not of other; `python -m some_task index"):
        Index.open(library, "other", command=Levels.command)
    build(library, Levels("other"))
    assert Index.open(library, "other").title == "other of bands"
    with pytest.raises(UserError, match="queries of 3 dimensions, the index has 12"):
        Index.open(library, "other").search(np.ones((1, 3)))


def test_an_index_elsewhere_is_that_of_one_library(library: Path, tmp_path: Path) -> None:
    build(library, Levels(), tmp_path / "index")
    assert not (library / HIDDEN).exists()
    assert len(Index.open(library, "levels", tmp_path / "index").names) == 5
    write(tmp_path / "second/a.wav", 500)
    with pytest.raises(UserError, match=r"library is .*name another folder with --index"):
        build(tmp_path / "second", Levels(), tmp_path / "index")
    assert len(Index.open(library, "levels", tmp_path / "index").names) == 5


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    k=st.integers(1, 15),
    few=st.booleans(),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=30, deadline=None)
def test_it_is_a_full_comparison(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], k: int, few: bool, seed: int
) -> None:
    """Against cosines one by one, with many equal scores (few: vectors out of three)."""
    rng = np.random.default_rng(seed)
    at = tmp_path_factory.mktemp("index") / "made"
    at.mkdir()
    drawn = rng.integers(0, 2, (sum(counts), 3)) if few else rng.normal(size=(sum(counts), 3))
    rows = unit_rows(drawn.astype(np.float32)).astype("<f2")
    rows.tofile(at / VECTORS)
    names = [f"{'ab'[i % 2]}/{i:02d}.wav" for i in rng.permutation(len(counts))]
    firsts = np.cumsum(counts) - counts
    lines = [json.dumps([name, int(first), count]) for name, first, count in zip(names, firsts, counts, strict=True)]
    (at / CONTENTS).write_text("".join(f"{line}\n" for line in lines))
    (at / FILES).write_text(json.dumps({"files": {name: [1, 1, name] for name in names}, "unreadable": {}}))
    (at / "about.json").write_text(json.dumps({"dim": 3, "window": 2.0, "title": "made"}))
    index = Index.open(at.parent, "made", at.parent)
    queries = unit_rows(rng.normal(size=(20, 3)).astype(np.float32))
    for below in (None, "a"):
        for query, hits in zip(queries, index.search(queries, k, below), strict=True):
            scores = {}
            for name, first, count in zip(names, firsts, counts, strict=True):
                of = [float(np.dot(row.astype(np.float64), query)) for row in rows[first : first + count]]
                if below is None or name.startswith("a/"):
                    scores[name] = of
            ranked = sorted(scores, key=lambda name: (-max(scores[name]), name))
            assert len(hits) == min(k, len(scores))
            for hit, name in zip(hits, ranked, strict=False):
                assert hit.score == pytest.approx(max(scores[name]), abs=1e-6)
                assert max(scores[hit.name]) == pytest.approx(hit.score, abs=1e-6)
                assert scores[hit.name][int(hit.start / 2)] == pytest.approx(hit.score, abs=1e-6)
            for one, two in itertools.pairwise(hits):
                assert one.score > two.score or one.name < two.name


# --- a graph of near neighbours


def by_hand(at: Path, counts: list[int], rows: np.ndarray) -> Index:
    """An index of recordings 000000.wav, ... with so many windows each."""
    at.mkdir(parents=True)
    unit_rows(rows.astype(np.float32)).astype("<f2").tofile(at / VECTORS)
    names = [f"{number:06d}.wav" for number in range(len(counts))]
    firsts = np.cumsum(counts) - counts
    lines = [json.dumps([name, int(first), count]) for name, first, count in zip(names, firsts, counts, strict=True)]
    (at / CONTENTS).write_text("".join(f"{line}\n" for line in lines))
    # A copy of the first recording; the second one is gone, its rows are there.
    files = {name: [1, 1, name] for name in names if name != names[1]} | {"copy.wav": [1, 1, names[0]]}
    (at / FILES).write_text(json.dumps({"files": files, "unreadable": {}}))
    (at / "about.json").write_text(json.dumps({"dim": rows.shape[1], "window": 2.0, "title": "made"}))
    return Index(at, at)


def test_a_graph_finds_what_a_full_comparison_finds(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    from common.search.benchmark import made
    from common.search.graph import FILE, grow

    rng = np.random.default_rng(0)
    counts = [40, 2, *rng.integers(1, 5, 1000).tolist()]
    rows = next(made(sum(counts), 24))
    rows[:40] = rows[0] + 0.01 * rng.standard_normal((40, 24))  # one recording's windows fill the first candidates
    exact = by_hand(tmp_path / "exact", counts, rows)
    by_hand(tmp_path / "graph", counts, rows)
    grow(tmp_path / "graph" / FILE, exact.vectors)
    near = Index(tmp_path / "graph", tmp_path / "graph")
    assert exact.graph is None
    assert near.graph is not None
    queries = np.concatenate([rows[:1], rows[rng.integers(0, len(rows), 40)] + 0.1 * rng.standard_normal((40, 24))])
    shares = []
    for one, other in zip(exact.search(queries, 10), near.search(queries, 10), strict=True):
        assert len(one) == len(other) == 10
        known = {hit.name: hit for hit in one}
        shares.append(np.mean([hit.name in known for hit in other]))
        for hit in other:
            if hit.name in known:
                assert hit.score == pytest.approx(known[hit.name].score, abs=1e-5)
                assert hit.start == known[hit.name].start
    assert np.mean(shares) > 0.98
    assert {hit.name for hit in near.search(rows[:1], 2)[0]} == {"000000.wav", "copy.wav"}
    assert len(near.search(rows[:1], 5000)[0]) == len(near.names)


def test_a_graph_is_kept_up_to_date(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("usearch")
    from common.search.graph import FILE, _known

    at, encoder = library / HIDDEN / "levels", Levels()
    build(library, encoder, approximate=True)
    assert Index.open(library, "levels").graph is not None
    for number, damage in enumerate((None, b"no graph", b"")):
        if damage is not None:
            (at / FILE).write_bytes(damage)
            index = Index.open(library, "levels")  # every row is compared
            assert index.graph is None
            assert best(index, encoder, library / index.names[0]) == [index.names[0]]
        write(library / f"new{number}.wav", 700 + 600 * number)
        build(library, encoder)
        index = Index.open(library, "levels")
        graph = _known(at / FILE, DIM, len(index.vectors), view=False)
        assert len(graph) == len(index.vectors)
        assert best(index, encoder, library / f"new{number}.wav") == [f"new{number}.wav"]
    monkeypatch.setitem(sys.modules, "usearch", None)
    monkeypatch.delitem(sys.modules, "usearch.index")
    assert Index.open(library, "levels").graph is None
    again = Levels("other")
    with pytest.raises(UserError, match="needs the extra `millions`"):
        build(library, again, approximate=True)
    assert again.heard == []


def test_many_rows_have_a_graph_unasked(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("usearch")
    monkeypatch.setattr("common.search.index.MANY", 6)
    build(library, Levels())
    assert Index.open(library, "levels").graph is None
    write(library / "sixth.wav", 500)
    build(library, Levels())
    assert Index.open(library, "levels").graph is not None


def test_the_benchmark_prints_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("usearch")
    from common.search.__main__ import main

    assert main(["benchmark", "--rows", "3000", "--dim", "32", "--queries", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["rows"] == 3000
    assert found["recall@10"] > 0.95
    assert main(["benchmark", "--rows", "0"]) == 1
    assert capsys.readouterr().err == "error: benchmark: --rows, --dim and --queries are at least 1\n"
