"""Own recordings of a table: what is wrong is named by its line, nothing is half written, a second call goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from common.audio import own
from common.audio.coverage import made_of
from common.audio.own import Job, read_table, write_data_set
from common.audio.reading import load
from common.run.errors import UserError


def write_table(folder: Path, rows: Sequence[str], header: str = "file,label") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "my.csv"
    table.write_text("\n".join([header, *rows, ""]))
    return table


def write_audio(path: Path, seconds: float, rate: int = 8000, hertz: float = 440.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([tone, tone], axis=1), rate)
    return path


def jobs_of(table: Path, out: Path, rate: int = 8000, piece: int | None = None) -> list[Job]:
    recordings, _ = read_table(table, out, ("label",))
    name = "audio/{segment}-{part}-" if piece else "audio/"
    return [Job(of, f"{name}{of.row['label']}.wav", rate, piece) for of in recordings]


def write_names(folder: Path, names: Sequence[Sequence[str]]) -> None:
    (folder / "names.txt").write_text("\n".join(name for of in names for name in of))


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([], "file,label", "my.csv: lists no recordings"),
        (["a.wav,x"], "name,label", "my.csv:1: no column 'file'"),
        (["a.wav,x"], "file,lable", "my.csv:1: no column 'label'; did you mean 'lable'"),
        (["a.wav,x", "gone.wav,x"], "file,label", "my.csv:3: file '.*gone.wav' not found; paths are relative"),
        (["a.wav,x", ",x"], "file,label", "my.csv:3: file is empty"),
        (["a.wav,x", "./a.wav,y"], "file,label", r"my.csv:3: ./a.wav stands in line 2 already"),
        (["a.wav,x", "notes.txt,y"], "file,label", "my.csv:3: .*notes.txt: not readable as wav"),
        (["a.wav,x", "y"], "file,label,device", "my.csv:2: 2 fields, expected 3"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    write_audio(tmp_path / "in" / "a.wav", 0.5)
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    table = write_table(tmp_path / "in", rows, header)
    with pytest.raises(UserError, match=message) as error:
        read_table(table, tmp_path / "out", ("label",))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_options_go_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--out goes with --from-table"):
        read_table(None, tmp_path, ())
    with pytest.raises(UserError, match="--from-table needs --out"):
        read_table(tmp_path / "my.csv", None, ())
    with pytest.raises(UserError, match=r"my\.csv: table of recordings not found"):
        read_table(tmp_path / "my.csv", tmp_path / "out", ())


def test_any_rate_format_and_place_becomes_mono_wav(tmp_path: Path) -> None:
    write_audio(tmp_path / "in" / "deep" / "a.flac", 1.0, 44_100)
    elsewhere = write_audio(tmp_path / "b.ogg", 0.5, 22_050)
    table = write_table(tmp_path / "in", ["deep/a.flac, one ", f"{elsewhere},two"])
    write_data_set(table, tmp_path / "out", jobs_of(table, tmp_path / "out"), write_names)
    for name, seconds in (("one", 1.0), ("two", 0.5)):
        info = soundfile.info(tmp_path / "out" / "audio" / f"{name}.wav")
        assert (info.samplerate, info.channels) == (8000, 1)
        assert info.duration == pytest.approx(seconds, abs=0.002)
    expected = load(tmp_path / "in" / "deep" / "a.flac", 8000)
    np.testing.assert_allclose(load(tmp_path / "out" / "audio" / "one.wav", 8000), expected, atol=2e-5)
    assert made_of(tmp_path / "out") == "recordings"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".locks") == ["b.ogg", "in", "out"]


def test_pieces(tmp_path: Path) -> None:
    """Ten parts a segment; the rest at the end is dropped, what is shorter than a piece is filled up."""
    write_audio(tmp_path / "long.wav", 1.15)
    write_audio(tmp_path / "short.wav", 0.04)
    table = write_table(tmp_path, ["long.wav,l", "short.wav,s"])
    write_data_set(table, tmp_path / "out", jobs_of(table, tmp_path / "out", piece=800), write_names)
    names = {path.name for path in (tmp_path / "out" / "audio").iterdir()}
    assert names == {*(f"0-{part}-l.wav" for part in range(10)), "1-0-l.wav", "0-0-s.wav"}
    padded = load(tmp_path / "out" / "audio" / "0-0-s.wav", 8000)
    assert len(padded) == 800
    assert not padded[330:].any()
    assert padded[:300].any()


def test_a_second_call_goes_on_where_a_bad_recording_stopped_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_audio(tmp_path / f"{name}.wav", 0.5)
    content = (tmp_path / "b.wav").read_bytes()
    table, out = write_table(tmp_path, [f"{name}.wav,{name}" for name in "abc"]), tmp_path / "out"
    jobs = jobs_of(table, out)
    (tmp_path / "b.wav").write_bytes(content[:-4000])
    with pytest.raises(UserError, match=r"my\.csv:3: .*b\.wav: truncated wav"):
        write_data_set(table, out, jobs, write_names)
    assert not out.exists()
    assert (tmp_path / "out.unfinished" / "audio" / "a.wav").is_file()
    (tmp_path / "b.wav").unlink()
    table = write_table(tmp_path, ["c.wav,c", "a.wav,a"])
    heard = []
    monkeypatch.setattr(own, "load", lambda path, rate: heard.append(Path(path).name) or load(path, rate))
    (tmp_path / "out.unfinished" / "audio" / "of-another-table.wav").write_bytes(b"")
    write_data_set(table, out, jobs_of(table, out), write_names)
    assert heard == ["c.wav"]
    assert {path.name for path in (out / "audio").iterdir()} == {"a.wav", "c.wav"}
    assert (out / "names.txt").read_text().split() == ["audio/c.wav", "audio/a.wav"]
    assert not (tmp_path / "out.unfinished").exists()
    heard.clear()
    write_data_set(table, out, jobs_of(table, out), write_names)
    assert heard == []


def test_worker_processes_name_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "FILES_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(own, "usable_cores", lambda: 2)
    for name in "abc":
        write_audio(tmp_path / f"{name}.wav", 0.5)
    whole = (tmp_path / "c.wav").read_bytes()
    (tmp_path / "c.wav").write_bytes(whole[:-4000])
    table, out = write_table(tmp_path, [f"{name}.wav,{name}" for name in "abc"]), tmp_path / "out"
    with pytest.raises(UserError, match=r"my\.csv:4: .*c\.wav: truncated wav"):
        write_data_set(table, out, jobs_of(table, out), write_names)
    (tmp_path / "c.wav").write_bytes(whole)
    write_data_set(table, out, jobs_of(table, out), write_names)
    assert (out / "names.txt").read_text().split() == [f"audio/{name}.wav" for name in "abc"]


def test_other_data_in_its_place_stays(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", 0.5)
    table, out = write_table(tmp_path, ["a.wav,a"]), tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"out: exists and has no recordings\.json"):
        write_data_set(table, out, jobs_of(table, out), write_names)
    assert [path.name for path in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    write_data_set(table, out, jobs_of(table, out), write_names)
    write_table(tmp_path, ["a.wav,b"])
    with pytest.raises(UserError, match=r"recordings\.json: made with table="):
        write_data_set(table, out, jobs_of(table, out), write_names)


def test_ctrl_c_leaves_nothing_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "a.wav", 0.5)
    table, out = write_table(tmp_path, ["a.wav,a"]), tmp_path / "out"

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_data_set(table, out, jobs_of(table, out), interrupt)
    assert not out.exists()
    write_data_set(table, out, jobs_of(table, out), write_names)
    assert (out / "audio" / "a.wav").is_file()
