"""A library of recordings asked by voice: the systems of the comparison as encoders of `common.search`."""

import shlex
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.audio.reading import info, load
from common.audio.recordings import Recording, rechunked
from common.run.checkpoints import checkpoint_of, training_of, weights_sha256
from common.run.config import load_config
from common.run.errors import UserError
from common.run.processes import working_device
from common.run.results.runs import quality
from common.run.results.store import recorded
from common.run.verbs import Run
from common.search import Encoder
from common.search.index import Index
from qbv.config import SAMPLE_RATE, TRAINED, Config, parts_of
from qbv.inference.checkpoints import RECIPES, load_file
from qbv.inference.scores import Similarities, write_similarities
from qbv.model.systems import Network, System, build_system

Vectors = NDArray[np.float32]
INDEX = "python -m qbv index"
UNTRAINED = "qvim2025"  # recipe whose systems answer where none is named: mn10 of AudioSet, 2DFT of 5 s
AT_ONCE = 16  # windows that pass a system together
LONGEST = 60.0  # seconds of an imitation
SILENT = 1e-4  # largest sample of what is called silence, -80 dB
KNOWN = {
    "yamnet": ("YAMNet as published", "It knows sounds of AudioSet and was never trained on imitations."),
    "2dft": ("2DFT", "Signal processing: nothing was trained."),
    "m-vggish": ("M-VGGish", "It was never trained on imitations."),
    "random": ("chance", "It guesses."),
}


