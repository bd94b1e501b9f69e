"""A data set of DESED's form out of isolated real recordings: soundscapes of 10 s with strong, weak and no labels.

The source is a folder as of ESC-50: meta.csv (filename, fold, category) and the files below audio/ or beside it.
Where a recording is active is found from its level, so that labels are tight around barks and sneezes and cover rain
or an engine as a whole. The parts (train, validation, test) are made of the recordings of different folds.
"""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from common.audio.reading import load, write_wav
from common.run.errors import UserError, did_you_mean
from common.run.files import existing_folder, read_rows, sha256, write_rows
from common.run.numbers import integer
from common.run.processes import each, usable_cores
from common.toy import Progress, counter, write_once
from task4_sed.data.annotations import Event, write_durations, write_strong, write_weak
from task4_sed.data.classes import CLIP_SECONDS, SAMPLE_RATE
from task4_sed.data.layout import CLASSES_FILE, SETS, Part
from task4_sed.data.recordings.segments import active_regions, is_texture
from task4_sed.data.recordings.soundscapes import Material, Used, compose

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]

MARKER = "recordings.json"
FORMAT = 2  # to be raised when the same arguments give other files than before

DEFAULT_FOLDS: dict[Part, tuple[int, ...]] = {"train": (1, 2), "validation": (3,), "test": (4,)}
# The sets of each part and their clips, as a share of the clips of synth_train.
SHARES: dict[Part, dict[str, float]] = {
    "train": {"synth_train": 1.0, "strong": 0.25, "weak": 0.25, "unlabeled": 0.5},
    "validation": {"synth_val": 0.25},
    "test": {"devtest": 0.5},
}
SOURCES_COLUMNS = ("set", "filename", "onset", "offset", "event_label", "recording", "snr_db")


@dataclass(frozen=True)
class Recording:
    """One file of the source."""

    name: str
    path: Path
    fold: int
    category: str


# -------------------------------------------------------------------------------------------------------------- source


def _read_meta(source: Path) -> list[Recording]:
    recordings: dict[str, Recording] = {}
    for row in read_rows(source / "meta.csv", ("filename", "fold", "category")):
        name, fold, category = row["filename"], row.number("fold"), row["category"]
        if fold != int(fold):
            raise UserError(f"{row.at}: fold is {row['fold']!r}, expected a whole number")
        if not name or not category or "," in category:
            raise UserError(f"{row.at}: filename and category must be there, the category without a comma")
        if name in recordings:
            raise UserError(f"{row.at}: {name} is listed twice")
        path = source / "audio" / name
        recordings[name] = Recording(name, path if path.exists() else source / name, int(fold), category)
    if not recordings:
        raise UserError(f"{source / 'meta.csv'}: lists no recordings")
    return [recordings[name] for name in sorted(recordings)]


def _check_folds(
    folds: Mapping[Part, tuple[int, ...]] | None, recordings: Sequence[Recording], meta: Path
) -> dict[Part, tuple[int, ...]]:
    present = sorted({r.fold for r in recordings})
    known = ", ".join(map(str, present))
    if folds is None:
        chosen = {part: tuple(f for f in of if f in present) for part, of in DEFAULT_FOLDS.items()}
    else:
        for part in folds:
            if part not in DEFAULT_FOLDS:
                raise UserError(f"folds: no part {part!r}{did_you_mean(part, DEFAULT_FOLDS)}")
        chosen = {part: tuple(folds.get(part, ())) for part in DEFAULT_FOLDS}
    owner: dict[int, str] = {}
    for part, of_part in chosen.items():
        for fold in of_part:
            if fold not in present:
                raise UserError(f"{meta}: has no fold {fold} (asked for by {part}); its folds are {known}")
            if owner.setdefault(fold, part) != part:
                raise UserError(
                    f"folds: fold {fold} is in {owner[fold]} and in {part}; parts must not share recordings"
                )
    chosen = {part: of_part for part, of_part in chosen.items() if of_part}
    if not chosen:
        raise UserError(f"{meta}: no fold chosen for any part; its folds are {known}")
    return chosen


