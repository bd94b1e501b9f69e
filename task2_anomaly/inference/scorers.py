"""One machine's scorer: recordings -> anomaly scores {file name: score}, higher for anomalies.

`NetworkScorer` has a classifier or an autoencoder, `EmbeddingScorer` the distance to what is normal.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from common.audio.packs import open_pack
from common.audio.reading import Waveform
from common.encoders.cp_resnet import CPResNet
from common.run.errors import UserError
from common.run.processes import working_device
from common.run.verbs import Run
from task2_anomaly.config import SAMPLE_RATE, Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.embeddings import embeddings_of
from task2_anomaly.data.features import Features, features_of, spectrogram
from task2_anomaly.data.front_end import front_end
from task2_anomaly.data.layout import Part, parse_clip
from task2_anomaly.data.sets import held_out_rows, pack_of, together, training_pack, training_rows
from task2_anomaly.inference.checkpoints import load_network, load_normal
from task2_anomaly.inference.windows import plain_window_scores, repeated, window_scores
from task2_anomaly.model import backends
from task2_anomaly.model.autoencoder import Autoencoder, FirstShotAutoencoder
from task2_anomaly.model.embedder import Embedder
from task2_anomaly.model.networks import window_frames

AGGREGATE: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(dim=1),
    "max": lambda x: x.amax(dim=1),
    "median": lambda x: x.median(dim=1).values,
}


class NetworkScorer:
    """A machine's network on a device."""

    def __init__(self, network: nn.Module, config: Config, machine: Machine, device: str | None = None) -> None:
        self.device = torch.device(working_device(device))
        self.network, self.config, self.machine = network.to(self.device).eval(), config, machine
        self.ears = front_end(config.front_end)

    @torch.inference_mode()
    def scores(self, observation: Tensor) -> Tensor:
        """Log-mel (batch, mel, frames) of clips of one length -> scores (batch,), higher for anomalies."""
        scoring, length = self.config.scoring, window_frames(self.config)
        observation = repeated(observation.to(self.device), length)
        if isinstance(self.network, CPResNet):
            return AGGREGATE[scoring.aggregate](window_scores(self.network, observation, length, scoring.hop))
        if self.config.model.classifies:
            return AGGREGATE[scoring.aggregate](plain_window_scores(self.network, observation, length, scoring.hop))
        residuals = self.residuals(observation)
        if scoring.residuals == "squared":
            return AGGREGATE[scoring.aggregate](residuals.square().mean(dim=(2, 3)))
        assert isinstance(self.network, FirstShotAutoencoder)
        return self.network.mahalanobis(residuals, published=scoring.residuals == "mahalanobis_published")

    @torch.inference_mode()
    def residuals(self, observation: Tensor) -> Tensor:
        """An autoencoder's residuals (batch, windows, mel, frames of a window)."""
        assert isinstance(self.network, Autoencoder)
        length = window_frames(self.config)
        pieces = repeated(observation.to(self.device), length).unfold(2, length, self.config.scoring.hop)
        pieces = pieces.transpose(1, 2)
        return self.network.residual(pieces.flatten(0, 1)).unflatten(1, pieces.shape[2:]).unflatten(0, pieces.shape[:2])

    def clips(self, features: Features, rows: np.ndarray | None = None) -> dict[str, float]:
        """{name: score} of the clips of a pack, or of some of its rows."""
        found: dict[str, float] = {}
        for chosen, observation in _by_length(features, rows, self.config.data.eval_batch):
            values = self.scores(torch.from_numpy(observation)).double().cpu().tolist()
            found |= {features.names[int(i)]: value for i, value in zip(chosen, values, strict=True)}
        return found

    def held_out(self) -> dict[str, float]:
        """Of the normal training clips that training has not seen; where none was held out, of all."""
        own = features_of(training_pack(self.config.data, self.machine), self.config.front_end)
        return self.clips(own, held_out_rows(len(own), self.config.scoring.held_out))

    def of_part(self, part: Part) -> dict[str, float]:
        """Of the machine's clips of a test part."""
        return self.clips(features_of(pack_of(self.config.data, part, self.machine), self.config.front_end))

    def of_waveform(self, waveform: Waveform, name: object) -> float:
        """Of a recording (samples,) at 16 kHz. Raises UserError where it is too short for one frame."""
        if self.ears.num_frames(len(waveform)) == 0:
            raise UserError(f"{name}: too short, {len(waveform) / SAMPLE_RATE:.3f} s")
        observation = spectrogram(self.ears, torch.from_numpy(waveform)[None], self.config.front_end.standardise)
        return float(self.scores(observation)[0])


def _by_length(features: Features, rows: np.ndarray | None, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, their spectrograms (clips, mel, frames)): clips of one length together."""
    rows = np.arange(len(features)) if rows is None else rows
    sizes = features.num_frames[rows]
    for size in np.unique(sizes):
        alike = rows[sizes == size]
        for first in range(0, len(alike), batch):
            chosen = alike[first : first + batch]
            yield chosen, features.cut(chosen, np.zeros(len(chosen), np.int64), int(size))


class EmbeddingScorer:
    """A machine's back end on the embeddings of its normal clips."""

    def __init__(self, run: Run, machine: Machine, embedder: Embedder, normal: backends.Normal | None = None) -> None:
        self.run, self.machine, self.embedder = run, machine, embedder
        self.normal = normal or load_normal(run, machine)
        self.distance = backends.fit(run.config.embedding, self.normal.vectors, self.normal.target, run.seed)

    def held_out(self) -> dict[str, float]:
        """Of the normal training clips that the back end does not know."""
        return dict(zip(self.normal.names, self.distance(self.normal.held_out).tolist(), strict=True))

    def of_part(self, part: Part) -> dict[str, float]:
        """Of the machine's clips of a test part."""
        names = open_pack(pack_of(self.run.config.data, part, self.machine)).names
        found = self.distance(embeddings_of(self.run, self.embedder, part, self.machine))
        return dict(zip(names, found.tolist(), strict=True))

    def of_waveform(self, waveform: Waveform, name: object) -> float:
        """Of a recording (samples,) at 16 kHz."""
        return float(self.distance(self.embedder.vectors(waveform[None]))[0])


Scorer = NetworkScorer | EmbeddingScorer


def load_scorer(run: Run, machine: Machine, embedder: Embedder | None = None) -> Scorer:
    """The scorer of a machine of a run; machines of one run can share an embedder. Raises UserError as the loaders."""
    if run.config.model.kind == "embedding":
        return EmbeddingScorer(run, machine, embedder or Embedder(run))
    scorer = NetworkScorer(load_network(run, machine), run.config, machine)
    if run.config.scoring.residuals != "squared":
        _fit_covariance(scorer, run, machine)
    return scorer


def _fit_covariance(scorer: NetworkScorer, run: Run, machine: Machine) -> None:
    """What Mahalanobis distances are measured by: the residuals of the clips that training has seen."""
    assert isinstance(scorer.network, FirstShotAutoencoder)
    scorer.network.fit_covariance(_training_residuals(scorer, run.config, together(run.config.data, machine)))


def _training_residuals(
    scorer: NetworkScorer, config: Config, machines: Sequence[Machine]
) -> Iterator[tuple[Tensor, Tensor]]:
    for machine in machines:
        own = features_of(training_pack(config.data, machine), config.front_end)
        target = torch.tensor([parse_clip(name).domain == "target" for name in own.names])
        rows = training_rows(len(own), config.scoring.held_out)
        for chosen, x in _by_length(own, rows, config.data.eval_batch):
            yield scorer.residuals(torch.from_numpy(x)), target[chosen]
