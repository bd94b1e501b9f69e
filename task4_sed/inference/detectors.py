"""Networks that hear windows of audio, under one face, by the names that people give them.

A published checkpoint of the catalogue of `common.encoders` (`BEATs_strong_1`, or of its encoder alone, `beats`), a
run's folder, a checkpoint, a folder that `export` wrote, `yamnet`; several are an ensemble. Nothing is fetched here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoders import RANDOM, create, models, packaged
from common.encoders import exported as encoder_folders
from common.encoders.base import Encoder, FrameEncoder, Output
from common.encoders.checkpoints import Checkpoint, cached, catalogue
from common.encoders.mobilenet import fold_norms
from common.encoders.yamnet import CLASS_MAP, CLASS_MAP_SHA256, COLUMNS
from common.run.checkpoints import checkpoint_of, read_checkpoint
from common.run.download import checked
from common.run.errors import UserError, did_you_mean
from common.run.export import CARD, note_of
from common.run.files import existing_folder, read_json, read_rows, sha256
from common.run.onnx_graphs import runner
from common.run.processes import working_device
from common.run.results.runs import network_note
from task4_sed.config import Config
from task4_sed.data import audioset
from task4_sed.data.batches import CLIP_SAMPLES
from task4_sed.data.classes import FRAME_SECONDS, SAMPLE_RATE
from task4_sed.inference.checkpoints import Loaded, load_network
from task4_sed.inference.exported import open_exported, open_framewise
from task4_sed.inference.networks import scored_network
from task4_sed.inference.postprocess.csebbs import CSEBBS_FILE
from task4_sed.inference.predict import Predictor
from task4_sed.model.framewise import FramewiseNetwork, load_framewise, published_network, sequence_of

YAMNET = "yamnet"
YAMNET_NOTE = (
    "stand-in: YAMNet, 521 AudioSet classes in steps of 0.48 s, none of the networks for frame-level detection"
)
UNTRAINED = f"{RANDOM}:"  # random:frame_mn06
STRONG = "_strong_1"  # the ending of the published checkpoints' names; a table of theirs leaves it out
# YAMNet's steps of 0.48 s in a window, and its patch of 0.96 s in samples.
STEPS, STEP, PATCH = 20, 7680, 15_600
Mean = Literal["logits", "probabilities"]
Precision = Literal["float32", "bfloat16", "float16"]
LEAST = 1e-12  # probability in the mean of an ensemble, so that its logit is finite


@dataclass(frozen=True)
class Detector:
    """A network that hears windows of one length.

    hear: waveforms (batch, samples) at 16 kHz on `device` -> logits (batch, frames, classes). embed: the same -> these
    and embeddings (batch, frames, dim). autocast: what it computes in, its front end apart; None: as it is.
    """

    name: str  # as the person gave it
    classes: tuple[str, ...]
    mids: tuple[str, ...] | None  # AudioSet's identifiers of the classes, in their order
    window_seconds: float
    frame_seconds: float
    note: str | None  # what must stand beside its answers
    sha256: str | None  # of the checkpoint; of an ensemble all, joined by +
    device: torch.device
    hear: Callable[[Tensor], Tensor] = field(repr=False)
    tuned: Path | None = None  # table of bounding boxes that were tuned for it
    embed: Callable[[Tensor], tuple[Tensor, Tensor]] | None = field(default=None, repr=False)
    autocast: torch.dtype | None = None

    @property
    def window_samples(self) -> int:
        """Samples of a window at 16 kHz."""
        return round(self.window_seconds * SAMPLE_RATE)

    @torch.inference_mode()
    def logits(self, windows: Tensor) -> Tensor:
        """Windows (batch, samples) at 16 kHz, on any device -> logits (batch, frames, classes), float32."""
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return self.hear(windows.to(self.device)).float()


@dataclass(frozen=True)
class Loading:
    """How networks are loaded. weights: folder of published files (None: the cache). mean: of an ensemble. threads: on
    the CPU (None: as they are). Raises UserError for a folder that is not there, and no threads."""

    weights: Path | None = None
    mean: Mean = "logits"
    precision: Precision = "float32"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            existing_folder(self.weights, "folder of published checkpoints")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"--threads is {self.threads}, expected at least 1")


AS_USUAL = Loading()


def loading_of(given: Mapping[str, Any]) -> Loading:
    """From Python. Raises UserError for values that do not exist."""
    for name, known in {"mean": get_args(Mean), "precision": get_args(Precision)}.items():
        if (value := given.get(name, known[0])) not in known:
            raise UserError(f"{name}: {value!r}, expected {' or '.join(known)}")
    weights = given.get("weights")
    return Loading(**{**given, "weights": None if weights is None else Path(weights)})


def load_detector(
    names: Sequence[str | Path], device: str | None = None, recipe: Config | None = None, how: Loading = AS_USUAL
) -> Detector:
    """The network of a name, or the ensemble of several.

    recipe: settings of the model and its encoder, for checkpoints of the challenge that do not carry them.
    Raises UserError for an unknown name, a published checkpoint that is not on this machine (it says where to get
    it), what is no network of this task, networks that hear different classes, and float16 on a CPU.
    """
    on = torch.device(working_device(device))
    if how.precision == "float16" and on.type == "cpu":
        raise UserError("--precision float16 is for a GPU, expected bfloat16 or float32 on a CPU")
    if how.threads is not None:
        torch.set_num_threads(how.threads)
    kind = None if how.precision == "float32" else getattr(torch, how.precision)
    found = [replace(_load(name, on, recipe, how), autocast=kind) for name in names]
    return found[0] if len(found) == 1 else _ensemble(found, how.mean)


def _load(name: str | Path, device: torch.device, recipe: Config | None, how: Loading) -> Detector:
    path, word = Path(name), str(name).casefold()
    if word == YAMNET:
        return _yamnet(device)
    if word.startswith(UNTRAINED):
        return untrained(word.removeprefix(UNTRAINED), device)
    if isinstance(name, str) and (entries := _published(word)):
        return _of_entry(str(name), entries, device, how.weights)
    if (path / CARD).is_file():
        return _exported(path, device, graph=how.precision == "float32")
    if path.is_dir():
        return _of_file(str(name), *checkpoint_of(path), device, recipe)
    if path.is_file() or path.suffix:
        return _of_file(str(name), path, None, device, recipe)
    known = [*_detecting(), *(entry.models[0] for entry in _detecting().values()), YAMNET]
    raise UserError(f"{str(name)!r}: no network that detects{did_you_mean(str(name), set(known))}")


def _detecting() -> dict[str, Checkpoint]:
    """Published checkpoints with the classes of AudioSet-strong."""
    sizes = (len(audioset.output_classes()), len(audioset.audioset_classes()))
    return {name: entry for name, entry in catalogue().items() if entry.models and entry.classes in sizes}


def _published(word: str) -> list[Checkpoint]:
    """The files of a name: some have two, with and without its ending. An encoder's name is that of its `_strong_1`, or
    else of any of its own."""
    spellings = {word, word.removesuffix(STRONG), f"{word.removesuffix(STRONG)}{STRONG}", f"{word}_strong"}
    found = [entry for name, entry in _detecting().items() if name.casefold() in spellings]
    of_encoder = [entry for entry in _detecting().values() if word in entry.models and sequence_of(entry) is None]
    return found or [entry for entry in of_encoder if entry.name.endswith(STRONG)] or of_encoder


def _of_entry(name: str, entries: list[Checkpoint], device: torch.device, weights: Path | None) -> Detector:
    """The first of some published files that is on this machine."""
    files = [(entry, cached(entry.file) if weights is None else weights / entry.file) for entry in entries]
    there = next((of for of in files if of[1].is_file()), None)
    if there is None:
        entry, path = files[-1]
        fetch = f"`python -m common.encoders fetch {entry.name}` fetches it from {entry.address}"
        fetch = fetch if weights is None else f"it is at {entry.address}"
        raise UserError(
            f"{entry.file}: not on this machine: {fetch} ({_megabytes(entry):.0f} MB), or put it at {path}; "
            f"`--model {YAMNET}` detects in the meantime"
        )
    entry, path = there
    return _of_published(name, entry, path, checked(path, entry.sha256), device)


def _megabytes(entry: Checkpoint) -> float:
    """What a published file takes, by its parameters."""
    with torch.device("meta"):
        network: nn.Module = models()[entry.models[0]]()
        if (sequence := sequence_of(entry)) is not None:
            assert isinstance(network, FrameEncoder)
            network = FramewiseNetwork(network, entry.classes, sequence)
    return sum(of.numel() for of in network.parameters()) * 4e-6


def _of_published(name: str, entry: Checkpoint, path: Path, digest: str, device: torch.device) -> Detector:
    if sequence_of(entry) is not None:
        return _of_network(name, published_network(entry, path), audioset.output_classes(), None, digest, device)
    return _of_encoder(name, create(entry.models[0], path), device)


def embedding(detector: Detector) -> Detector:
    """One whose `logits` has the embeddings of each frame behind those of the classes. Raises UserError for networks
    without."""
    embed = detector.embed
    if embed is None:
        raise UserError(f"--formats embeddings: {detector.name} gives none, expected one network of AudioSet's classes")
    return replace(detector, hear=lambda windows: torch.cat(embed(windows), dim=-1))


def untrained(model: str, device: torch.device) -> Detector:
    """An encoder with random weights, always the same: to see what it costs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = create(model, RANDOM)
    return _of_encoder(f"{UNTRAINED}{model}", encoder, device, "random weights: says nothing")