class Voice(Encoder):
    """A system: recordings in windows of the time that it hears, an imitation by its loudest one.

    about: what its index is called; title, quality: for people; words: of `index` that name it.
    """

    has_text = False

    def __init__(self, system: System, about: str, title: str, quality: str, words: Sequence[str]) -> None:
        self.system, self.window = system, system.seconds
        network = getattr(system, "network", None) or getattr(system, "encoder", None)
        digest = f"-{weights_sha256(network)[:12]}" if network is not None else ""
        self.key, self.title, self.quality = f"{about}-{system.seconds:g}s{digest}", title, quality
        self.command = shlex.join([*INDEX.split(), *words])
        self.samples = round(system.seconds * SAMPLE_RATE)

    @cached_property
    def dim(self) -> int:
        """Of the vectors."""
        with torch.inference_mode():
            return self.system.recordings(torch.zeros(1, self.samples)).shape[1]

    def sounds(self, paths: Sequence[Path]) -> Iterator[Vectors | UserError]:
        """(windows, dim) for each file, or what is wrong with it; windows of several files pass together."""
        problems: dict[int, UserError] = {}
        rows: list[list[Vectors]] = [[] for _ in paths]
        windows = self._windows(paths, problems)
        while group := list(islice(windows, AT_ONCE)):
            for (number, _), row in zip(group, self._heard([window for _, window in group]), strict=True):
                rows[number].append(row)
        for number, of in enumerate(rows):
            yield problems.get(number) or np.stack(of)

    def _windows(self, paths: Sequence[Path], problems: dict[int, UserError]) -> Iterator[tuple[int, Vectors]]:
        for number, path in enumerate(paths):
            try:
                # An end of less than a quarter of a window is not heard.
                for piece in rechunked(Recording(path, SAMPLE_RATE), self.samples, self.samples // 4):
                    yield number, piece[: self.samples]
            except UserError as error:
                problems[number] = error

    def query(self, path: Path) -> Vectors:
        """The loudest part of an imitation (1, dim). Raises UserError for one that is silent or long."""
        if (seconds := info(path).seconds) > LONGEST:
            raise UserError(f"{path}: lasts {seconds:.0f} s; an imitation takes up to {LONGEST:.0f} s")
        audio = load(path, SAMPLE_RATE)
        if np.abs(audio).max() < SILENT:
            raise UserError(f"{path}: silent, nothing can be looked for")
        return self._heard([loudest(audio, self.samples)], asked=True)

    @torch.inference_mode()
    def _heard(self, windows: Sequence[Vectors], asked: bool = False) -> Vectors:
        """Vectors (windows, dim); silence is like nothing: zeros."""
        audio = np.zeros((len(windows), self.samples), np.float32)
        for row, window in zip(audio, windows, strict=True):
            row[: len(window)] = window
        embed = self.system.imitations if asked else self.system.recordings
        found = embed(torch.from_numpy(audio)).float().cpu().numpy()
        found[~audio.any(axis=1)] = 0
        return found


def loudest(audio: Vectors, samples: int) -> Vectors:
    """The part of a waveform (samples,) that has the most energy: people wait before and after they imitate."""
    if len(audio) <= samples:
        return audio
    energy = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    return audio[start : start + samples]


def encoder_of(run: Run | None, checkpoint: Path | None, system: str | None) -> Voice:
    """What answers: a checkpoint's network, a system of a recipe (default: its trained one), else YAMNet.

    Raises UserError for what is not trained or cannot be had.
    """
    if checkpoint is not None and (run is not None or system is not None):
        raise UserError(
            "--checkpoint: the file has its recipe beside it; leave --recipe, its settings and --system out"
        )
    if checkpoint is not None:
        return of_file(checkpoint)
    name = system or (TRAINED if run else "yamnet")
    if name == TRAINED:
        if run is None:
            raise UserError("--system trained: --recipe names the training")
        return of_run(run)
    config: Config = run.config if run else load_config(Config, RECIPES, UNTRAINED)
    of = build_system(name, config, config.seed, None, working_device())
    words = ["--system", name, *(["--recipe", run.recipe] if run else [])]
    if name != "frozen":
        return Voice(of, name, *KNOWN[name], words)
    model = config.model
    weights = f"as pre-trained ({model.checkpoint})" if model.checkpoint else "with random weights"
    return Voice(of, model.encoder, f"{model.encoder} {weights}", "It was never trained on imitations.", words)


def of_run(run: Run) -> Voice:
    """The network of a run's first finished training. Raises UserError where there is none."""
    parts = list(parts_of(run).values())
    part = next((part for part in parts if recorded(part.folder, "checkpoint")), parts[0])
    return of_file(*checkpoint_of(part.folder, "; without --recipe YAMNet answers"))


def of_file(path: Path, digest: str | None = None) -> Voice:
    """The network of a checkpoint, beside which `train` left its recipe. Raises UserError for one without vectors."""
    network, config = load_file(path, digest)
    if network.comparison is not None:
        raise UserError(f"{path}: model.similarity=network compares pairs; a search needs cosines of vectors")
    folder = training_of(path)
    name = "-".join(folder.parts[-3:] if folder.name.startswith("fold") else folder.parts[-2:])
    system = Network(network, config.data.seconds, working_device())
    return Voice(system, name, f"the trained network {name}", quality_of(folder), ["--checkpoint", str(path)])


def quality_of(folder: Path) -> str:
    """What `evaluate` found out about the training in `folder`, in a sentence."""
    found: dict[str, Any] = recorded(folder, "test") or {}
    if (of := found.get("systems", found).get(TRAINED)) is None:
        return quality(folder, "MRR", None)
    return quality(folder, "MRR", of["mrr"], of["interval"], f" (chance {of['chance']:.3f})")


def store_similarities(
    library: Path, encoder: Voice, folder: Path | None, imitations: Sequence[Path], out: Path
) -> dict[str, Any]:
    """Those of imitations, by their file names, and all recordings of an indexed library, by their paths below it.

    Raises UserError where the library has no index of this encoder.
    """
    index = Index.open(library, encoder.key, folder, encoder.command)
    place = {name: column for column, name in enumerate(index.names)}
    matrix = np.empty((len(imitations), len(place)), np.float32)
    for row, path in enumerate(imitations):
        for hit in index.search(encoder.query(path), len(place))[0]:
            matrix[row, place[hit.name]] = hit.score
    write_similarities(out, Similarities(tuple(path.name for path in imitations), tuple(index.names), matrix))
    print(f"{out}: {len(matrix):,} imitations, {len(place):,} recordings; answered by {index.title}")
    return {"imitations": len(matrix), "recordings": len(place), "system": index.title}