def _set_sizes(clips: int, sets: Mapping[str, int] | None, parts: Iterable[Part]) -> dict[str, int]:
    if clips < 1:
        raise UserError(f"clips is {clips}, expected at least 1 soundscape")
    sizes = {name: max(1, round(share * clips)) for part in parts for name, share in SHARES[part].items()}
    for name, count in (sets or {}).items():
        if name not in sizes:
            raise UserError(f"sets: no set {name!r} in the parts that are made{did_you_mean(name, sizes)}")
        if count < 0:
            raise UserError(f"sets: {name} is {count}, expected 0 or more clips")
        sizes[name] = count
    return {name: count for name, count in sizes.items() if count}


# ------------------------------------------------------------------------------------------------------------- workers


def _prepare(scratch: Path, recording: Recording) -> Material:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same bits however many processes share the work
    try:
        waveform = load(recording.path, SAMPLE_RATE)
    finally:
        torch.set_num_threads(threads)
    events, stretches = (tuple(active_regions(waveform, SAMPLE_RATE, texture)) for texture in (False, True))
    if not events:
        raise UserError(f"{recording.path}: silent from beginning to end")
    samples = scratch / f"{quote(recording.name, safe='')}.npy"
    np.save(samples, waveform)
    return Material(recording.name, recording.category, samples, events, stretches, is_texture(waveform, SAMPLE_RATE))


def _as_category(materials: Sequence[Material]) -> list[Material]:
    # One drop near the microphone does not make the rain an event: the category decides by majority.
    texture = 2 * sum(material.texture for material in materials) >= len(materials)
    return [dataclasses.replace(material, texture=texture) for material in materials]