def _of_encoder(name: str, encoder: Encoder, device: torch.device, note: str | None = None) -> Detector:
    """One with the heads of the AudioSet-strong models. Raises UserError where these have other classes."""
    head = getattr(encoder, "strong_head", None)
    wanted = {len(of): of for of in (audioset.output_classes(), tuple(c.name for c in audioset.audioset_classes()))}
    if head is None or head.out_features not in wanted:
        raise UserError(f"{name}: has no frame-wise head of AudioSet-strong's {' or '.join(map(str, wanted))} classes")
    fold_norms(encoder.to(device))

    digest = (encoder.checkpoint or {}).get("sha256")
    return _framewise(name, encoder, wanted[head.out_features], note, digest, device)


def _framewise(
    name: str,
    answer: Callable[[Tensor], Output],
    classes: tuple[str, ...],
    note: str | None,
    digest: str | None,
    device: torch.device,
) -> Detector:
    """250 frames in 10 s."""
    mid_of = {of.name: of.mid for of in audioset.audioset_classes()}
    mids = tuple(mid_of[label] for label in classes) if mid_of.keys() >= set(classes) else None
    lengths = audioset.CLIP_SECONDS, audioset.FRAME_SECONDS
    hear, embed = _answering(answer)
    return Detector(name, classes, mids, *lengths, note, digest, device, hear, embed=embed)


