"""The page that detects: in a browser, and what it says of sounds that it cannot take."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from common.run.errors import UserError
from common.run.verbs import Run, open_run
from common.tests.browser import chromium, needs_browser, served, tab
from task4_sed.__main__ import TASK
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.evaluation import demo
from task4_sed.evaluation.demo import System, systems
from task4_sed.evaluation.roll import ByBoxes, Sound, heard, player, roll
from task4_sed.inference.detectors import YAMNET, Detector
from task4_sed.inference.events import Rule
from task4_sed.inference.postprocess.csebbs import CsebbsParameters, write_parameters
from task4_sed.tests.detectors import fake

LOUD, QUIET = ("low hum", 1.0, 2.0), ("<b>whistle", 3.0, 4.0)  # class, onset, offset: seconds


class Bands:
    """A network that hears how loud it is below and above 2 kHz, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.detector = fake(self.hear, (LOUD[0], QUIET[0], "nothing"))

    def hear(self, windows: Tensor) -> Tensor:
        self.asked += 1
        power = torch.fft.rfft(windows.reshape(len(windows), 250, 640)).abs() ** 2
        bands = torch.stack((power[..., :80].sum(-1), power[..., 80:].sum(-1), torch.zeros_like(power[..., 0])), -1)
        return 2 * torch.log10(bands + 1e-6) - 4


def scene() -> Any:
    """A loud hum (score 0.98) and a quiet whistle (0.31) in 6 s of silence."""
    time = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    sound = np.zeros_like(time)
    for (_, onset, offset), level, hertz in ((LOUD, 0.3, 500), (QUIET, 0.02, 3000)):
        sound += level * np.sin(2 * np.pi * hertz * time) * ((onset <= time) & (time < offset))
    return sound


BAD = {
    "text.wav": "text.wav: not readable",
    "empty.wav": "empty.wav: empty file (0 bytes)",
    "long.wav": "long.wav: lasts 61 s; the page takes up to 60 s.",
    "nan.wav": "nan.wav: 1 samples are not finite",
}


