"""Events in any audio: tables, JSON, label tracks, frame scores and a picture for every file; or as plain Python."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.audio.answers import check_own, stems
from common.audio.reading import Waveform, info
from common.audio.recordings import Recording, Recordings, find_recordings, rechunked
from common.frontends import LogMel
from common.run.errors import UserError
from common.run.files import read_json, sha256, write_json
from common.run.folders import printable
from common.run.processes import keep_memory
from common.run.progress import clock, progress
from common.run.results.tables import print_table
from common.run.verbs import Run
from task4_sed.config import Format
from task4_sed.data.annotations import read_strong
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.inference.checkpoints import checkpoint_of
from task4_sed.inference.detectors import Detector, embedding, load_detector
from task4_sed.inference.events import (
    PUBLISHED_THRESHOLDS,
    Detection,
    Parameters,
    detections,
    events_of,
    read_rules,
)
from task4_sed.inference.formats import PICTURES, SUFFIX, Answer, file_of, listed, write_all, write_events
from task4_sed.inference.labels import Labels, labels_of
from task4_sed.inference.options import Options
from task4_sed.inference.postprocess.boxes import parse_csebbs
from task4_sed.inference.postprocess.csebbs import CsebbsParameters
from task4_sed.inference.predict import log_mel
from task4_sed.inference.spool import Spool
from task4_sed.inference.stitch import grid_of, stitched
from task4_sed.metrics.types import ClipScores, ScoreSet

BOX_CONFIDENCE = 0.5
SHORTEST = 0.01  # seconds in which something can be heard
FULL_SCALE, CLIPPED = 1 - 2**-15, 1e-4  # largest value of 16 bits; share of samples there from which on it is said
MOST_ROWS = 100  # of the table on the screen
PICTURED = "task4_crnn"  # front end of the pictures, whatever network it is
COLUMNS = 1200  # of a picture
# What `predict FILES` writes.
OF_PREDICT: tuple[Format, ...] = ("tsv", "json", "audacity", "scores", "png")
Draw = Callable[..., None]


def predict_files(
    run: Run,
    files: list[Path],
    checkpoint: Path | None,
    out: Path,
    threshold: float | None,
    csebbs: str | None,
    draw: Draw | None,
) -> Mapping[str, Any]:
    """`detect` with the run's network, or a checkpoint that is read with its settings."""
    recordings = find_recordings(files)
    if checkpoint is None or not checkpoint.is_dir():
        checkpoint_of(run, checkpoint)  # it says what is missing
    detector = load_detector([checkpoint or run.folder], recipe=run.config)
    name = f"{run.title if checkpoint is None else checkpoint}"
    name += f", {run.config.postprocess.network}" if detector.mids is None else ""
    formats = tuple(name for name in OF_PREDICT if draw is not None or name != "png")
    options = Options(formats=formats, threshold=threshold, csebbs=csebbs, mend=False)
    return detect_files(replace(detector, name=name), recordings, out, options, draw)


class Heard:
    """The blocks of a recording at 16 kHz, or of its part from `start` to `end` seconds, and how loud they were.

    An iteration raises UserError, too, where there is nothing from `start` on.
    """

    def __init__(self, recording: Recording, start: float = 0.0, end: float | None = None) -> None:
        self.recording, self.start, self.end = recording, start, math.inf if end is None else end
        self.samples, self.loudest, self.at_full_scale = 0, 0.0, 0

    def __iter__(self) -> Iterator[Waveform]:
        self.samples, self.loudest, self.at_full_scale = 0, 0.0, 0
        for block in _between(self.recording, self.start, self.end):
            self.samples += len(block)
            level = np.abs(block)
            self.loudest = max(self.loudest, float(level.max(initial=0.0)))
            self.at_full_scale += int((level >= FULL_SCALE).sum())
            yield block
        if not self.samples and self.start:
            name, seconds = self.recording.name, self.recording.seconds
            raise UserError(f"{name}: lasts {seconds:.2f} s, expected more than --start {self.start:g}")

    @property
    def seconds(self) -> float:
        """Duration of what was heard."""
        return self.samples / SAMPLE_RATE

    @property
    def nothing(self) -> str | None:
        """Why there can be no event in it."""
        return "silent" if self.loudest == 0 else f"shorter than {SHORTEST:g} s" if self.seconds < SHORTEST else None

    @property
    def note(self) -> str | None:
        """What is wrong with its sound."""
        share = self.at_full_scale / max(1, self.samples)
        clipped = f"{100 * share:.2g} % of its samples at full scale: clipped?" if share > CLIPPED else None
        faults = self.recording.mended
        mended = f"{faults[0]}{', and more' if faults[1:] else ''}: heard as 0" if faults else None
        return "; ".join(filter(None, (mended, self.nothing or clipped))) or None

    def edges(self, spool: Spool, frame_seconds: float) -> np.ndarray:
        """Borders (frames + 1,) of its frames, seconds in the recording; the last one ends with it."""
        frames = max(1, min(spool.frames, math.ceil(round(self.seconds / frame_seconds, 6))))
        edges = np.arange(frames + 1) * frame_seconds
        edges[-1] = min(edges[-1], self.seconds)
        return self.start + edges