def _answering(
    answer: Callable[[Tensor], Output],
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """`hear` and `embed` of a detector."""

    def embed(windows: Tensor) -> tuple[Tensor, Tensor]:
        out = answer(windows)
        assert out.frame_logits is not None
        return out.frame_logits, out.frames

    return lambda windows: embed(windows)[0], embed


def _of_file(name: str, path: Path, expected: str | None, device: torch.device, recipe: Config | None) -> Detector:
    content, folder = read_checkpoint(path, expected), path.absolute().parents[1]
    note, digest = network_note(folder), expected or sha256(path)
    if "framewise" in content:
        return _of_network(name, *load_framewise(path), note, digest, device)
    entry = next((entry for entry in _detecting().values() if entry.file == path.name), None)
    if entry is not None:
        return _of_published(name, entry, path, digest, device)
    which = recipe.postprocess.network if recipe else scored_network(folder) or "student"
    given = (recipe.model, None, recipe.encoder) if recipe else ()
    loaded = load_network(path, which, *given)
    return _of_challenge(name, loaded, note, digest, device, folder)


def _of_challenge(
    name: str, loaded: Loaded, note: str | None, digest: str, device: torch.device, folder: Path
) -> Detector:
    """A CRNN of the challenge, with or without the encoder beside it: 156 frames of 64 ms in 10 s."""
    tuned = folder / CSEBBS_FILE
    lengths = CLIP_SAMPLES / SAMPLE_RATE, FRAME_SECONDS
    hear = Predictor(loaded, str(device)).logits
    found = tuned if tuned.is_file() else None
    return Detector(name, loaded.classes, None, *lengths, note, digest, device, hear, found)


def _of_network(
    name: str,
    network: FramewiseNetwork,
    classes: tuple[str, ...],
    note: str | None,
    digest: str | None,
    device: torch.device,
) -> Detector:
    network.encoder.front_end.top_db_per_batch = False  # a window's scores do not depend on its neighbours
    fold_norms(network.to(device))

    def answer(windows: Tensor) -> Output:
        return network(network.encoder.front_end(windows))

    return _framewise(name, answer, classes, note, digest, device)


def _exported(folder: Path, device: torch.device, graph: bool) -> Detector:
    """On a CPU by the graph, where there is one and it is wanted."""
    name, note, digest = str(folder), note_of(folder), read_json(folder / CARD).get("sha256")
    if read_json(folder / CARD).get("system") == encoder_folders.SYSTEM:
        found = _of_encoder(name, create(folder), device, note)
    elif (framewise := open_framewise(folder)) is not None:
        found = _of_network(name, *framewise, note, digest, device)
    else:
        found = _of_challenge(name, open_exported(folder), note, digest, device, folder)
    if not graph or device.type != "cpu" or not (folder / encoder_folders.GRAPH).is_file():
        return found
    answer = runner(folder / encoder_folders.GRAPH)
    return replace(found, hear=lambda windows: torch.from_numpy(answer(windows.numpy())))


def _yamnet(device: torch.device) -> Detector:
    """Each step has the patch that it is in the middle of; windows are filled up with silence for the outer ones."""
    encoder = create(YAMNET).to(device)
    rows = read_rows(packaged.find(CLASS_MAP, CLASS_MAP_SHA256), COLUMNS)
    before = (PATCH - STEP) // 2

    def answer(windows: Tensor) -> Output:
        out: Output = encoder(F.pad(windows, (before, PATCH - STEP - before)))
        return out

    hear, embed = _answering(answer)
    names, mids = (tuple(row[column] for row in rows) for column in ("display_name", "mid"))
    digest = (encoder.checkpoint or {}).get("sha256")
    lengths = STEPS * STEP / SAMPLE_RATE, STEP / SAMPLE_RATE
    return Detector(YAMNET, names, mids, *lengths, YAMNET_NOTE, digest, device, hear, embed=embed)


def _ensemble(members: list[Detector], mean: Mean) -> Detector:
    """Of probabilities too it has logits: those of their mean."""
    if not members:
        raise UserError("an ensemble of no networks, expected at least one")
    first = members[0]
    for other in members[1:]:
        if (other.classes, other.frame_seconds) != (first.classes, first.frame_seconds):
            both = (f"{of.name} has {len(of.classes)} in frames of {of.frame_seconds:g} s" for of in (first, other))
            raise UserError(f"an ensemble needs the same classes: {', '.join(both)}")

    def hear(windows: Tensor) -> Tensor:
        logits = torch.stack([member.logits(windows) for member in members])
        if mean == "logits":
            return logits.mean(dim=0)
        return logits.double().sigmoid().mean(dim=0).logit(eps=LEAST)

    notes = "; ".join(dict.fromkeys(of.note for of in members if of.note)) or None
    digests = "+".join(of.sha256 or "none" for of in members)
    lengths = first.window_seconds, first.frame_seconds
    name = " + ".join(of.name for of in members) + (f" (mean of {mean})" if mean != "logits" else "")
    return Detector(name, first.classes, first.mids, *lengths, notes, digests, first.device, hear)
