"""The coverage report: what is listed, missing, broken and packed, by number and by name."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.audio.coverage import made_of
from common.audio.packs import open_pack
from common.run.config import load_config
from common.run.errors import UserError
from common.run.files import read_json, read_rows, sha256, write_json
from task4_sed.config import Config
from task4_sed.data.classes import CLASSES
from task4_sed.data.layout import SETS
from task4_sed.data.prepare import cover_set, prepare

TASK = Path(__file__).resolve().parent.parent


def config_of(root: Path) -> Config:
    return load_config(Config, TASK / "recipes", str(TASK / "tests" / "tiny.yaml"), [f"data.root={root}"])


def audio(root: Path, name: str) -> Path:
    return root / SETS[name].audio[0]


def names_in(table: Path) -> list[str]:
    return [row["filename"] for row in read_rows(table, ("filename",))]


def test_a_whole_data_set(tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packs = tiny_root / "packed"
    summary = prepare(config_of(tiny_root), workers=1, verify=True)
    assert summary == read_json(packs / "coverage.json")
    assert (summary["root"], summary["made_of"]) == (str(tiny_root), "toy")
    assert summary["exclusion_lists"] == ["strong", "weak", "unlabeled"]
    assert list(summary["sets"]) == list(SETS)
    for name, of in summary["sets"].items():
        present = len(list(audio(tiny_root, name).glob("*.wav")))
        if not name.startswith("external"):  # two sets share that folder
            assert of["listed"] == present
        assert (of["listed"], of["missing"], of["broken"], of["problem"]) == (of["packed"], 0, 0, None)
        assert of["official"] == SETS[name].official_clips
        table = SETS[name].annotation
        assert of["annotation_sha256"] == (sha256(tiny_root / table[0]) if table else None)
        assert len(open_pack(packs / name)) == of["packed"] > 0
    assert not list(packs.glob("*.missing.tsv"))
    assert not list(packs.glob("*.broken.tsv"))
    out = capsys.readouterr().out
    assert all(name in out for name in SETS)


def test_missing_clips_are_counted_and_named_until_they_are_there(linked_root: Path) -> None:
    packs = linked_root / "packed"
    gone = {}
    for name in ("synth_train", "weak", "devtest", "maestro_val"):
        gone[name] = sorted(audio(linked_root, name).glob("*.wav"))[1]
        gone[name].rename(linked_root / f"{name}.kept")
    summary = prepare(config_of(linked_root), workers=1)["sets"]
    for name, of in summary.items():
        assert of["missing"] == (1 if name in gone else 0)
        assert of["packed"] == of["listed"] - of["missing"]
        assert (packs / f"{name}.missing.tsv").exists() == (name in gone)
    for name, path in gone.items():
        assert names_in(packs / f"{name}.missing.tsv") == [path.name]
        assert path.name not in open_pack(packs / name)
        (linked_root / f"{name}.kept").rename(path)
    summary = prepare(config_of(linked_root), workers=1)["sets"]
    assert {of["missing"] for of in summary.values()} == {0}
    assert not list(packs.glob("*.missing.tsv"))
    assert all(path.name in open_pack(packs / name) for name, path in gone.items())


def test_unlabeled_clips_are_what_the_folder_holds(linked_root: Path) -> None:
    folder = audio(linked_root, "unlabeled")
    count = len(list(folder.iterdir()))
    sorted(folder.iterdir())[0].unlink()
    (folder / "notes.txt").touch()
    of = prepare(config_of(linked_root), workers=1)["sets"]["unlabeled"]
    assert (of["listed"], of["missing"], of["packed"]) == (count - 1, 0, count - 1)


def test_clips_of_the_submission_that_are_missing(linked_root: Path) -> None:
    """The list of durations says which clips the evaluation set has."""
    path = sorted(audio(linked_root, "eval24").iterdir())[0]
    path.unlink()
    of = prepare(config_of(linked_root), workers=1)["sets"]["eval24"]
    assert (of["missing"], of["packed"]) == (1, of["listed"] - 1)
    assert names_in(linked_root / "packed" / "eval24.missing.tsv") == [path.name]


def test_broken_clips_are_counted_and_named_with_the_reason(linked_root: Path) -> None:
    folder, packs = audio(linked_root, "synth_train"), linked_root / "packed"
    empty, text, cut, whole = sorted(folder.iterdir())[:4]
    content = {path: path.read_bytes() for path in (empty, text, cut)}
    for path, damaged in ((empty, b""), (text, b"not audio"), (cut, content[cut][: len(content[cut]) // 2])):
        path.unlink()  # the file is shared with the fixture's data set
        path.write_bytes(damaged)
    of = prepare(config_of(linked_root), workers=1)["sets"]["synth_train"]
    assert (of["missing"], of["broken"], of["packed"]) == (0, 3, of["listed"] - 3)
    rows = read_rows(packs / "synth_train.broken.tsv", ("filename", "reason"))
    assert sorted(row["filename"] for row in rows) == [empty.name, text.name, cut.name]
    assert all(row["reason"] for row in rows)
    assert whole.name in open_pack(packs / "synth_train")
    for path, sound in content.items():
        path.write_bytes(sound)
    assert prepare(config_of(linked_root), workers=1)["sets"]["synth_train"]["broken"] == 0
    assert not (packs / "synth_train.broken.tsv").exists()


def test_audio_of_another_rate_is_packed_at_16_khz(linked_root: Path) -> None:
    folder = audio(linked_root, "synth_train")
    folder.rename(folder.with_name("soundscapes"))  # the official folder of originals
    path = sorted(folder.with_name("soundscapes").iterdir())[0]
    path.unlink()
    soundfile.write(path, np.zeros((44_100, 2), np.float32), 44_100)
    summary = prepare(config_of(linked_root), workers=1)["sets"]["synth_train"]
    assert summary["packed"] == summary["listed"]
    pack = open_pack(linked_root / "packed" / "synth_train", 16_000)
    assert pack.length(pack.index_of(path.name)) == 16_000


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("devtest", "x.wav\t0\t1\tKazoo", "unknown class 'Kazoo'"),
        ("synth_train", "x.wav\t2\t1\tDog", "offset 1 is not after onset 2"),
        ("weak", "x.wav\tDog,Kazoo", "unknown class 'Kazoo'"),
        ("maestro_train", "x.wav\t0\t1\tcar\t2", "confidence 2 is outside 0 to 1"),
    ],
)
def test_a_malformed_table_is_an_error_before_anything_is_packed(
    linked_root: Path, name: str, row: str, message: str
) -> None:
    table = linked_root / SETS[name].annotation[0]
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, row]) + "\n")
    with pytest.raises(UserError) as caught:
        prepare(config_of(linked_root), workers=1)
    assert str(caught.value).startswith(f"{table}:{len(lines) + 1}: ")
    assert message in str(caught.value)
    assert not (linked_root / "packed").exists()


def test_a_set_that_the_recipe_needs_and_one_that_it_does_not(linked_root: Path) -> None:
    for name in ("eval_public", "weak"):
        (linked_root / SETS[name].annotation[0]).unlink()
    with pytest.raises(UserError, match=r"the recipe needs data set weak, but .*weak\.tsv: annotation not found"):
        prepare(config_of(linked_root), workers=1)
    summary = read_json(linked_root / "packed" / "coverage.json")["sets"]
    assert "annotation not found" in summary["eval_public"]["problem"]
    assert summary["synth_train"]["packed"] > 0


def test_a_table_without_audio_and_a_set_that_is_not_there(linked_root: Path) -> None:
    folder = audio(linked_root, "eval_public")
    listed = len(list(folder.iterdir()))
    for path in folder.iterdir():
        path.unlink()
    coverage = cover_set(linked_root, SETS["eval_public"], CLASSES)
    clips = coverage.clips
    assert (clips.listed, len(clips.missing), clips.found, coverage.absent) == (listed, listed, (), False)
    folder.rmdir()
    coverage = cover_set(linked_root, SETS["eval_public"], CLASSES)
    assert (coverage.clips.listed, len(coverage.clips.missing), coverage.absent) == (listed, listed, False)
    assert coverage.problem == f"{folder}: no audio found"
    (linked_root / SETS["eval_public"].annotation[0]).unlink()
    assert cover_set(linked_root, SETS["eval_public"], CLASSES).absent


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no audio of any data set found; expected folders such as dcase_synth/"):
        prepare(config_of(tmp_path), workers=1)
    assert list(tmp_path.iterdir()) == []


def test_verify_finds_a_damaged_pack(linked_root: Path) -> None:
    config = config_of(linked_root)
    prepare(config, workers=1)
    shard = linked_root / "packed" / "weak" / "00000.h5"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"00000\.h5.* prepare again after removing it"):
        prepare(config, workers=1, verify=True)


def test_what_a_data_set_is_made_of(tmp_path: Path) -> None:
    assert made_of(tmp_path) == "official"
    write_json(tmp_path / "recordings.json", {})
    assert made_of(tmp_path) == "recordings"
    write_json(tmp_path / "toy.json", {})
    assert made_of(tmp_path) == "toy"
    (tmp_path / "toy.json").write_text("{")
    with pytest.raises(UserError, match=r"toy\.json:1: not valid JSON"):
        made_of(tmp_path)