@dataclass(frozen=True)
class Finder:
    """How scores become events. least: (classes,), what a score must reach; find(scores, names, edges) -> events."""

    find: Callable[[np.ndarray, Sequence[str], np.ndarray], list[Detection]]
    least: np.ndarray
    lowest: float  # confidence of an event
    frame_seconds: float
    title: str
    setting: Mapping[str, Any]


def finder_of(detector: Detector, labels: Labels, options: Options) -> Finder:
    """Thresholds, as published or not; of networks of the challenge boxes, where no option of thresholds is given."""
    step = detector.frame_seconds
    if options.csebbs is not None or (detector.mids is None and not options.by_threshold and not options.parity):
        return _boxes_of(detector, labels, options)
    rules = dict.fromkeys(labels.names, options.rule)
    if options.per_class is not None:
        rules = read_rules(options.per_class, options.rule, labels.names, labels.mids)
    several = options.parity and options.threshold is None
    thresholds = PUBLISHED_THRESHOLDS if several else (options.rule.threshold,)

    def find(scores: np.ndarray, names: Sequence[str], edges: np.ndarray) -> list[Detection]:
        if not several:
            return detections(scores, names, rules, step, edges[-1])
        found = []
        for threshold in thresholds:
            of = {name: replace(rules[name], threshold=threshold) for name in names}
            found += [replace(e, threshold=threshold) for e in detections(scores, names, of, step, edges[-1])]
        return found

    least = np.array([min(thresholds) if several else rules[name].threshold for name in labels.names])
    lowest = min(min(rule.threshold if rule.low is None else rule.low, *thresholds) for rule in rules.values())
    title = f"detected: scores above {', '.join(f'{value:g}' for value in thresholds)}"
    title += f" ({options.per_class.name})" if options.per_class else ""
    setting = {"thresholds": thresholds, "rule": asdict(options.rule)}
    different = {name: asdict(rule) for name, rule in rules.items() if rule != options.rule}
    return Finder(find, least, lowest, step, title, setting | ({"per_class": different} if different else {}))


def _boxes_of(detector: Detector, labels: Labels, options: Options) -> Finder:
    setting = options.csebbs or (str(detector.tuned) if detector.tuned else "default")
    threshold = BOX_CONFIDENCE if options.threshold is None else options.threshold
    parameters = parameters_for(labels.names, setting)

    def find(scores: np.ndarray, names: Sequence[str], edges: np.ndarray) -> list[Detection]:
        return events_of(ScoreSet(tuple(names), {"clip": ClipScores(edges, scores)}), parameters, threshold)

    least = np.full(len(labels.names), np.nextafter(threshold, -1))
    about = {"csebbs": setting, "threshold": threshold}
    about |= {"csebbs_sha256": sha256(setting)} if setting.endswith(".tsv") else {}
    return Finder(find, least, threshold, detector.frame_seconds, boxes_title(setting, threshold), about)


def boxes_title(setting: str, threshold: float) -> str:
    """What pictures say of the post-processing."""
    name = Path(setting).name if setting.endswith(".tsv") else setting
    return f"detected: cSEBBs ({name}) with a confidence of {threshold:g} or more"


