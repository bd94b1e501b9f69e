"""The page that searches a library: a sentence or a sound in, ranked recordings with pictures out, to be played."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from common.audio.reading import blocks, info, read, wav_bytes
from common.audio.recordings import beginning
from common.run.errors import UserError
from common.run.files import sha256, write_then_rename
from common.run.folders import printable
from common.search import Encoder, Hit, sentence
from common.search.index import Index, place
from common.search.library import opened
from common.search.page import LOCAL, added, answered, application, frame, gradio, note, uploaded, without_folder

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

COUNTS = (5, 10, 20, 50)
LONGEST = 300  # characters of a sentence
FOLDERS = 500  # in the list
PICTURE = (2.4, 0.8)  # inches
PICTURE_DPI, PICTURE_SECONDS, MELS = 100, 30, 64
HEARD_SECONDS, HEARD_RATE = 60, 44_100  # of files that browsers do not play
PLAYED = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg"}
ALL, START = "all folders", "The best recordings will stand here."
# A button of a hit: its number goes into a hidden field, which asks.
LIKE = (
    'const field = document.querySelector("#like input"); field.value = %d; '
    'field.dispatchEvent(new Event("input", {bubbles: true}))'
)


class Library:
    """An index with what the page asks of it. Recordings have numbers there, so no path comes from a browser.

    pictures: the folder in which they are kept, by content; quality: how good the encoder is, in a sentence.
    """

    def __init__(self, index: Index, encoder: Encoder, pictures: Path, quality: str = "") -> None:
        self.index, self.encoder, self.pictures = index, encoder, pictures
        self.quality = quality or encoder.quality
        self.number = 0  # of several on a page, by which its recordings are asked for
        self.numbers = {name: number for number, name in enumerate(index.names)}
        self.drawing = Lock()  # matplotlib's settings are those of the process

    @property
    def answers(self) -> str:
        """Which system does, and how good it is."""
        title = self.encoder.title
        return f"{title[:1].upper()}{title[1:]} answers. {self.quality}"

    def folders(self) -> list[str]:
        """Folders with recordings in them or below, the first ones by name."""
        found = {str(parent) for name in self.index.names for parent in Path(name).parents} - {"."}
        return sorted(found)[:FOLDERS]

    def by_sentence(self, words: str, folder: str, count: int) -> str:
        """The list of what fits a sentence, as HTML."""
        if not self.encoder.has_text:
            raise UserError(f"{self.encoder.title} understands sounds alone.")
        return self._list(self.encoder.texts([sentence(words or "")[:LONGEST]]), folder, count)

    def by_sound(self, path: str | None, folder: str, count: int) -> str:
        """The list of what is like an upload, as HTML."""
        file = uploaded(path)
        with without_folder(file):
            query = self.encoder.query(file)
        return self._list(query, folder, count)

    def by_recording(self, number: float | None, folder: str, count: int) -> str:
        """The list of what is like a recording of the library, as HTML."""
        if number is None or not 0 <= number < len(self.index.names):
            raise UserError("No such recording.")
        name = printable(Path(self.index.names[int(number)]).name)
        return note(f"Like {name}:") + self._list(self.index.vector(int(number)), folder, count)

    def _list(self, query: Any, folder: str, count: int) -> str:
        hits = self.index.search(query, int(count), None if folder == ALL else folder)[0]
        return f"<ol class='hits'>{''.join(self._item(rank, hit) for rank, hit in enumerate(hits, 1))}</ol>"

    def _item(self, rank: int, hit: Hit) -> str:
        number, parent = self.numbers[hit.name], Path(hit.name).parent
        name, folder = html.escape(printable(Path(hit.name).name)), "" if parent == Path(".") else printable(parent)
        likeness = max(0.0, min(1.0, hit.score))
        return (
            f"<li><span class='rank'>{rank}</span>"
            f"<img src='/library/picture/{self.number}/{number}' alt='spectrogram of {name}' "
            "loading='lazy' width='240' height='80'>"
            f"<span class='what'><b title='{name}'>{name}</b><small>{html.escape(folder)}</small>"
            f"<button class='like' title='find what sounds alike' onclick='{LIKE % number}'>similar</button></span>"
            f"<span class='score' title='cosine similarity'><i style='width:{100 * likeness:.0f}%'></i>"
            f"<em>{hit.score:.3f}</em></span>"
            f"<audio controls preload='none' src='/library/sound/{self.number}/{number}#t={hit.start:g}'></audio></li>"
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


def heard_by(
    encoders: Sequence[Encoder], folder: Path, index: Path | None, quality: Callable[[Encoder], str] | None = None
) -> list[Library]:
    """A folder for each system that can answer, whose indexes are brought up to date; index: where these lie."""
    pictures = place(folder, index) / "pictures"
    return [Library(opened(folder, of, index), of, pictures, quality(of) if quality else "") for of in encoders]


class Shelf:
    """What a page searches: a folder by each system, and folders that were added to it, until it is closed."""

    def __init__(self, libraries: Sequence[Library]) -> None:
        self.all: list[Library] = []
        self.first = self._numbered(libraries)
        self.added: dict[str, list[Library]] = {}

    def _numbered(self, libraries: Sequence[Library]) -> list[Library]:
        for library in libraries:
            library.number = len(self.all)
            self.all.append(library)
        return list(libraries)

    def folders(self) -> list[str]:
        """What the answer can keep to."""
        return [ALL, *self.first[0].folders(), *self.added]

    def chosen(self, system: int, folder: str) -> tuple[Library, str]:
        """The library that answers, and the folder in it."""
        return (self.added[folder][int(system)], ALL) if folder in self.added else (self.first[int(system)], folder)

    def add(self, uploads: Sequence[str] | None) -> tuple[str, str]:
        """Hear uploaded files by every system; the folder's name and what it holds. Raises UserError, a sentence."""
        folder = added(uploads, len(self.added) + 1)
        try:
            heard = heard_by([of.encoder for of in self.first], folder, None)
        except UserError as error:
            raise UserError(str(error).replace(f"{folder}/", "").replace(str(folder), "What was chosen")) from None
        self.added[folder.name] = self._numbered(heard)
        left = ", ".join(sorted(Path(name).name for name in heard[0].index.unreadable))
        said = f"{len(heard[0].index.names):,} recordings added"
        return folder.name, f"{said}; not readable: {left}." if left else f"{said}."

    def route(self, answer: "Callable[[Library, int], Response]") -> "Callable[[int, int], Response]":
        """What answers for recordings by the numbers of a library and in it."""

        def given(system: int, number: int) -> "Response":
            return answer(self.all[min(system, len(self.all) - 1)], number)

        return given


