"""Scores of a run's test sets, with controls; and any recordings against any classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from common.audio.answers import stems, write_answer
from common.audio.reading import info
from common.audio.recordings import find_recordings
from common.run.files import write_rows
from common.run.folders import printable
from common.run.numbers import unit_rows
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.store import record
from common.run.results.tables import print_table
from common.run.verbs import Run
from common.toy import key
from zeroshot.config import Config, TextsConfig, of_split
from zeroshot.data.batches import eval_loader
from zeroshot.data.embeddings import Embedder, embedded, embedder
from zeroshot.data.sets import Clips, DataSets, Parts
from zeroshot.data.splits import class_splits
from zeroshot.data.texts import Texts, check_script, texts_of
from zeroshot.data.vectors import ClassEncoder, attributes_of, centred, class_vectors, used
from zeroshot.inference.checkpoints import Trained, load_file, load_split
from zeroshot.inference.scores import GENERALISED, GENERALISED_TRUTH, TEST, TRUTH, Scores, control_file, write_scores
from zeroshot.metrics import stacking_gamma
from zeroshot.model.networks import ZeroShotNetwork

Floats = NDArray[np.floating]
SENTENCES = "all-MiniLM-L6-v2"
EMBEDDED = f"yamnet and {SENTENCES}, nothing trained: transfer (yamnet knows 521 classes of AudioSet by label)"


# ---------------------------------------------------------------- the recipe's test sets


def predict_run(run: Run) -> Mapping[str, Any]:
    """Write every split's scores: predictions/test.csv, controls, generalised.csv where there are seen clips."""
    config: Config = run.config
    by_class, sets, done = class_vectors(config), DataSets(config), {}
    for split in class_splits(config):
        part = of_split(run, split.name)
        done[split.name] = _predict_split(part, sets.parts(split), load_split(run, split.name), by_class)
        record(part.folder, "predict", done[split.name])
    print(f"{run.folder}: scores of {len(done)} class splits")
    return done


def _predict_split(part: Run, parts: Parts, trained: Trained, by_class: Mapping[str, Floats]) -> dict[str, Any]:
    config, split = trained.config, parts.split
    train = np.stack([by_class[name] for name in split.train])

    def vectors(names: Sequence[str]) -> Floats:
        return centred(np.stack([by_class[name] for name in names]), train, config.texts.centre)

    def write(file: str, clips: Clips, classes: Sequence[str], scores: Floats) -> None:
        write_scores(part.folder / file, Scores(clips.names, tuple(classes), scores))

    test = parts.test
    audio = embeddings_of(trained.network, test, config)
    write(TEST, test, split.test, score(trained.network, audio, vectors(split.test)))
    random = np.random.default_rng(key(str(part.seed), split.name))
    noise = random.standard_normal(vectors(split.test).shape)
    write(control_file("random"), test, split.test, score(trained.network, audio, noise))
    shuffled = vectors(split.test)[random.permutation(len(split.test))]
    write(control_file("shuffled"), test, split.test, score(trained.network, audio, shuffled))
    write(control_file("oracle"), test, split.test, oracle(audio, test))
    _write_truth(part.folder / TRUTH, test)
    found: dict[str, Any] = {"clips": len(test), "classes": len(split.test), "claim": config.encoder.claim}
    if parts.seen is None or not test.single:
        return found
    # Odd sources choose gamma together with the validation classes, even ones are tested.
    even = (
        np.unique(parts.seen.sources, return_inverse=True)[1] % 2 == 0 if split.val else np.ones(len(parts.seen), bool)
    )
    seen, joint = parts.seen.take(np.flatnonzero(even)), (*split.train, *split.test)
    of_seen = embeddings_of(trained.network, seen, config)
    both = score(trained.network, np.concatenate((of_seen, audio)), vectors(joint))
    write_scores(part.folder / GENERALISED, Scores((*seen.names, *test.names), joint, both))
    labelled = [
        (name, of.classes[target]) for of in (seen, test) for name, target in zip(of.names, of.targets, strict=True)
    ]
    write_rows(part.folder / GENERALISED_TRUTH, ("clip", "class"), labelled)
    found |= {"seen clips": len(seen), "gamma": 0.0}
    if parts.validation is not None:
        calibration = parts.seen.take(np.flatnonzero(~even))
        found["gamma"] = _gamma(trained.network, config, calibration, parts.validation, vectors)
    return found