def parameters_for(classes: Sequence[str], setting: str) -> Parameters:
    """The boxes' parameters; a table that was tuned for the scored classes only has the default for the others."""
    parameters = parse_csebbs(setting)
    if isinstance(parameters, Mapping):
        return {name: parameters.get(name, CsebbsParameters()) for name in classes}
    return parameters


def found_in(spool: Spool, heard: Heard, labels: Labels, finder: Finder, top: int | None) -> list[Detection]:
    """The events of a recording by threshold, onset and name, of the `top` classes with the highest scores only."""
    if heard.nothing:
        return []
    peaks = spool.peaks
    order = np.argsort(-peaks, kind="stable")[:top]
    which = sorted(column for column in order.tolist() if peaks[column] > finder.least[column])
    edges = heard.edges(spool, finder.frame_seconds)
    events: list[Detection] = []
    for some in spool.shares(which):
        found = finder.find(spool.columns(some), [labels.names[column] for column in some], edges - heard.start)
        events += [_later(event, heard.start) for event in found]
    if labels.mids is not None:
        mid_of = dict(zip(labels.names, labels.mids, strict=True))
        events = [replace(event, mid=mid_of[event.label]) for event in events]
    return sorted(events, key=lambda e: (e.threshold or 0.0, e.onset, e.label))


def _later(event: Detection, seconds: float) -> Detection:
    return replace(event, onset=round(event.onset + seconds, 3), offset=round(event.offset + seconds, 3))


def detect_files(
    detector: Detector, recordings: Recordings, out: Path, options: Options, draw: Draw | None = None
) -> Mapping[str, Any]:
    """Write the events of every file to `out` and show them.

    `draw(path, log_mel, scores, events, threshold=..., ...)` makes a picture. What lies in `out` of other files stays.
    A file that cannot be read is left out and named at the end: UserError. Raises UserError where a table of somebody
    else would be replaced.
    """
    keep_memory()
    work = _Work(detector, recordings, out, options, draw)
    start = time.monotonic()
    found, audio = work.all()
    seconds = time.monotonic() - start
    pace = f"{clock(audio)} of audio in {clock(seconds)}, real-time factor {seconds / audio:.4f}" if audio else None
    _show(found, out, "; ".join(filter(None, (detector.note, pace, f"all files: {out}"))))
    if options.merged is not None:
        write_events(options.merged, work.labels, work.merged(found))
    result = {"out": str(out), "files": found, "note": detector.note, "audio_seconds": audio, "seconds": seconds}
    return recordings.finish(result)


def _show(found: Mapping[str, list[dict[str, Any]]], out: Path, note: str) -> None:
    rows = [
        [name, f"{e['onset']:.2f}", f"{e['offset']:.2f}", e["event_label"], f"{e['confidence']:.2f}"]
        for name, events in found.items()
        for e in events
    ]
    if found:
        columns = ["file", "onset (s)", "offset (s)", "event", "confidence"]
        more = f"{len(rows) - MOST_ROWS:,} more events; " if len(rows) > MOST_ROWS else ""
        print_table("events", columns, rows[:MOST_ROWS], note=more + note, whole=out)


class Part(NamedTuple):
    """A file, or one channel of it, from 1 on."""

    path: Path
    channel: int | None = None

    def recording(self, mend: bool) -> Recording:
        """What is heard of it."""
        channel = None if self.channel is None else self.channel - 1
        return Recording(self.path, SAMPLE_RATE, channel=channel, mend=mend)


def _parts(out: Path, recordings: Recordings, suffixes: Sequence[str], channels: bool) -> dict[Part, tuple[Path, str]]:
    """{what is heard apart: its files in `out` without suffix, what it is called}."""
    names, of_files = recordings.names(), stems(out, recordings, "events", suffixes)
    if not channels:
        return {Part(path): (stem, names[path]) for path, stem in of_files.items()}
    found: dict[Part, tuple[Path, str]] = {}
    for path, stem in of_files.items():
        with recordings.skipping(path):
            for channel in range(1, info(path).channels + 1):
                own = stem.with_name(f"{stem.name}-ch{channel}")
                check_own(own, "events", suffixes)
                found[Part(path, channel)] = own, f"{names[path]} channel {channel}"
    return found


