"""Stand-ins for imitations of real recordings, where nobody imitated them: pitch and colour changed as by a voice.

A rendering keeps the course of a recording in time; its pitch is moved, its spectrum shaped by the formants of a vowel,
and it lies over the noise of a microphone. It is no voice: what is found by it may not be found by one.
"""

from pathlib import Path
from typing import Any

import numpy as np

from common.audio.reading import load, write_wav
from common.encoders.recordings import read_labelled
from common.run.files import write_rows
from common.run.progress import progress
from common.toy import VOWELS, Signal, filtered, key, limit_peak, noise, unit

RATE = 32_000
SHIFT = (3.0, 8.0)  # semitones up or down
VALLEY_DB = -25.0  # between formants
MICROPHONE_DB = (15.0, 25.0)  # of the sound over the noise
COLUMNS = ("query", "item", "concept")
OWN, OTHERS = "own.csv", "others.csv"


def through_voice(random: np.random.Generator, sound: Signal, rate: int) -> Signal:
    """A rendering (samples,) of a sound (samples,)."""
    import librosa

    steps = float(random.uniform(*SHIFT) * random.choice([-1, 1]))
    moved = librosa.effects.pitch_shift(sound, sr=rate, n_steps=steps)
    size = random.uniform(0.85, 1.25)
    response = [(50.0, VALLEY_DB)]
    for number, hertz in enumerate(VOWELS[random.integers(len(VOWELS))]):
        centre = hertz * size
        response += [(centre / 1.12, -6.0 * number), (centre * 1.12, -6.0 * number), (centre * 1.3, VALLEY_DB)]
    response = [*sorted(response), (rate / 2, VALLEY_DB - 20.0)]
    level = 10 ** (-random.uniform(*MICROPHONE_DB) / 20)
    heard = (
        filtered(moved, rate, tuple(response))
        + np.float32(level) * noise(random, len(moved) / rate, rate)[: len(moved)]
    )
    return limit_peak(0.1 * unit(heard))


def render(folder: Path, out: Path, seed: int) -> dict[str, Any]:
    """Write a rendering of every recording of a folder as of ESC-50, and the truths that `evaluate` takes.

    own.csv: a rendering asks for its own recording among all. others.csv: those of the first fold ask the recordings of
    the other folds; NDCG and class MRR count those of its class. Raises UserError for a folder that is none.
    """
    of = read_labelled(folder, None, None)
    names = [of.classes[label]["category"] for label in of.labels]
    (out / "imitations").mkdir(parents=True, exist_ok=True)
    queries = [path.with_suffix(".wav").name for path in of.files]
    with progress("render", len(queries), "recordings") as advance:
        for path, query in zip(of.files, queries, strict=True):
            sound = load(path, RATE)
            write_wav(
                out / "imitations" / query, through_voice(np.random.default_rng(key(seed, query)), sound, RATE), RATE
            )
            advance()
    rows = list(zip(queries, (path.name for path in of.files), names, of.folds.tolist(), strict=True))
    write_rows(out / OWN, COLUMNS, [row[:3] for row in rows])
    asked = sorted(set(of.folds.tolist()))[0]
    items = [row for row in rows if row[3] != asked]
    first = {concept: item for _, item, concept, _ in reversed(items)}
    queries_of_fold = [(query, first[concept], concept) for query, _, concept, fold in rows if fold == asked]
    write_rows(out / OTHERS, COLUMNS, [*queries_of_fold, *(("", item, concept) for _, item, concept, _ in items)])
    print(f"{out}: {len(rows)} renderings of {len(set(names))} classes; fold {asked} asks the others in {OTHERS}")
    return {"renderings": len(rows), "classes": len(set(names)), "asking": len(queries_of_fold)}