def _write_soundscape(
    folder: Path, set_name: str, seed: int, materials: Mapping[str, Sequence[Material]], index: int
) -> tuple[str, list[Used]]:
    categories = list(materials)
    order = np.random.default_rng([seed, list(SETS).index(set_name), 0, index // len(categories)])
    certain = categories[order.permutation(len(categories))[index % len(categories)]]
    rng = np.random.default_rng([seed, list(SETS).index(set_name), 1, index])
    sound, used = compose(rng, materials, certain)
    name = f"{set_name}_{index:05d}.wav"
    write_wav(folder / SETS[set_name].audio[0] / name, sound, SAMPLE_RATE)
    return name, used


# ---------------------------------------------------------------------------------------------------------------- face


def from_recordings(
    source: str | Path,
    out: str | Path,
    clips: int,
    seed: int = 0,
    folds: Mapping[Part, tuple[int, ...]] | None = None,
    sets: Mapping[str, int] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Build soundscapes of 10 s at 16 kHz in the layout of `task4_sed.data.layout` out of the recordings in `source`.

    `clips` soundscapes go to synth_train, and in proportion (SHARES) to strong and weak (a quarter each), unlabeled
    (half), synth_val (a quarter) and devtest (half); `sets` gives other counts by name, 0 leaves a set out. `folds`
    says which folds of meta.csv make train, validation and test: by default 1 and 2, 3, 4, as far as they are there;
    a part without folds is left out. Beside the sets: classes.tsv (the categories, sorted), sources.tsv (the recording
    behind each event, for credits), and the source's credits.csv if it has one.

    The same arguments give the same bytes with any number of `workers` (processes; default: one per core, 8 at most).
    Everything is written to a temporary folder that is renamed at the end; nothing is done where `out` is already
    this data set (arguments and meta.csv; changed audio is not noticed). `progress(done, total)` counts recordings
    and soundscapes. Raises UserError: missing meta.csv or column, unknown or shared fold, a recording that is
    missing, unreadable, empty or silent, a category without recordings in a part, something else at `out`.
    """
    source, out = existing_folder(source, "folder of recordings"), Path(out)
    meta = source / "meta.csv"
    recordings = _read_meta(source)
    chosen = _check_folds(folds, recordings, meta)
    sizes = _set_sizes(clips, sets, chosen)
    if seed < 0:
        raise UserError(f"seed is {seed}, expected 0 or more")
    categories = sorted({r.category for r in recordings})
    of_part = {part: [r for r in recordings if r.fold in of] for part, of in chosen.items()}
    for part, of in of_part.items():
        missing = sorted(set(categories) - {r.category for r in of})
        if missing:
            listed = ", ".join(map(str, chosen[part]))
            raise UserError(f"{meta}: category {missing[0]!r} has no recordings for {part} (fold {listed})")
    identity = {"format": FORMAT, "seed": seed, "folds": chosen, "sets": sizes, "meta_sha256": sha256(meta)}
    jobs = sum(map(len, of_part.values())) + sum(sizes.values())
    workers = min(usable_cores(), 8) if workers is None else workers

    def write(folder: Path) -> None:
        for recording in (r for of in of_part.values() for r in of):
            if not recording.path.is_file():
                raise UserError(f"{recording.path}: listed in meta.csv, not found there or below audio/")
        _build(folder, of_part, sizes, seed, _in_order(workers, counter(jobs, progress)))
        write_rows(folder / CLASSES_FILE, ("event_label",), ((category,) for category in categories))
        if (source / "credits.csv").is_file():
            shutil.copyfile(source / "credits.csv", folder / "credits.csv")

    write_once(out, identity, write, MARKER)


def _in_order(workers: int, count: Callable[[], None]) -> Mapper:
    """A map over items in `workers` processes, counted."""

    def mapped(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        found = {}
        for (item,), result, problem in each(work, [(item,) for item in items], workers):
            if problem:
                raise UserError(problem)
            found[item] = result
            count()
        return [found[item] for item in items]

    return mapped


def _build(
    folder: Path,
    of_part: Mapping[Part, Sequence[Recording]],
    sizes: Mapping[str, int],
    seed: int,
    mapped: Mapper,
) -> None:
    scratch = folder / ".recordings"
    scratch.mkdir()
    sources: list[tuple[object, ...]] = []
    for part, recordings in of_part.items():
        materials: dict[str, list[Material]] = {}
        for material in mapped(functools.partial(_prepare, scratch), recordings):
            materials.setdefault(material.category, []).append(material)
        materials = {category: _as_category(materials[category]) for category in sorted(materials)}
        for name in (name for name in SHARES[part] if name in sizes):
            write = functools.partial(_write_soundscape, folder, name, seed, materials)
            clips = dict(mapped(write, range(sizes[name])))
            _write_tables(folder, name, {clip: [u.event for u in used] for clip, used in clips.items()})
            for clip, used in clips.items():
                for u in used:
                    event = (f"{u.event.onset:.3f}", f"{u.event.offset:.3f}", u.event.label)
                    sources.append((name, clip, *event, u.recording, u.snr_db))
    shutil.rmtree(scratch)
    write_rows(folder / "sources.tsv", SOURCES_COLUMNS, sources)


def _write_tables(folder: Path, name: str, events: Mapping[str, Sequence[Event]]) -> None:
    layout = SETS[name]
    if layout.kind == "strong":
        write_strong(folder / layout.annotation[0], events)
    elif layout.kind == "weak":
        labels = {clip: sorted({e.label for e in of_clip}) for clip, of_clip in events.items()}
        write_weak(folder / layout.annotation[0], labels)
    if layout.durations:
        write_durations(folder / layout.durations[0], dict.fromkeys(events, CLIP_SECONDS))


def built(source: Path, out: Path | None, clips: int, seed: int, folds: list[str] | None) -> dict[str, Any]:
    """`from_recordings` as `prepare` is told; folds: train=1,2 and so on. Raises UserError for other words, too."""
    if out is None:
        raise UserError("--from-recordings needs --out DIR for the data set")
    from_recordings(source, out, clips, seed, _parse_folds(folds))
    print(f"{out}: written; train on it with --recipe recordings data.root={out}")
    return {"out": str(out)}


def _parse_folds(words: list[str] | None) -> dict[Any, tuple[int, ...]] | None:
    """train=1,2 validation=3 -> {"train": (1, 2), "validation": (3,)}."""
    if words is None:
        return None
    parts: dict[Any, tuple[int, ...]] = {}
    for word in words:
        part, _, numbers = word.partition("=")
        try:
            folds = tuple(integer(number) for number in numbers.split(","))
        except ValueError:
            folds = ()
        if part not in ("train", "validation", "test") or not folds:
            raise UserError(f"--folds: {word!r}, expected e.g. train=1,2 validation=3 test=4")
        parts[part] = folds
    return parts