class _Work:
    """All files of one command."""

    def __init__(
        self, detector: Detector, recordings: Recordings, out: Path, options: Options, draw: Draw | None
    ) -> None:
        self.detector, self.recordings, self.out, self.options, self.draw = detector, recordings, out, options, draw
        self.labels = labels_of(detector.classes, detector.mids, options.labels, options.groups)
        self.finder = finder_of(detector, self.labels, options)
        self.formats = tuple(name for name in options.formats if name not in PICTURES or draw is not None)
        if "embeddings" in self.formats:
            self.detector = embedding(detector)
        suffixes = [SUFFIX[name] for name in self.formats if name in SUFFIX and name != "json"]
        self.parts = _parts(out, recordings, suffixes, options.channels)
        self.truth = {} if options.truth is None else read_strong(options.truth)

    def all(self) -> tuple[dict[str, list[dict[str, Any]]], float]:
        """{name of a file: rows of its events}, and seconds of audio that were heard."""
        found = {part: rows for part in self.parts if (rows := self._done(part)) is not None}
        heard: dict[Part, Heard] = {}
        grid = grid_of(self.detector, self.options.hop, self.options.parity)
        waiting = [part for part in self.parts if part not in found]

        def sources() -> Iterator[tuple[Part, Heard]]:
            for part in waiting:
                heard[part] = Heard(part.recording(self.options.mend), self.options.start, self.options.end)
                yield part, heard[part]

        start, frames, total, classes = time.monotonic(), 0, 0.0, len(self.detector.classes)
        spools: list[Spool] = []  # none before a file is read: they make the folder
        of: Part | None = None
        with progress("detect", len(self.parts), "files", len(found)) as advance:
            for part, logits, last in stitched(self.detector, sources(), grid, self.skipping):
                if of != part:
                    spools, of = self._spools(logits.shape[1] - classes), part
                spools[0].add(self.labels(logits[:, :classes]))
                for embeddings in spools[1:]:
                    embeddings.add(logits[:, classes:])
                frames += len(logits)
                audio = frames * self.detector.frame_seconds
                pace = f"real-time factor {(time.monotonic() - start) / max(audio, 1e-9):.4f}"
                if last:
                    with self.skipping(part):
                        found[part] = self._answer(part, heard[part], *spools)
                    total += heard.pop(part).seconds
                advance(int(last), note=f"{pace} · {self.parts[part][1]}")
        return {name: found[part] for part, (_, name) in self.parts.items() if part in found}, total

    def skipping(self, part: Part) -> AbstractContextManager[None]:
        """What is wrong with its file does not stop the others."""
        return self.recordings.skipping(part.path)

    def merged(self, found: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """The events of all files as rows of one table."""
        names = self.recordings.names()
        return [
            {"filename": names[part.path], **({} if part.channel is None else {"channel": part.channel}), **event}
            for part, (_, name) in self.parts.items()
            for event in found.get(name, [])
        ]

    def _spools(self, embeddings: int) -> list[Spool]:
        """On the disk: for scores, and for embeddings where there are any."""
        return [Spool(columns, self.out) for columns in (len(self.labels.names), embeddings) if columns]

    def _about(self, part: Part) -> dict[str, Any]:
        """What stands in the .json beside the events, and by which a finished file is known."""
        options = self.options
        setting = {"hop": options.hop, "parity": options.parity, **self.finder.setting}
        setting |= {key: value for key in ("top", "start", "end") if (value := getattr(options, key))}
        if options.labels is not None or options.groups is not None:
            setting["labels"] = self.labels.members(self.detector.classes)
        setting |= {} if self.detector.autocast is None else {"precision": str(self.detector.autocast)}
        model = {"model": self.detector.name, "checkpoint": self.detector.sha256}
        of_channel = {} if part.channel is None else {"channel": part.channel}
        return {"file": printable(part.path), **of_channel, **model, "settings": setting}

    def _done(self, part: Part) -> list[dict[str, Any]] | None:
        """The events of a file that an earlier command has finished with the same settings, where `--resume` asks."""
        told = file_of(self.parts[part][0], "json")
        if not (self.options.resume and told.is_file() and part.path.is_file()):
            return None
        there, about = read_json(told), json.loads(json.dumps(self._about(part) | {"formats": self.formats}))
        same = all(there.get(key) == value for key, value in about.items())
        return there["events"] if same and part.path.stat().st_mtime <= told.stat().st_mtime else None

    def _answer(self, part: Part, heard: Heard, spool: Spool, embeddings: Spool | None = None) -> list[dict[str, Any]]:
        """The events of one file, and all that is written for it."""
        stem, step = self.parts[part][0], self.detector.frame_seconds
        events = found_in(spool, heard, self.labels, self.finder, self.options.top)
        answer = Answer(stem, *part, events, spool, heard.edges(spool, step), embeddings)
        about = self._about(part) | {"duration": round(heard.seconds, 3), "events": listed(events)}
        notes = "; ".join(filter(None, (heard.note, self.detector.note)))
        about |= {"note": notes} if notes else {}
        if heard.note:
            of_channel = "" if part.channel is None else f" channel {part.channel}"
            print(f"{printable(part.path)}{of_channel}: {heard.note}", file=sys.stderr)
        # The first: it tells that the others are no tables of somebody else. Once more: all of them are there.
        write_json(file_of(stem, "json"), about)
        write_all(answer, self.formats, self.labels, step)
        if kinds := [kind for kind in PICTURES if kind in self.formats]:
            self._pictures(answer, kinds, part.recording(self.options.mend))
        write_json(file_of(stem, "json"), about | {"formats": self.formats})
        return about["events"]

    def _pictures(self, answer: Answer, kinds: Sequence[Format], recording: Recording) -> None:
        """Event rolls: of the whole recording, page by page, or of a part."""
        assert self.draw is not None
        front_end, options, edges = LogMel(PICTURED), self.options, answer.edges
        about = {"note": self.detector.note, "about": f"{self.detector.name}\n{self.finder.title}"}
        truth, called = self.truth.get(answer.source.name), printable(answer.source.name)
        called += "" if answer.channel is None else f" channel {answer.channel}"
        for (start, end), blocks in _spans(recording, float(edges[0]), float(edges[-1]), options):
            first, after = int(np.searchsorted(edges, start, "right")), int(np.searchsorted(edges, end, "left"))
            begins, scores = answer.spool.pooled(first - 1, max(first, after), COLUMNS)
            clip = ClipScores(np.append(np.maximum(edges[begins], start), end), scores)
            part = "" if (start, end) == (edges[0], edges[-1]) else f"-{start:g}-{end:g}"
            mel = log_mel(front_end, blocks)
            for kind in kinds:
                self.draw(
                    answer.stem.with_name(f"{answer.stem.name}{part}{SUFFIX[kind]}"),
                    mel,
                    ScoreSet(self.labels.names, {"clip": clip}),
                    [event for event in answer.events if event.onset < end and event.offset > start],
                    threshold=self.finder.lowest,
                    truth=truth and [event for event in truth if event.onset < end and event.offset > start],
                    rows=options.rows,
                    setting=front_end.setting,
                    title=called + (f", {clock(start)} to {clock(end)}" if part or start else ""),
                    **about,
                )


def _spans(
    recording: Recording, begin: float, end: float, options: Options
) -> Iterator[tuple[tuple[float, float], Iterable[Waveform]]]:
    """(seconds from, to) of each picture and its samples."""
    if options.page is not None and options.page < end - begin:
        pieces = rechunked(_between(recording, begin, end), round(options.page * SAMPLE_RATE))
        for number, piece in enumerate(pieces):
            first = begin + number * options.page
            yield (first, min(first + options.page, end)), [piece]
        return
    start, stop = options.zoom or (begin, end)
    start, stop = max(start, begin), min(stop, end)
    if start < stop:
        yield (start, stop), _between(recording, start, stop)


def _between(blocks: Iterable[Waveform], start: float, stop: float) -> Iterator[Waveform]:
    """The samples from one second to another."""
    first, at = round(start * SAMPLE_RATE), 0
    last = None if math.isinf(stop) else round(stop * SAMPLE_RATE)
    for block in blocks:
        yield block[max(first - at, 0) : None if last is None else max(last - at, 0)]
        at += len(block)
        if last is not None and at >= last:
            return