def _gamma(
    network: ZeroShotNetwork,
    config: Config,
    seen: Clips,
    validation: Clips,
    vectors: Callable[[Sequence[str]], Floats],
) -> float:
    """Of calibrated stacking, with the validation classes in the place of the unseen ones."""
    classes = (*seen.classes, *validation.classes)
    audio = np.concatenate([embeddings_of(network, clips, config) for clips in (seen, validation)])
    labels = np.concatenate((seen.targets, len(seen.classes) + validation.targets))
    return stacking_gamma(score(network, audio, vectors(classes)), labels, np.arange(len(classes)) < len(seen.classes))


@torch.inference_mode()
def embeddings_of(network: ZeroShotNetwork, clips: Clips, config: Config) -> Floats:
    """Standardised embeddings (clips, d_a)."""
    if network.encoder is None:
        return network.standardised(torch.from_numpy(embedded(clips, config))).numpy()
    device, found = torch.device(working_device()), []
    network = network.to(device).eval()
    with progress("embed", len(clips)) as advance:
        for batch in eval_loader(clips, config):
            found.append(network.embed(batch.audio.to(device)).float().cpu().numpy())
            advance(len(batch.row))
    network.cpu()
    return np.concatenate(found)


@torch.inference_mode()
def score(network: ZeroShotNetwork, audio: Floats, classes: Floats) -> Floats:
    """Standardised embeddings (clips, d_a), centred class vectors (classes, d_t) -> (clips, classes)."""
    scores = network.compatibility(*(torch.from_numpy(np.asarray(of, np.float32)) for of in (audio, classes)))
    found: Floats = scores.numpy()
    return found


def oracle(audio: Floats, clips: Clips) -> Floats:
    """Cosine with the mean embedding of each class's other clips (none of the same source): (clips, classes)."""
    x, labels = unit_rows(audio), clips.labels.astype(audio.dtype)
    total, found = labels.T @ x, np.empty(labels.shape)
    for source in np.unique(clips.sources):
        rows = clips.sources == source
        found[rows] = x[rows] @ unit_rows(total - labels[rows].T @ x[rows]).T
    return found


def _write_truth(path: Path, clips: Clips) -> None:
    """What `evaluate --ground-truth` takes: clip, class, value 1 or 0; pairs that nobody judged are left out."""
    rows, columns = np.nonzero(clips.judged)
    values = clips.labels[rows, columns].astype(int)
    lines = ([clips.names[r], clips.classes[c], v] for r, c, v in zip(rows, columns, values, strict=True))
    write_rows(path, ("clip", "class", "value"), lines)


# ---------------------------------------------------------------- any recordings


class Predictor(Protocol):
    """Scores of recordings for some classes; note: what the scores rest on."""

    @property
    def note(self) -> str | None: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def scores(self, recording: str | Path | np.ndarray, sample_rate: int | None) -> Floats:
        """(classes,)."""


@dataclass(frozen=True)
class TrainedPredictor:
    """By the network of a trained split."""

    trained: Trained
    classes: tuple[str, ...]
    vectors: Floats
    embedder: Embedder
    note: str | None

    @classmethod
    def of(cls, trained: Trained, texts: Texts) -> "TrainedPredictor":
        """For these classes; UserError for texts that the recipe's class encoder cannot take."""
        encoder = ClassEncoder(trained.config.texts, trained.texts, attributes=attributes_of(trained.config))
        train = encoder.vectors({name: trained.texts[name] for name in trained.train})
        vectors = centred(encoder.vectors(texts), train, trained.config.texts.centre)
        return cls(trained, tuple(texts), vectors, embedder(trained.config, trained.network.encoder), trained.note)

    def scores(self, recording: str | Path | np.ndarray, sample_rate: int | None) -> Floats:
        audio = torch.from_numpy(self.embedder.of_recording(recording, sample_rate))[None]
        network = self.trained.network
        return score(network, network.standardised(audio).numpy(), self.vectors)[0]


