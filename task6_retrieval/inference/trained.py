"""Search by a trained dual encoder: windows of recordings and sentences as vectors of its space."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.audio.recordings import Recording, rechunked
from common.run.checkpoints import checkpoint_of, training_of, weights_sha256
from common.run.errors import UserError
from common.run.results.runs import quality
from common.run.results.store import recorded
from common.run.verbs import Run
from common.search import Encoder
from task6_retrieval.config import SAMPLE_RATE, Config
from task6_retrieval.inference.checkpoints import load_file
from task6_retrieval.model.networks import DualEncoder, build_network, load_weights

INDEX = "python -m task6_retrieval index"
LEAST = SAMPLE_RATE  # samples of a recording's last window; a shorter one is heard with the one before


class Trained(Encoder):
    """An `Encoder` of common.search: a network, each window of its training's length in one pass.

    folder: of the training, by which the model is called; command: what makes the index. Clips have no metadata here:
    a model of fusion hears their audio alone. Raises UserError for a model of metadata alone.
    """

    has_text = True

    def __init__(self, network: DualEncoder, config: Config, folder: Path, words: Sequence[str]) -> None:
        from common.run.processes import working_device

        name = f"{folder.parent.name}-{folder.name}"
        if not config.model.hear:
            raise UserError(f"{folder}: knows clips by their metadata alone, which recordings do not have")
        self.window = config.data.window_seconds
        cut = self.window, config.data.segment_seconds, network.sentence_encoder.encoder.vocabulary()
        self.network = network.to(working_device())
        self.key = f"{name}-{weights_sha256(network, f'{asdict(config.model)} {cut}')[:12]}"
        self.command = shlex.join([*INDEX.split(), *words])
        self.title, self.quality = f"the trained network {name}", quality_of(folder, config.data.test)

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self.network.config.dim

    def sounds(self, paths: Sequence[Path]) -> Iterator[NDArray[np.float32] | UserError]:
        """(windows, dim) for each file, or what is wrong with it."""
        for path in paths:
            pieces = rechunked(Recording(path, SAMPLE_RATE), int(self.window * SAMPLE_RATE), LEAST)
            try:
                yield np.concatenate([self._vector(piece) for piece in pieces])
            except UserError as error:
                yield error

    def _vector(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        device = self.network.tau.device
        audio = torch.from_numpy(np.ascontiguousarray(waveform))[None].to(device)
        seconds = torch.tensor([len(waveform) / SAMPLE_RATE], device=device)
        with torch.inference_mode():
            return self.network.clips(audio, seconds, [""]).float().cpu().numpy()

    def texts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """(sentences, dim)."""
        from task6_retrieval.inference.predict import embed_texts

        return embed_texts(self.network, sentences)


def of_run(run: Run) -> Trained:
    """The network of a finished run. Raises UserError where its training is not finished."""
    path, digest = checkpoint_of(run.folder, "; without --recipe the tags of YAMNet answer")
    words = ["--recipe", run.recipe, *(["--runs", str(run.number)] if run.number > 1 else [])]
    own = (run.task.recipes / f"{run.recipe}.yaml").is_file()
    if not own or run.folder.parent != Path("runs") / run.task.name / run.recipe:
        words = ["--checkpoint", str(path)]
    return Trained(load_weights(build_network(run.config), path, digest), run.config, run.folder, words)


def of_file(path: Path) -> Trained:
    """The network of a checkpoint, beside which `train` left its recipe."""
    network, config = load_file(path)
    return Trained(network, config, training_of(path), ["--checkpoint", str(path)])


def quality_of(folder: Path, test: str) -> str:
    """What `evaluate` found out about the training in `folder` on its test set, in a sentence."""
    if (found := recorded(folder, "test")) is None:
        return quality(folder, "mAP@10", None)
    of = found["sets"][test]
    about = f", {of['clips']:,} clips of {test} (chance {of['chance']['map@10']:.3f})"
    return quality(folder, "mAP@10", of["map@10"], of["intervals"]["map@10"], about)
