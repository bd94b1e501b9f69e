"""The page of Task 4: drop or record a sound, see when what happens in it, play it, move the threshold."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from common.audio.reading import Waveform, write_wav
from common.run.checkpoints import checkpoint_of
from common.run.errors import UserError
from common.run.folders import printable
from common.run.results.runs import kept, quality
from common.run.results.store import FILE_NAME, recorded
from common.run.verbs import Run
from common.search.page import LOCAL, application, frame, gradio, note, uploaded
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.inference.detectors import YAMNET, Detector, load_detector
from task4_sed.inference.events import Rule

if TYPE_CHECKING:
    from fastapi import FastAPI

    from task4_sed.evaluation.roll import Sound

START = "What happens when will stand here. The network hears a sound once; all below is redrawn from its scores."
# The sound that lies ready, of the embedded data set: from which second on, what, and by which seed.
EXAMPLE = ((0.5, "Dog", 11), (3.0, "Alarm_bell_ringing", 13), (5.5, "Speech", 0), (8.0, "Dishes", 2))
ROWS = (5, 10, 20, 40)
LONGEST = 2.0  # seconds of the median filter, the shortest event, a gap
# Where results.json keeps the figure of a network's own test set, and its interval.
MEASURED = {
    "PSDS1, mean over classes,": (("audioset_eval", "psds1_macro"), ("intervals", "psds1_macro")),
    "PSDS1": (("sets", "devtest", "median", "psds1"), ("intervals", "psds1")),
}


class System(NamedTuple):
    """A network that answers, and how good it is, in a sentence."""

    detector: Detector
    quality: str

    @property
    def answers(self) -> str:
        """Which network does, and how good it is."""
        return f"Heard by {self.detector.name}. {self.quality}"


def systems(run: Run | None, toy: Run, model: Sequence[str] | None) -> list[System]:
    """The networks of the page: `model`, several are an ensemble; else that of `run`, or of the toy recipe where it is
    trained, and YAMNet. Raises UserError as `load_detector` does.
    """
    if model:
        return [_named(model)]
    found = []
    if run or recorded(toy.folder, "checkpoint"):
        of = run or toy
        checkpoint_of(of.folder, f"; --model {YAMNET} answers without")
        detector = load_detector([of.folder], recipe=of.config)
        found.append(System(replace(detector, name=of.title), quality_of(of.folder)))
    try:
        found.append(_named([YAMNET]))
    except UserError as error:
        if not found:
            raise
        print(f"{YAMNET} is left out: {error}")
    return found


def _named(model: Sequence[str]) -> System:
    """The page says recipe and training of a run, of any other path the last name alone."""
    detector = load_detector(model)
    names, measured = [], []
    for path in map(Path, model):
        folder = path if path.is_dir() else path.absolute().parent.parent
        of_run = path.exists() and (folder / FILE_NAME).is_file()
        names.append(printable(f"{folder.parent.name} {folder.name}" if of_run else path.name))
        measured += [quality_of(folder)] if of_run else []
    said = " ".join(measured) or f"{detector.note or 'How good it is was not measured here'}."
    return System(replace(detector, name=" + ".join(names)), f"{said[:1].upper()}{said[1:]}")


def quality_of(folder: Path) -> str:
    """What `evaluate` found out about the training in `folder` on its test set, in a sentence."""
    found = recorded(folder, "test") or {}
    for metric, (place, interval) in MEASURED.items():
        if (value := kept(found, place)) is not None:
            ends = kept(found, interval) or {}
            return quality(folder, metric, value, (ends.get("low"), ends.get("high")))
    return quality(folder, "PSDS1", None)


@cache
def example() -> Waveform:
    """Ten seconds (samples,) at 16 kHz with sounds of the embedded data set."""
    from common.toy import background, fade
    from task4_sed.data.toy.clips import Bank

    sound = np.float32(0.004) * background(np.random.default_rng(0), 10.0, SAMPLE_RATE)
    for second, label, seed in EXAMPLE:
        event = Bank(seed, "example", 1).draw(np.random.default_rng(seed), label)[: 2 * SAMPLE_RATE]
        start = round(second * SAMPLE_RATE)
        sound[start : start + len(event)] += np.float32(0.1) * fade(event, SAMPLE_RATE)
    return sound


def _example_file() -> str:
    """As if it had been uploaded."""
    file = Path(os.environ["GRADIO_TEMP_DIR"]) / "example" / "example.wav"
    write_wav(file, example(), SAMPLE_RATE)
    return str(file)


def page(answering: Sequence[System], host: str = LOCAL) -> "FastAPI":
    """The page as an application, which answers by any of the systems."""
    from task4_sed.evaluation.roll import ByBoxes, heard, player, roll

    ui, first = gradio(), answering[0]
    # One after the other, whatever a person does meanwhile.
    own: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "page", "concurrency_limit": 1}

    def redraw(sound: "Sound | None", threshold: float, classes: list[str], *lengths: float) -> Any:
        if sound is None:
            return ui.skip()
        median, shortest, gap, rows, boxes = lengths
        try:
            rule = Rule(threshold, None, median, shortest, gap)
        except UserError as error:  # a forged request
            return note(str(error))
        how = ByBoxes(threshold, str(sound.detector.tuned or "default")) if boxes else rule
        return roll(sound, how, set(classes), int(rows))

    def hear(path: str | None, system: int, *chosen: Any) -> tuple[Any, str, Any]:
        """The network hears it; everything else only draws."""
        if not path:
            return None, "", note(START)
        try:
            sound = heard(answering[int(system)].detector, uploaded(path))
        except UserError as error:
            return None, "", note(str(error))
        return sound, player(sound), redraw(sound, *chosen)

    def switch(path: str | None, system: int, threshold: float, _: Any, *lengths: float) -> tuple[Any, ...]:
        of = answering[int(system)]
        return _answers(of), ui.Dropdown(**_choice(of)), *hear(path, system, threshold, [], *lengths)

    with frame("Sound event detection", "What happens when in a sound: drop or record one.") as blocks:
        shown = ui.HTML(_answers(first), elem_id="model")
        names = [(of.detector.name, number) for number, of in enumerate(answering)]
        system = ui.Radio(names, value=0, label="System", visible=len(names) > 1, elem_id="system")
        with ui.Row():
            with ui.Column(min_width=300):
                sources, label = ["upload", "microphone"], "Sound"
                of_sound: dict[str, Any] = {"type": "filepath", "buttons": [], "editable": False, "elem_id": "sound"}
                sound = ui.Audio(sources=sources, label=label, **of_sound)
                ready = ui.Button("Try the example", elem_id="example", size="sm")
            with ui.Column(min_width=300):
                threshold = ui.Slider(0, 1, Rule().threshold, step=0.01, label="Threshold", elem_id="threshold")
                classes = ui.Dropdown(
                    multiselect=True, label="Classes (none: all)", elem_id="classes", **_choice(first)
                )
                ways = [("scores above the threshold", 0), ("bounding boxes (cSEBBs)", 1)]
                boxes = ui.Radio(ways, value=0, label="Events", elem_id="ways")
                with ui.Accordion("More settings", open=False, elem_id="more"):
                    median, shortest, gap = (
                        ui.Slider(0, LONGEST, value, step=0.02, label=label)
                        for label, value in (
                            ("Median filter (s)", Rule().median),
                            ("Shortest event (s)", Rule().min_duration),
                            ("Gaps that are closed (s)", Rule().gap),
                        )
                    )
                    rows = ui.Dropdown(list(ROWS), value=ROWS[1], label="Rows", elem_id="rows")
        state = ui.State(None)
        playing = ui.HTML("", elem_id="player")
        found = ui.HTML(note(START), elem_id="found")
        controls = [threshold, classes, median, shortest, gap, rows, boxes]
        given, answer = [sound, system, *controls], [state, playing, found]
        ready.click(_example_file, None, sound, show_progress="hidden", **own)
        sound.change(hear, given, answer, show_progress="minimal", show_progress_on=found, **own)
        system.change(switch, given, [shown, classes, *answer], show_progress="minimal", show_progress_on=found, **own)
        moved: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
        ui.on([of.change for of in controls], redraw, [state, *controls], found, **moved, **own)
    here = Path(__file__)
    return application(blocks, {}, host, here.with_name("demo.css"), here.with_name("demo.js"))


def _answers(of: System) -> str:
    return note(of.answers)


def _choice(of: System) -> dict[str, Any]:
    return {"choices": list(of.detector.classes), "value": []}