class EmbeddedPredictor:
    """By what the environment carries: yamnet's tags, weighted by how near their names are to the descriptions.

    Nothing is trained. A convex combination of known classes after Norouzi et al. 2014 (ConSE), the other way round.
    """

    def __init__(self, texts: Texts, config: TextsConfig) -> None:
        from common import encoders
        from common.encoders import text
        from common.encoders.recordings import asked

        check_script(texts, SENTENCES)
        self.classes, self.note = tuple(texts), EMBEDDED
        self.encoder, sentences = encoders.create("yamnet").to(working_device()), text.create(SENTENCES)
        names = self.encoder.class_names()
        groups = [used(of, config) for of in texts.values()]
        self.weights = np.stack(
            [np.mean([asked(group, names, sentences).mean(axis=0) for group in of], axis=0) for of in groups]
        )

    def scores(self, recording: str | Path | np.ndarray, sample_rate: int | None) -> Floats:
        logits = self.encoder.embed(recording, sample_rate).logits
        assert logits is not None
        return self.weights @ logits.sigmoid().cpu().numpy()


def ranking(
    predictor: Predictor, recording: str | Path | np.ndarray, sample_rate: int | None = None
) -> dict[str, float]:
    """{class: score}, the best first."""
    scores = predictor.scores(recording, sample_rate)
    order = np.argsort(-scores, kind="stable")
    return {predictor.classes[index]: float(scores[index]) for index in order}


Draw = Callable[[Path, Path, Mapping[str, float], str | None], None]


def predict_files(predictor: Predictor, files: Sequence[Path], out: Path, draw: Draw) -> Mapping[str, Any]:
    """Print the ranked classes of recordings; write them to `out` (`common.audio.answers`), with a picture each.

    draw(path, recording, ranking, note) writes a picture.
    """
    recordings = find_recordings(files)
    written, names = stems(out, recordings, "scores", (".tsv", ".png")), recordings.names()
    found: dict[Path, dict[str, Any]] = {}
    with progress("predict", len(names), "files") as advance:
        for path in recordings.files:
            with recordings.skipping(path):
                scores = ranking(predictor, path)
                found[path] = {"seconds": info(path).seconds, "class": next(iter(scores)), "scores": scores}
                _write_classes(written[path], path, found[path], predictor.note)
                draw(Path(f"{written[path]}.png"), path, scores, predictor.note)
                advance(note=names[path])
    if found:
        shown = ("first", "second", "third")[: len(predictor.classes)]
        rows = []
        for path, of in found.items():
            best = (f"{name} {score:.3g}" for name, score in list(of["scores"].items())[: len(shown)])
            rows.append([names[path], f"{of['seconds']:.2f}", *best])
        said = "; ".join(filter(None, (predictor.note, f"all files: {out}")))
        print_table("classes, with their scores", ["file", "seconds", *shown], rows, said, whole=out)
    of_names = {names[path]: of for path, of in found.items()}
    return recordings.finish({"out": str(out), "files": of_names, "note": predictor.note})


def _write_classes(stem: Path, path: Path, found: Mapping[str, Any], note: str | None) -> None:
    about = {"file": printable(path), "duration": round(found["seconds"], 3), "class": found["class"]}
    about |= {"scores": found["scores"]} | ({"note": note} if note else {})
    rows = [(printable(path.name), name, f"{score:.7g}") for name, score in found["scores"].items()]
    write_answer(stem, about, ("filename", "class", "score"), rows)


def predictor_of(texts: Texts, config: TextsConfig, trained: Trained | None = None) -> Predictor:
    """For these classes by a trained split; by none: what the environment carries, with templates of `config`."""
    return EmbeddedPredictor(texts, config) if trained is None else TrainedPredictor.of(trained, texts)


def classify(
    recording: str | Path | np.ndarray,
    classes: Sequence[str] | Mapping[str, str | Sequence[str]],
    checkpoint: str | Path | None,
    sample_rate: int | None,
) -> dict[str, float]:
    """`zeroshot.classify`."""
    trained = None if checkpoint is None else load_file(Path(checkpoint))
    return ranking(predictor_of(texts_of(classes), TextsConfig(), trained), recording, sample_rate)
