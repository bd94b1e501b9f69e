"""Vectors of clips and captions by a trained network: what rankings, teachers and searches are made of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from common.audio.coverage import packs_of
from common.run.progress import progress
from common.run.verbs import Run
from task6_retrieval.config import Config
from task6_retrieval.data.batches import clip_loader
from task6_retrieval.data.embeddings import store
from task6_retrieval.data.sets import CaptionedClips, load_set
from task6_retrieval.data.teachers import FILE_NAME, Embeddings, clip_names, texts_of, write_embeddings
from task6_retrieval.inference.checkpoints import load_network
from task6_retrieval.model.networks import DualEncoder

Vectors = NDArray[np.float32]


def usable_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


def cosines(sentence: Vectors, audio: Vectors) -> Vectors:
    """Cosine of every text and clip, (texts, clips)."""
    units, others = (F.normalize(torch.from_numpy(of), dim=-1) for of in (sentence, audio))
    return (units @ others.T).numpy()


def embed_run(run: Run, names: Sequence[str] | None = None) -> Path:
    """Store the vectors of a finished run for the clips and captions of data sets (default: those that it trained on):
    it can teach then. Returns the file.
    """
    config: Config = run.config
    network = load_network(run).to(usable_device())
    sets = [load_set(config.data, name) for name in dict.fromkeys(names or config.data.train)]
    texts, path = texts_of(sets), run.folder / FILE_NAME
    audio = np.concatenate([embed_clips(network, of, config) for of in sets])
    write_embeddings(path, Embeddings(tuple(clip_names(sets)), audio, tuple(texts), embed_texts(network, texts)))
    return path
