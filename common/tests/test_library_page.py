"""The page that searches a library, in a browser, and what it refuses."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile

from common.audio.reading import load
from common.run.errors import UserError
from common.search import Encoder
from common.search.page import serve
from common.tests.browser import chromium, needs_browser, served, tab
from common.tests.helpers import ROOT

RATE = 16_000
PITCHES = {"birds/high.wav": 3000, "birds/higher.flac": 4000, "engines/low.wav": 200, "engines/<b>x&.aiff": 240}
WORDS = {"low hum": 200, "high whistle": 3000}


class Pitch(Encoder):
    """Hears in which of 64 bands the energy lies; knows two sentences."""

    key, title, has_text, window, command = "pitch", "A counter of bands", True, 10.0, "index"
    quality, dim = "It is right 0.75 of the time.", 64

    def sounds(self, paths: Sequence[Path]) -> Iterator[Any]:
        for path in paths:
            try:
                yield self.bands(load(path, RATE))[None]
            except UserError as error:
                yield error

    def bands(self, waveform: Any) -> Any:
        power = np.abs(np.fft.rfft(waveform, RATE)) ** 2
        return power[: RATE // 2].reshape(self.dim, -1).sum(axis=1).astype(np.float32)

    def texts(self, sentences: Sequence[str]) -> Any:
        if unknown := [sentence for sentence in sentences if sentence not in WORDS]:
            raise UserError(f"{unknown[0]}: knows {', '.join(WORDS)}")
        return np.stack([self.bands(tone(WORDS[sentence])) for sentence in sentences])


def tone(hertz: float, seconds: float = 1.0) -> Any:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


class Shown(NamedTuple):
    """A page that is served: its address, the folders of its library and of other sounds, the browser."""

    address: str
    library: Path
    sounds: Path
    browser: Any


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    needs_browser()
    from common.search.index import Index, build
    from common.search.library_page import Library, library_page

    root = tmp_path_factory.mktemp("page")
    library, sounds, encoder = root / "my recordings", root / "sounds", Pitch()
    sounds.mkdir()
    for name, hertz in PITCHES.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(library / name, tone(hertz), RATE)
    soundfile.write(sounds / "query.wav", tone(3900), RATE)
    soundfile.write(sounds / "long.wav", np.zeros(61 * RATE), RATE)
    (sounds / "bad.wav").write_bytes(b"no sound")
    build(library, encoder)
    of = Library(Index.open(library, encoder.key), encoder, root / "pictures")
    with (
        served(lambda: library_page("Search", [of], ["low hum"])) as address,
        chromium() as browser,
    ):
        yield Shown(address, library, sounds, browser)


def names(page: Any) -> list[str]:
    return page.locator(".hits b").all_inner_texts()


def ask(page: Any, sentence: str) -> None:
    page.locator("#sentence textarea, #sentence input").fill(sentence)
    page.locator("#search").click()


def test_a_sentence_gives_ranked_recordings_that_play(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, asked):
        assert "A counter of bands answers. It is right 0.75 of the time." in page.locator(".model").inner_text()
        ask(page, "low hum")
        page.locator(".hits li").first.wait_for()
        assert set(names(page)[:2]) == {"low.wav", "<b>x&.aiff"}
        assert float(page.locator(".score em").first.inner_text()) == pytest.approx(1, abs=1e-3)
        page.wait_for_function("[...document.querySelectorAll('.hits img')].every(of => of.naturalWidth == 240)")
        for number in (0, 1):  # the second is converted: browsers play no aif
            page.locator(".hits audio").nth(number).evaluate("of => of.play()")
            page.wait_for_function(f"document.querySelectorAll('.hits audio')[{number}].currentTime > 0")
        page.locator("#folder input").click()
        page.get_by_role("option", name="birds").click()
        ask(page, "low hum")
        page.wait_for_function("document.querySelectorAll('.hits li').length == 2")
        assert set(names(page)) == {"high.wav", "higher.flac"}
        assert str(shown.library) not in page.content()
        assert str(shown.library.parent) not in "".join(asked)


def test_what_cannot_be_answered_is_a_sentence(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, _):
        for sentence, expected in (("", "Type what you want"), ("<img src=x>", "<img src=x>: knows low hum")):
            ask(page, sentence)
            page.locator("#results .note", has_text=expected).wait_for()
        page.get_by_role("tab", name="Sound").click()
        page.locator("#similar").click()
        page.locator("#results .note", has_text="Record or upload a sound first").wait_for()
        for name, expected in (("bad.wav", "bad.wav: not readable"), ("long.wav", "long.wav: lasts 61 s")):
            upload(page, shown.sounds / name)
            message = page.locator("#results .note", has_text=expected)
            message.wait_for()
            assert "/" not in message.inner_text()


def upload(page: Any, path: Path) -> None:
    if (clear := page.get_by_label("Clear")).count():
        clear.first.click()
    chooser = page.locator("#sound input[type=file]")
    with page.expect_response(lambda response: "/upload" in response.url):
        chooser.set_input_files(path)
    page.locator("#similar").click()


def test_a_sound_finds_its_like(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, _):
        page.get_by_role("tab", name="Sound").click()
        upload(page, shown.sounds / "query.wav")
        page.locator(".hits li").first.wait_for()
        assert names(page)[0] == "higher.flac"


def test_no_other_file_is_given(shown: Shown) -> None:
    request = shown.browser.new_context().request
    secret = shown.sounds / "query.wav"
    for path in (
        "/library/sound/0/99",
        "/library/sound/0/-1",
        "/library/sound/1/99",
        "/library/sound/0/..%2f..%2fsounds%2fquery.wav",
        "/library/picture/0/%2e%2e/0",
        f"/gradio_api/file={secret}",
        f"/gradio_api/file={shown.library / 'birds/high.wav'}",
        "/gradio_api/file=/etc/passwd",
        f"/gradio_api/file=../../../../../..{secret}",
    ):
        answer = request.get(shown.address + path)
        assert answer.status in (403, 404), path
        assert b"RIFF" not in answer.body()
    elsewhere = request.get(shown.address, headers={"Host": "example.org"})
    assert elsewhere.status == 400
    assert "default-src 'self'" in request.get(shown.address).headers["content-security-policy"]


def test_uploads_are_bounded(shown: Shown) -> None:
    from common.search.page import UPLOAD_BYTES

    request = shown.browser.new_context().request
    large = {"name": "large.wav", "mimeType": "audio/wav", "buffer": bytes(UPLOAD_BYTES + 1)}
    assert request.post(f"{shown.address}/gradio_api/upload", multipart={"files": large}).status == 413


def test_forged_paths_are_not_heard(shown: Shown) -> None:
    request = shown.browser.new_context().request
    forged = {"path": str(shown.library / "birds/high.wav"), "meta": {"_type": "gradio.FileData"}}
    for of in request.get(f"{shown.address}/config").json()["dependencies"]:
        call = {"data": [forged, "all folders", 10], "fn_index": of["id"], "session_hash": f"forged{of['id']}"}
        if request.post(f"{shown.address}/gradio_api/queue/join", data=call).ok:
            answer = request.get(f"{shown.address}/gradio_api/queue/data?session_hash={call['session_hash']}").text()
            assert "higher.flac" not in answer
            assert "Traceback" not in answer


SERVER = """
import fastapi
from common.search.page import serve
serve(fastapi.FastAPI, port=0)
"""


def test_ctrl_c_ends_a_page() -> None:
    needs_browser()
    process = subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = urlsplit(process.stdout.readline().split()[0])
    assert address.hostname == "127.0.0.1"
    with pytest.raises(UserError, match="cannot be listened on"):
        serve(lambda: None, port=address.port or 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(HTTPError, match="404"):  # it answers: its server has taken over the signal
        urlopen(address.geturl(), timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0].splitlines() == ["stopped"]
    assert process.returncode == 0


def test_a_hit_finds_its_like(shown: Shown) -> None:
    with tab(shown.browser, shown.address) as (page, _):
        ask(page, "high whistle")
        page.locator(".hits li").first.wait_for()
        assert names(page)[0] == "high.wav"
        page.locator(".hits li", has_text="higher.flac").locator(".like").click()
        page.locator("#results .note", has_text="Like higher.flac").wait_for()
        assert names(page)[0] == "higher.flac"
        assert not page.locator("#like").is_visible()


def test_it_fits_a_telephone(shown: Shown) -> None:
    with tab(shown.browser, shown.address, viewport={"width": 360, "height": 700}) as (page, _):
        ask(page, "low hum")
        page.locator(".hits li").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for part in ("img", ".what", ".score", "audio", ".like"):
            box = page.locator(".hits li").first.locator(part).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
            assert box["width"] > 20