def write_sounds(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("scene.flac", "scene.wav"):
        soundfile.write(folder / name, scene(), SAMPLE_RATE)
    (folder / "text.wav").write_text("no sound at all")
    (folder / "empty.wav").touch()
    soundfile.write(folder / "long.wav", np.zeros(61 * 8000), 8000)
    broken = np.zeros(SAMPLE_RATE, np.float32)
    broken[100] = np.nan
    soundfile.write(folder / "nan.wav", broken, SAMPLE_RATE, subtype="FLOAT")
    return folder


class Shown(NamedTuple):
    """A page that is served: its address, the network, a folder with sounds, the browser."""

    address: str
    bands: Bands
    sounds: Path
    browser: Any


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    needs_browser()
    bands, sounds = Bands(), write_sounds(tmp_path_factory.mktemp("page") / "my sounds")
    answering = [System(bands.detector, "It was never measured."), System(Bands().detector, "Nor was this one.")]
    with served(lambda: demo.page(answering)) as address, chromium(sounds / "scene.wav") as browser:
        yield Shown(address, bands, sounds, browser)


def upload(page: Any, path: Path) -> None:
    if (clear := page.locator("#sound").get_by_label("Clear")).count():
        clear.first.click()
    with page.expect_response(lambda response: "/upload" in response.url):
        page.locator("#sound input[type=file]").set_input_files(path)


def says(page: Any, words: str) -> None:
    page.locator("#found .note", has_text=words).wait_for()


def move(page: Any, where: str, value: float) -> None:
    page.locator(f"{where} input[type=number]").fill(str(value))
    page.locator(f"{where} input[type=number]").press("Tab")


def names(page: Any) -> list[str]:
    return page.locator(".roll .track:not(.times) .name").all_inner_texts()


def test_a_sound_is_heard_once_and_redrawn(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, asked):
        assert "Heard by fake. It was never measured." in page.locator("#model").inner_text()
        before = shown.bands.asked
        upload(page, shown.sounds / "scene.flac")
        says(page, "2 events of 2 classes")
        assert shown.bands.asked == before + 1
        assert names(page) == [LOUD[0], QUIET[0], "nothing"]
        spans = page.locator("table.events button").all_inner_texts()
        assert spans == ["1.00 to 2.00", "3.00 to 4.00"]
        boxes = [page.locator(f".roll .{of}").first.bounding_box() for of in ("plot", "event")]
        assert (boxes[1]["x"] - boxes[0]["x"]) / boxes[0]["width"] == pytest.approx(1 / 6, abs=0.01)
        assert boxes[1]["width"] / boxes[0]["width"] == pytest.approx(1 / 6, abs=0.01)
        move(page, "#threshold", 0.6)
        says(page, "1 event of 1 class")
        move(page, "#threshold", 0.2)
        says(page, "2 events of 2 classes")
        move(page, "#threshold", 0.6)
        page.locator("#ways label").nth(1).click()
        says(page, "1 event of 1 class")
        move(page, "#threshold", 0.2)
        says(page, "2 events of 2 classes")
        page.locator("#classes input").click()
        page.get_by_role("option", name=QUIET[0]).click()
        says(page, "1 event of 1 class")
        assert names(page) == [QUIET[0]]
        assert shown.bands.asked == before + 1
        assert str(shown.sounds) not in page.content()
        assert str(shown.sounds.parent) not in "".join(asked)


@pytest.mark.slow
def test_the_line_follows_the_sound(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, _):
        upload(page, shown.sounds / "scene.flac")
        says(page, "2 events")
        at = "parseFloat(document.querySelectorAll('.cursor')[1].style.left)"
        assert page.evaluate(at) == 0
        plot = page.locator(".spectrogram .plot")
        plot.click(position={"x": plot.bounding_box()["width"] / 2, "y": 20})
        page.wait_for_function(f"Math.abs({at} - 50) < 1")
        assert page.evaluate("document.querySelector('#player audio').currentTime") == pytest.approx(3, abs=0.05)
        page.locator(".roll .event").first.click()
        page.wait_for_function(f"!document.querySelector('#player audio').paused && {at} > 18 && {at} < 50")
        line, picture = page.locator(".cursor").first.bounding_box(), plot.bounding_box()
        assert picture["x"] <= line["x"] <= picture["x"] + picture["width"]


@pytest.mark.slow
def test_events_are_downloaded(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, _):
        upload(page, shown.sounds / "scene.flac")
        says(page, "2 events")
        files = {}
        for kind in ("TSV", "JSON", "Audacity"):
            with page.expect_download() as download:
                page.locator(".files a", has_text=kind).click()
            files[download.value.suggested_filename] = Path(download.value.path()).read_text(encoding="utf-8")
    assert set(files) == {"scene.tsv", "scene.json", "scene.txt"}
    header, first, second = files["scene.tsv"].splitlines()
    assert header.split("\t")[:4] == ["filename", "onset", "offset", "event_label"]
    assert first.split("\t")[:4] == ["scene.flac", "1.0", "2.0", LOUD[0]]
    assert second.split("\t")[3] == QUIET[0]
    told = json.loads(files["scene.json"])
    assert [(e["event_label"], e["onset"], e["offset"]) for e in told["events"]] == [LOUD, QUIET]
    assert told["settings"]["threshold"] == Rule().threshold
    assert files["scene.txt"].startswith(f"1.000000\t2.000000\t{LOUD[0]} ")


def test_what_cannot_be_heard_is_a_sentence(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, _):
        for name, expected in BAD.items():
            upload(page, shown.sounds / name)
            says(page, expected)
            assert "/" not in page.locator("#found").inner_text()
            assert page.locator("#player audio").count() == 0
        upload(page, shown.sounds / "scene.flac")
        says(page, "2 events")


@pytest.mark.slow
def test_the_example_and_another_system(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, _):
        page.locator("#example").click()
        page.locator(".roll .track").first.wait_for()
        assert float(page.locator("#player audio").get_attribute("data-seconds")) == 10
        before = shown.bands.asked
        page.locator("#system label").nth(1).click()
        page.locator("#model", has_text="Nor was this one.").wait_for()
        page.locator(".roll .track").first.wait_for()
        assert shown.bands.asked == before
        page.locator("#sound").get_by_label("Clear").first.click()
        says(page, demo.START[:20])


@pytest.mark.slow
def test_a_recording_is_heard(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, _):
        page.locator("#sound").get_by_label("Record audio").click()
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(2500)
        with page.expect_response(lambda response: "/upload" in response.url):
            page.get_by_role("button", name="Stop", exact=True).click()
        page.locator(".roll .track").first.wait_for()
        assert names(page)[0] == LOUD[0]
        assert float(page.locator("#player audio").get_attribute("data-seconds")) > 1


@pytest.mark.slow
def test_it_fits_a_telephone(shown: Shown) -> None:
    with tab(shown.browser, shown.address, viewport={"width": 390, "height": 800}) as (page, _):
        upload(page, shown.sounds / "scene.flac")
        says(page, "2 events")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for part in ("#player audio", ".spectrogram .plot", ".roll .plot", "table.events"):
            box = page.locator(part).first.bounding_box()
            assert box["x"] >= 0
            assert 250 < box["width"] <= 390


def test_no_file_is_heard_that_was_not_uploaded(shown: Shown) -> None:
    request = shown.browser.new_context().request
    forged = {"path": str(shown.sounds / "scene.flac"), "meta": {"_type": "gradio.FileData"}}
    before = shown.bands.asked
    for of in request.get(f"{shown.address}/config").json()["dependencies"]:
        data = [forged, 0, 0.2, [], 0.36, 0.0, 0.0, 10, 0]
        call = {"data": data, "fn_index": of["id"], "session_hash": f"forged{of['id']}"}
        if request.post(f"{shown.address}/gradio_api/queue/join", data=call).ok:
            answer = request.get(f"{shown.address}/gradio_api/queue/data?session_hash={call['session_hash']}").text()
            assert "class='track'" not in answer
            assert "Traceback" not in answer
    assert shown.bands.asked == before


# ------------------------------------------------------------------------------------------------ without a browser


@pytest.mark.parametrize("name", BAD)
def test_bad_sounds_are_one_line_without_a_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.search.page import uploaded

    bands, sounds = Bands(), write_sounds(tmp_path / "uploads")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(sounds))
    with pytest.raises(UserError) as refused:
        heard(bands.detector, uploaded(str(sounds / name)))
    assert str(refused.value).startswith(BAD[name])
    assert "/" not in str(refused.value)
    assert bands.asked == 0


