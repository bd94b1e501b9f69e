"""A page of sounds alone, by several systems: a voice is recorded, and asks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from common.audio.reading import load
from common.run.errors import UserError
from common.tests.browser import chromium, needs_browser, served, tab
from common.tests.test_library_page import RATE, Pitch, Shown, names, tone


class Octave(Pitch):
    """A voice that asks is an octave lower than what it means; sentences are none of its business."""

    key, title, has_text, quality = "octave", "a counter of octaves", False, "It was never measured."

    def query(self, path: Path) -> Any:
        return self.bands(load(path, RATE)[::2])[None]  # at double speed


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A page of sounds alone, by two systems; the microphone hears a tone of 2000 Hz."""
    needs_browser()
    from common.search.index import Index, build
    from common.search.library_page import Library, library_page

    root = tmp_path_factory.mktemp("heard")
    library = root / "library"
    for name, hertz in {"same.wav": 2000, "octave.wav": 4000, "other.wav": 300}.items():
        library.mkdir(exist_ok=True)
        soundfile.write(library / name, tone(hertz), RATE)
    soundfile.write(root / "spoken.wav", tone(2000, 4), RATE)
    plain = type("Plain", (Pitch,), {"key": "plain", "title": "a counter of bands", "has_text": False})()
    shown = []
    for encoder in (Octave(), plain):
        build(library, encoder)
        shown.append(Library(Index.open(library, encoder.key), encoder, root / "pictures"))
    with served(lambda: library_page("By voice", shown)) as address, chromium(root / "spoken.wav") as browser:
        yield Shown(address, library, root, browser)


def test_a_voice_is_recorded_and_asks_the_system_that_is_chosen(heard: Shown) -> None:
    with tab(heard.browser, heard.address) as (page, _):
        assert page.locator("#sentence").count() == 0
        page.get_by_role("button", name="Record", exact=True).click()
        page.wait_for_timeout(2500)
        with page.expect_response(lambda response: "/upload" in response.url):
            page.get_by_role("button", name="Stop", exact=True).click()
        page.locator("#similar").click()
        page.locator(".hits li").first.wait_for()
        assert names(page)[0] == "octave.wav"
        assert "A counter of octaves answers. It was never measured." in page.locator("#model").inner_text()
        page.get_by_role("radio", name="a counter of bands").click()
        page.locator("#model", has_text="A counter of bands answers.").wait_for()
        page.locator("#similar").click()
        page.wait_for_function("document.querySelector('.hits b').innerText == 'same.wav'")


def test_a_folder_is_added_of_uploads_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    from common.search import page

    uploads, secret = tmp_path / "uploads", tmp_path / "secret.wav"
    secret.write_bytes(b"secret")
    files = [uploads / folder / "a.wav" for folder in "xy"]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text(str(file))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))
    for forged in ([str(secret)], [*map(str, files), f"{uploads}/../secret.wav"], [], None):
        with pytest.raises(UserError, match="Choose a folder with recordings first"):
            page.added(forged, 1)
    folder = page.added([str(file) for file in files], 1)
    assert sorted(path.read_text() for path in folder.iterdir()) == [str(file) for file in files]
    monkeypatch.setattr(page, "ADDED_FILES", 1)
    with pytest.raises(UserError, match="takes up to 1 files, 500 MB together"):
        page.added([str(file) for file in files], 2)
