"""A sound, its spectrogram and the events in it as HTML that needs nothing else, with a common time axis."""

import base64
import html
import io
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.reading import Waveform, wav_bytes
from common.audio.recordings import Recording
from common.frontends import LogMel
from common.run.files import write_json
from common.run.folders import printable
from common.search.page import without_folder
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.evaluation.plots import MAX_SCORE_COLUMNS, band_frequencies
from task4_sed.inference.detect import PICTURED, Heard, parameters_for
from task4_sed.inference.detectors import Detector
from task4_sed.inference.events import Detection, Rule, detections, events_of
from task4_sed.inference.formats import listed, write_audacity, write_events
from task4_sed.inference.labels import labels_of
from task4_sed.inference.predict import log_mel
from task4_sed.inference.spool import Spool
from task4_sed.inference.stitch import grid_of, stitched
from task4_sed.metrics.types import ClipScores, ScoreSet

MARKS_HZ = (500, 1000, 2000, 4000)
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # seconds between marks of the time axis
MARKS = 12  # of it at most
SCORE_COLOUR = (37, 120, 235)
LISTED = 100  # events in the table; files have all


@dataclass(frozen=True, eq=False)
class Sound:
    """What a network said of a sound. waveform: (samples,) at 16 kHz; edges: (frames + 1,) seconds; scores: (frames,
    classes); nothing: why there can be no event in it; note: what is wrong with its sound.
    """

    detector: Detector
    name: str
    waveform: Waveform
    edges: np.ndarray
    scores: np.ndarray
    nothing: str | None
    note: str | None

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.waveform) / SAMPLE_RATE


def heard(detector: Detector, file: Path) -> Sound:
    """Let a network hear a file. Raises UserError for one that cannot be read; it names no folder."""
    with without_folder(file):
        waveform = Recording(file, SAMPLE_RATE).waveform()
    of, spool = Heard(Recording(waveform, SAMPLE_RATE, SAMPLE_RATE)), Spool(len(detector.classes))
    for piece in stitched(detector, [(0, of)], grid_of(detector)):
        spool.add(piece.logits)
    edges = of.edges(spool, detector.frame_seconds)
    scores = spool.columns(range(len(detector.classes)))[: len(edges) - 1]
    return Sound(detector, printable(file.name), waveform, edges, scores, of.nothing, of.note)