def heard_scene(bands: Bands, folder: Path) -> Sound:
    return heard(bands.detector, write_sounds(folder / "sounds") / "scene.flac")


def test_a_roll_needs_no_network(tmp_path: Path) -> None:
    bands = Bands()
    sound = heard_scene(bands, tmp_path)
    assert "data-seconds='6.0'" in player(sound)
    drawn = [roll(sound, Rule(threshold), (), 10) for threshold in (0.2, 0.6, 1.0)]
    assert [of.count("<button") for of in drawn] == [2, 1, 0]
    assert "&lt;b&gt;whistle" in drawn[0]
    assert "<b>whistle" not in drawn[0]
    assert roll(sound, Rule(), {QUIET[0]}, 10).count("<button") == 1
    assert roll(sound, Rule(min_duration=1.5), (), 10).count("<button") == 0
    few = roll(sound, Rule(), (), 1)
    assert few.count("class='track'") == 1
    assert "1 class in the table alone" in few
    assert bands.asked == 1


def test_boxes_need_no_network_either(tmp_path: Path) -> None:
    bands = Bands()
    sound = heard_scene(bands, tmp_path)
    drawn = roll(sound, ByBoxes(0.2), (), 10)
    assert drawn.count("<button") == 2
    for _, onset, offset in (LOUD, QUIET):
        assert f"{onset:.2f} to {offset:.2f}" in drawn
    assert roll(sound, ByBoxes(0.6), (), 10).count("<button") == 1
    write_parameters(tmp_path / "csebbs.tsv", {LOUD[0]: CsebbsParameters()})  # the others as by default
    tuned = roll(sound, ByBoxes(0.2, str(tmp_path / "csebbs.tsv")), (), 10)
    assert tuned.count("<button") == 2
    files = [base64.b64decode(of).decode() for of in re.findall(r"octet-stream;base64,([^']*)", tuned)]
    (told,) = [json.loads(of)["settings"] for of in files if of.startswith("{")]
    assert told == {"threshold": 0.2, "csebbs": "csebbs.tsv"}
    assert bands.asked == 1


def test_silence_has_no_events(tmp_path: Path) -> None:
    bands = Bands()
    soundfile.write(tmp_path / "silent.wav", np.zeros(SAMPLE_RATE // 2), SAMPLE_RATE)
    sound = heard(bands.detector, tmp_path / "silent.wav")
    assert "0 events of 0 classes; silent" in roll(sound, Rule(0.0), (), 10)
    assert player(sound)


def test_which_networks_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = open_run(TASK, TASK.default_recipe, folder=tmp_path)
    stand_in = Bands().detector

    def load(names: Any, **_: Any) -> Detector:
        if names == ["gone"]:
            raise UserError("gone: not on this machine")
        return stand_in

    monkeypatch.setattr(demo, "load_detector", load)

    def answering(run: Run | None = None, model: list[str] | None = None) -> list[str]:
        return [of.detector.name for of in systems(run, toy, model)]

    assert answering() == [YAMNET]
    with pytest.raises(UserError, match="no finished training; `train` makes one; --model yamnet answers without"):
        answering(toy)
    assert answering(None, ["/home/someone/one.ckpt", "BEATs_strong_1"]) == ["one.ckpt + BEATs_strong_1"]
    with pytest.raises(UserError, match="gone: not on this machine"):
        answering(None, ["gone"])
    from common.run.results.store import record

    record(toy.folder, "train", {"data": "toy"})
    record(toy.folder, "checkpoint", {"file": "checkpoints/best.ckpt", "sha256": "0" * 64})
    assert "Not measured on its own test set" in systems(toy, toy, None)[0].quality
    of_test = {"sets": {"devtest": {"median": {"psds1": 0.25}}}, "intervals": {"psds1": {"low": 0.2, "high": 0.3}}}
    record(toy.folder, "test", of_test)
    assert answering() == answering(toy) == [toy.title, YAMNET]
    (named,) = systems(None, toy, [str(toy.folder)])
    assert named.detector.name == f"{tmp_path.name} run1"
    assert named.quality.startswith("PSDS1 0.250")
    said = systems(None, toy, None)[0].answers
    assert "PSDS1 0.250 [0.200, 0.300] on its own test set; trained on toy sounds" in said