def _or_reason(answer: "Callable[[], Response]") -> "Response":
    from starlette.responses import PlainTextResponse

    try:
        return answer()
    except UserError as error:
        return PlainTextResponse(str(error), status_code=404)


def as_wav(file: Path) -> bytes:
    """The first minute as 16-bit mono. Raises UserError as `reading.read` does."""
    import numpy as np

    return wav_bytes(np.concatenate(list(beginning(blocks(file, HEARD_RATE), HEARD_SECONDS * HEARD_RATE))), HEARD_RATE)


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
    title: str, libraries: Sequence[Library], examples: Sequence[str] = (), host: str = LOCAL
) -> "FastAPI":
    """The page as an application. libraries: one for each system that can answer; examples: sentences to begin with."""
    ui, shelf = gradio(), Shelf(libraries)
    first, has_text = libraries[0], any(of.encoder.has_text for of in libraries)
    lead = (
        f"Find recordings by {'a sentence or a sound' if has_text else 'your voice'}: {len(first.index.names):,} here."
    )
    own: dict[str, Any] = {"api_visibility": "private"}

    def by(ask: Callable[..., str]) -> Callable[..., str]:
        """Ask the chosen system about the chosen folder."""

        def handler(given: Any, system: int, folder: str, count: int) -> str:
            library, below = shelf.chosen(system, folder)
            return ask(library, given, below, count)

        return answered(handler)

    def again(path: str | None, *chosen: Any) -> str:
        return by(Library.by_sound)(path, *chosen) if path else note(START)

    def add(uploads: list[str] | None) -> tuple[Any, str]:
        try:
            name, said = shelf.add(uploads)
        except UserError as error:
            return ui.skip(), note(str(error))
        return ui.Dropdown(shelf.folders(), value=name), note(said)

    with frame(title, lead) as page:
        shown = ui.HTML(_answers(first), elem_id="model")
        systems = [(of.encoder.title, number) for number, of in enumerate(libraries)]
        system = ui.Radio(systems, value=0, label="System", visible=len(systems) > 1, elem_id="system")
        system.change(lambda chosen: _answers(libraries[int(chosen)]), system, shown, **own)
        with ui.Row(elem_classes="filters", equal_height=True):
            folder = ui.Dropdown(shelf.folders(), value=ALL, label="Folder", elem_id="folder")
            number = ui.Dropdown(list(COUNTS), value=COUNTS[1], label="Hits", elem_id="count", min_width=120, scale=0)
            local = host == LOCAL  # others could hear what one adds
            more = ui.UploadButton("Add a folder", file_count="directory", visible=local, elem_id="add", scale=0)
        with ui.Tabs() if has_text else ui.Column():
            if has_text:
                with ui.Tab("Sentence"), ui.Row(equal_height=True, elem_classes="ask"):
                    words = ui.Textbox(
                        label="What do you want to hear?",
                        placeholder=examples[0] if examples else "",
                        max_length=LONGEST,
                        elem_id="sentence",
                        scale=4,
                    )
                    search = ui.Button("Search", variant="primary", elem_id="search", scale=0)
            with ui.Tab("Sound") if has_text else ui.Column():
                sources = ["upload", "microphone"] if has_text else ["microphone", "upload"]
                label, kept = "Record or upload", ["download"]  # nothing is shared
                sound = ui.Audio(sources=sources, type="filepath", label=label, buttons=kept, elem_id="sound")
                similar = ui.Button("Find similar", variant="primary", elem_id="similar")
        results = ui.HTML(note(START), elem_id="results")
        like = ui.Number(elem_id="like", show_label=False)
        chosen, ask = [system, folder, number], {"outputs": results, "show_progress": "minimal", **own}
        if has_text:
            ui.on([words.submit, search.click], by(Library.by_sentence), [words, *chosen], **ask)
        else:  # a voice asks as soon as it is recorded, and every system that is chosen then
            ui.on([sound.change, *(of.change for of in chosen)], again, [sound, *chosen], **ask)
        ui.on([similar.click], by(Library.by_sound), [sound, *chosen], **ask)
        ui.on([like.input], by(Library.by_recording), [like, *chosen], **ask)
        more.upload(add, more, [folder, results], show_progress="minimal", **own)
    routes = {
        "/library/picture/{system:int}/{number:int}": shelf.route(Library.picture),
        "/library/sound/{system:int}/{number:int}": shelf.route(Library.sound),
    }
    return application(page, routes, host)


def _answers(of: Library) -> str:
    return f"<p class='model'>{html.escape(of.answers)}</p>"