def player(sound: Sound) -> str:
    """What plays the sound as the network heard it, and its spectrogram."""
    front_end = LogMel(PICTURED)
    mel, hertz = log_mel(front_end, [sound.waveform]), band_frequencies(front_end.setting)
    mel = np.maximum.reduceat(mel, np.arange(0, mel.shape[1], -(-mel.shape[1] // MAX_SCORE_COLUMNS)), axis=1)
    low, high = np.percentile(mel, [2, 99.7])
    picture = _png(np.clip((mel - low) / max(high - low, 1e-9), 0, 1))
    height = np.interp(MARKS_HZ, hertz, 100 * (np.arange(len(hertz)) + 0.5) / len(hertz))
    marks = "".join(
        f"<i style='bottom:{at:.1f}%'>{hz / 1000:g} kHz</i>" for hz, at in zip(MARKS_HZ, height, strict=True)
    )
    source = _embedded("audio/wav", wav_bytes(sound.waveform, SAMPLE_RATE))
    return (
        f"<p class='heard'>{html.escape(sound.name)}, {sound.seconds:.2f} s</p>"
        f"<audio controls src='{source}' data-seconds='{sound.seconds}'></audio>"
        f"<div class='tracks'><div class='track spectrogram'><span class='axis'>{marks}</span><div class='plot'>"
        f"<img src='{picture}' alt='log-mel spectrogram of {html.escape(sound.name)}'></div></div>{_lane(sound)}</div>"
    )


@dataclass(frozen=True)
class ByBoxes:
    """Events as bounding boxes (cSEBBs), tuned for a run or by default, whose confidence is at least `threshold`."""

    threshold: float
    csebbs: str = "default"  # or a table


How = Rule | ByBoxes


def roll(sound: Sound, how: How, chosen: Collection[str], rows: int) -> str:
    """The scores of the `rows` chosen classes (none: of all) with the highest ones, the events, and their files."""
    names = sound.detector.classes
    columns = [column for column, name in enumerate(names) if not chosen or name in chosen]
    events = events_in(sound, how, columns)
    peaks = sound.scores.max(axis=0)
    top = sorted(columns, key=lambda column: -peaks[column])[:rows]
    tracks = "".join(
        _track(sound, column, [event for event in events if event.label == names[column]]) for column in top
    )
    found = {event.label for event in events}
    hidden = len(found - {names[column] for column in top})
    said = f"{_count(len(events), 'event')} of {_count(len(found), 'class', 'classes')}"
    said += f"; {_count(hidden, 'class', 'classes')} in the table alone" if hidden else ""
    said += f"; {sound.note}" if sound.note else ""
    return (
        f"<div class='tracks roll'>{tracks}{_times(sound.seconds)}{_lane(sound)}</div>"
        f"<p class='note summary' role='status'><span>{html.escape(said)}</span>"
        "<span class='key'><i class='shade'></i> score 0 to 1 <i class='event'></i> event</span>"
        f"<span class='files'>{_files(sound, how, chosen, events)}</span></p>{_table(events)}"
    )


def events_in(sound: Sound, how: How, columns: Sequence[int]) -> list[Detection]:
    """Events of some classes by onset and name; the network is not asked."""
    of = sound.detector
    columns = [column for column in columns if sound.scores[:, column].max() >= how.threshold]
    names, scores = [of.classes[column] for column in columns], sound.scores[:, columns]
    if sound.nothing or not names:
        return []
    if isinstance(how, ByBoxes):
        clip = ScoreSet(tuple(names), {"clip": ClipScores(sound.edges, scores)})
        found = events_of(clip, parameters_for(names, how.csebbs), how.threshold)
    else:
        found = detections(scores, names, dict.fromkeys(names, how), of.frame_seconds, float(sound.edges[-1]))
    mid_of = dict(zip(of.classes, of.mids or [None] * len(of.classes), strict=True))
    return sorted((replace(e, mid=mid_of[e.label]) for e in found), key=lambda e: (e.onset, e.label))


def _track(sound: Sound, column: int, events: Sequence[Detection]) -> str:
    """A row of the roll: the name, the scores as colour, the events as outlines."""
    name, seconds = html.escape(sound.detector.classes[column]), sound.seconds
    shade = np.full((1, len(sound.scores), 4), (*SCORE_COLOUR, 0), np.uint8)
    shade[0, :, 3] = np.round(255 * sound.scores[:, column])
    boxes = "".join(
        f"<i class='event' data-at='{e.onset}' title='{name}: {_span(e)} s, score {e.confidence:.2f}' "
        f"style='left:{100 * e.onset / seconds:.3f}%;width:{100 * (e.offset - e.onset) / seconds:.3f}%'></i>"
        for e in events
    )
    return (
        f"<div class='track'><span class='name' title='{name}'>{name}</span><div class='plot'>"
        f"<img src='{_png(shade)}' alt='' style='width:{100 * sound.edges[-1] / seconds:.3f}%'>{boxes}</div></div>"
    )


def _lane(sound: Sound) -> str:
    """What lies over the pictures: marks of the time, and the line that follows the sound."""
    width = 100 * _step(sound.seconds) / sound.seconds
    return f"<div class='lane' style='background-size:{width:.4f}% 100%'><b class='cursor'></b></div>"


def _step(seconds: float) -> float:
    return next((step for step in STEPS if seconds / step <= MARKS), STEPS[-1])


def _times(seconds: float) -> str:
    step = _step(seconds)
    marks = "".join(
        f"<i style='left:{100 * at / seconds:.3f}%'>{at:g}</i>"
        for at in np.arange(0, seconds + step / 1e3, step).round(2)
    )
    return f"<div class='track times'><span class='name'>time (s)</span><div class='plot'>{marks}</div></div>"


def _table(events: Sequence[Detection]) -> str:
    rows = "".join(
        f"<tr><td><button data-at='{e.onset}' title='play from here'>{_span(e)}</button></td>"
        f"<td>{html.escape(e.label)}</td><td>{e.confidence:.2f}</td></tr>"
        for e in events[:LISTED]
    )
    more = f"<tr><td colspan='3'>and {len(events) - LISTED} more in the files</td></tr>" if len(events) > LISTED else ""
    head = "<tr><th>time (s)</th><th>event</th><th title='mean over the event'>score</th></tr>"
    return f"<table class='events'><thead>{head}</thead><tbody>{rows}{more}</tbody></table>" if events else ""


def _files(sound: Sound, how: How, chosen: Collection[str], events: Sequence[Detection]) -> str:
    """Links with the files in them."""
    of = sound.detector
    about: dict[str, Any] = {"file": sound.name, "model": of.name, "checkpoint": of.sha256, "settings": asdict(how)}
    if isinstance(how, ByBoxes):
        about["settings"]["csebbs"] = Path(how.csebbs).name
    about |= {"labels": sorted(chosen)} if chosen else {}
    about |= {"duration": round(sound.seconds, 3), "events": listed(events)}
    about |= {"note": said} if (said := "; ".join(filter(None, (sound.note, of.note)))) else {}
    with tempfile.TemporaryDirectory() as folder:
        table, whole, track = (Path(folder, f"events.{suffix}") for suffix in ("tsv", "json", "txt"))
        write_events(table, labels_of(of.classes, of.mids), [{"filename": sound.name, **row} for row in listed(events)])
        write_json(whole, about)
        write_audacity(track, events)
        kinds = {"TSV": table, "JSON": whole, "Audacity": track}
        return "".join(
            f"<a download='{html.escape(Path(sound.name).stem)}{file.suffix}' "
            f"href='{_embedded('application/octet-stream', file.read_bytes())}'>{kind}</a>"
            for kind, file in kinds.items()
        )


def _png(values: np.ndarray) -> str:
    """A picture of numbers (rows, columns) from 0 to 1, the first row below; or of colours (rows, columns, 4)."""
    from matplotlib.image import imsave

    encoded = io.BytesIO()
    imsave(encoded, values, format="png", cmap="magma", vmin=0, vmax=1, origin="lower")
    return _embedded("image/png", encoded.getvalue())


def _embedded(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _span(event: Detection) -> str:
    return f"{event.onset:.2f} to {event.offset:.2f}"


def _count(number: int, one: str, more: str | None = None) -> str:
    return f"{number} {one if number == 1 else more or f'{one}s'}"
