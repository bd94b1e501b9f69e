"""Vectors of clips and captions by a trained network: what rankings, teachers and searches are made of."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.audio.coverage import packs_of
from common.run.energy import measure
from common.run.errors import UserError
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.store import record
from common.run.verbs import Run
from task6_retrieval.config import CHALLENGE, OTHER, Config, DataConfig
from task6_retrieval.data.batches import clip_loader
from task6_retrieval.data.embeddings import store
from task6_retrieval.data.layout import challenge_of, needed, read_queries
from task6_retrieval.data.sets import CaptionedClips, load_set
from task6_retrieval.data.teachers import Embeddings, clip_names, embeddings_file, texts_of, write_embeddings
from task6_retrieval.inference.checkpoints import load_network
from task6_retrieval.inference.tags import Tags
from task6_retrieval.model.networks import DualEncoder, build_network, load_weights

Vectors = NDArray[np.float32]


@torch.inference_mode()
def embed_clips(network: DualEncoder, of: CaptionedClips, config: Config) -> Vectors:
    """Raw projections (clips, dim) of a data set's clips, each passed once; several windows of one are averaged."""
    device, batch = next(network.parameters()).device, config.data.eval_batch
    stored = {}
    if config.model.audio.stored:
        stored[of.name] = store(of, packs_of(config.data) / "embeddings", network.audio_encoder, batch, device)
    total, counts = np.zeros((len(of), config.model.dim), np.float32), np.zeros(len(of), np.int64)
    with progress(f"embed {of.name}", len(of)) as advance:
        for given in clip_loader(of, config, stored=stored):
            vectors = network.clips(given.audio.to(device), given.seconds.to(device), given.keywords)
            rows = given.clip.numpy() - of.first
            np.add.at(total, rows, vectors.float().cpu().numpy())
            np.add.at(counts, rows, 1)
            advance(len(np.unique(rows)))
    total /= counts[:, None]
    return total


@torch.inference_mode()
def embed_texts(network: DualEncoder, texts: Sequence[str], batch: int = 64) -> Vectors:
    """Raw projections (texts, dim)."""
    parts = [network.sentences(texts[first : first + batch]).float().cpu() for first in range(0, len(texts), batch)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, network.config.dim), np.float32)


Embedders = tuple[Callable[[CaptionedClips], Vectors], Callable[[Sequence[str]], Vectors]]


def _network(config: Config, network: DualEncoder) -> Embedders:
    network = network.to(working_device())
    return partial(embed_clips, network, config=config), partial(embed_texts, network)


def _tags(config: Config) -> Embedders:
    """As what a network gives; windows of ten seconds are averaged."""
    tags = Tags()

    def embed(of: CaptionedClips) -> Vectors:
        listing, found = needed(config.data, of.name), []
        files = {clip.name: file for clip, file in zip(listing.clips, listing.files, strict=True)}
        with progress(f"tags of {of.name}", len(of)) as advance:
            for windows in tags.sounds([files[name] for name in of.clips]):
                if isinstance(windows, UserError):
                    raise windows
                found.append(windows.mean(axis=0))
                advance()
        return np.stack(found)

    return embed, tags.texts


def predict_run(run: Run, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Store a finished run's vectors of data sets, a file each: by default of the validation and the test set, and of
    the challenge's where the recipe has it. Of its training sets they make it a teacher. Returns counts by set.

    The other of the best and the last checkpoint gets the test set too, in a folder of that name.
    """
    config: Config = run.config
    data, done = config.data, {}
    usual = (data.validation, data.test, *([CHALLENGE] if challenge_of(data) else []))
    sets = [load_set(data, name) for name in dict.fromkeys(names or usual)]
    embedders = _tags(config) if config.tags else _network(config, load_network(run))
    section, phase = ("teach", "teach") if names else ("predict", "test")
    start = time.monotonic()
    with measure(run.folder, phase, config.energy, anew=True) as meter:
        for of in sets:
            done[of.name] = _store(run.folder, of, data, embedders)
    seconds = round(time.monotonic() - start, 2)
    record(run.folder, section, {"sets": done, "kwh": meter.kwh, "seconds": seconds})
    other = OTHER[config.checkpoint]
    checkpoint = run.folder / "checkpoints" / f"{other}.ckpt"
    if not names and checkpoint.is_file():
        network = load_weights(build_network(config), checkpoint)
        _store(run.folder / other, load_set(data, data.test), data, _network(config, network))
    return done


def _store(folder: Path, of: CaptionedClips, data: DataConfig, embedders: Embedders) -> dict[str, int]:
    clips, sentences = embedders
    texts = list(dict.fromkeys(read_queries(data))) if of.name == CHALLENGE else texts_of([of])
    found = Embeddings(tuple(clip_names([of])), clips(of), tuple(texts), sentences(texts))
    write_embeddings(embeddings_file(folder, of.name), found)
    print(f"{embeddings_file(folder, of.name)}: {len(of)} clips, {len(texts)} texts")
    return {"clips": len(of), "texts": len(texts)}
