"""The page that searches a library: a sentence or a sound in, ranked recordings with pictures out, to be played."""

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from common.audio.reading import blocks, info, read, to_pcm16
from common.audio.recordings import beginning
from common.run.errors import UserError
from common.run.files import sha256, write_then_rename
from common.run.folders import printable
from common.search import Encoder, Hit
from common.search.index import Index
from common.search.page import answered, application, frame, gradio, note, uploaded, without_folder

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

COUNTS = (5, 10, 20, 50)
LONGEST = 300  # characters of a sentence
FOLDERS = 500  # in the list
PICTURE = (2.4, 0.8)  # inches
PICTURE_DPI, PICTURE_SECONDS, MELS = 100, 30, 64
HEARD_SECONDS, HEARD_RATE = 60, 44_100  # of files that browsers do not play
PLAYED = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg"}
ALL = "all folders"


class Library:
    """An index with what the page asks of it. Recordings have numbers there, so no path comes from a browser.

    pictures: the folder in which they are kept, by content.
    """

    def __init__(self, index: Index, encoder: Encoder, pictures: Path) -> None:
        self.index, self.encoder, self.pictures = index, encoder, pictures
        self.numbers = {name: number for number, name in enumerate(index.names)}
        self.drawing = Lock()  # matplotlib's settings are those of the process

    def folders(self) -> list[str]:
        """Folders with recordings in them or below, the first ones by name."""
        found = {str(parent) for name in self.index.names for parent in Path(name).parents} - {"."}
        return sorted(found)[:FOLDERS]

    def by_sentence(self, sentence: str, folder: str, count: int) -> str:
        """The list of what fits a sentence, as HTML."""
        if not (sentence := (sentence or "").strip()):
            raise UserError("Type what you want to hear.")
        return self._list(self.encoder.texts([sentence[:LONGEST]]), folder, count)

    def by_sound(self, path: str | None, folder: str, count: int) -> str:
        """The list of what is like an upload, as HTML: the mean over its windows asks."""
        file = uploaded(path)
        with without_folder(file):
            windows = next(iter(self.encoder.sounds([file])))
            if isinstance(windows, UserError):
                raise windows
        return self._list(windows.mean(axis=0, keepdims=True), folder, count)

    def _list(self, query: Any, folder: str, count: int) -> str:
        hits = self.index.search(query, int(count), None if folder == ALL else folder)[0]
        return f"<ol class='hits'>{''.join(self._item(rank, hit) for rank, hit in enumerate(hits, 1))}</ol>"

    def _item(self, rank: int, hit: Hit) -> str:
        number, parent = self.numbers[hit.name], Path(hit.name).parent
        name, folder = html.escape(printable(Path(hit.name).name)), "" if parent == Path(".") else printable(parent)
        likeness = max(0.0, min(1.0, hit.score))
        return (
            f"<li><span class='rank'>{rank}</span>"
            f"<img src='/library/picture/{number}' alt='spectrogram of {name}' loading='lazy' width='240' height='80'>"
            f"<span class='what'><b title='{name}'>{name}</b><small>{html.escape(folder)}</small></span>"
            f"<span class='score' title='cosine similarity'><i style='width:{100 * likeness:.0f}%'></i>"
            f"<em>{hit.score:.3f}</em></span>"
            f"<audio controls preload='none' src='/library/sound/{number}#t={hit.start:g}'></audio></li>"
        )

    def _file(self, number: int) -> Path:
        """Raises UserError for a number of no recording, and where it is gone."""
        if not 0 <= number < len(self.index.names):
            raise UserError(f"{number}: no recording has this number")
        name = self.index.names[number]
        if not (file := self.index.library / name).is_file():
            raise UserError(f"{printable(name)}: gone since the library was indexed")
        return file

    def picture(self, number: int) -> "Response":
        """The spectrogram of a recording's beginning, a png."""
        from starlette.responses import FileResponse

        def draw() -> "Response":
            file = self._file(number)
            path = self.pictures / f"{sha256(file)}.png"
            with self.drawing, without_folder(file):
                if not path.is_file():
                    draw_spectrogram(file, path)
            return FileResponse(path, media_type="image/png")

        return _or_reason(draw)

    def sound(self, number: int) -> "Response":
        """A recording as it is where browsers play it; the first minute of others as wav."""
        from starlette.responses import FileResponse, Response

        def play() -> "Response":
            file = self._file(number)
            if kind := PLAYED.get(file.suffix.lower()):
                return FileResponse(file, media_type=kind)
            with without_folder(file):
                return Response(as_wav(file), media_type="audio/wav")

        return _or_reason(play)


def _or_reason(answer: "Callable[[], Response]") -> "Response":
    from starlette.responses import PlainTextResponse

    try:
        return answer()
    except UserError as error:
        return PlainTextResponse(str(error), status_code=404)


def as_wav(file: Path) -> bytes:
    """The first minute as 16-bit mono. Raises UserError as `reading.read` does."""
    import numpy as np
    import soundfile

    heard = np.concatenate(list(beginning(blocks(file, HEARD_RATE), HEARD_SECONDS * HEARD_RATE)))
    encoded = io.BytesIO()
    soundfile.write(encoded, to_pcm16(heard), HEARD_RATE, format="WAV", subtype="PCM_16")
    return encoded.getvalue()


def draw_spectrogram(file: Path, path: Path) -> None:
    """A small mel spectrogram without axes, as png. Raises UserError as `reading.read` does."""
    import librosa
    import librosa.display
    from matplotlib.figure import Figure

    waveform, rate = read(file, frames=int(PICTURE_SECONDS * info(file).sample_rate))
    hop = max(1, len(waveform) // 480)  # two columns a pixel
    mel = librosa.feature.melspectrogram(y=waveform, sr=rate, n_fft=2048, hop_length=hop, n_mels=MELS)
    figure = Figure(figsize=PICTURE, dpi=PICTURE_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    librosa.display.specshow(librosa.power_to_db(mel, ref=max(float(mel.max()), 1e-10)), ax=axes, cmap="magma")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_then_rename(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def library_page(
    title: str, library: Library, quality: str, examples: Sequence[str] = (), host: str = "127.0.0.1"
) -> "FastAPI":
    """The page as an application. quality: how good the model is, and on what; examples: sentences to begin with."""
    ui = gradio()
    encoder, count = library.encoder, len(library.index.names)
    ways = "a sentence or a sound" if encoder.has_text else "a sound"
    lead = f"Find recordings by {ways}: {count:,} in this library."
    with frame(title, lead, f"{encoder.title} answers. {quality}") as page:
        with ui.Row(elem_classes="filters", equal_height=True):
            folder = ui.Dropdown([ALL, *library.folders()], value=ALL, label="Folder", elem_id="folder")
            number = ui.Dropdown(list(COUNTS), value=COUNTS[1], label="Hits", elem_id="count", min_width=120, scale=0)
        with ui.Tabs():
            if encoder.has_text:
                with ui.Tab("Sentence"), ui.Row(equal_height=True, elem_classes="ask"):
                    words = ui.Textbox(
                        label="What do you want to hear?",
                        placeholder=examples[0] if examples else "",
                        max_length=LONGEST,
                        elem_id="sentence",
                        scale=4,
                    )
                    search = ui.Button("Search", variant="primary", elem_id="search", scale=0)
            with ui.Tab("Sound"):
                sources = ["upload", "microphone"]
                sound = ui.Audio(sources=sources, type="filepath", label="Record or upload", elem_id="sound")
                similar = ui.Button("Find similar", variant="primary", elem_id="similar")
        results = ui.HTML(note("The best recordings will stand here."), elem_id="results")
        ask: dict[str, Any] = {"outputs": results, "show_progress": "minimal", "api_visibility": "private"}
        if encoder.has_text:
            ui.on([words.submit, search.click], answered(library.by_sentence), [words, folder, number], **ask)
        ui.on([similar.click], answered(library.by_sound), [sound, folder, number], **ask)
    routes = {"/library/picture/{number:int}": library.picture, "/library/sound/{number:int}": library.sound}
    return application(page, routes, host)
