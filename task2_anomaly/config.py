"""The settings of a recipe."""

from dataclasses import dataclass, field
from typing import Any, Literal

from common.run.config import FINITE, in_range
from common.run.energy import EnergyConfig
from common.run.errors import UserError
from common.run.imports import Own, check_class
from common.run.settings import SubmissionConfig, TrainerConfig

OFFERED = ("num_mels",)  # what an own network's class is given where it asks for it
SAMPLE_RATE = 16000  # of the data sets, Hz; recordings of other rates are resampled to it
# Which clips serve as proxy outliers; `data.classes.proxy_types` says of which machine types.
ProxySet = Literal[
    "same_mic_same_type", "same_mic_different_type", "same_mic_all_types", "different_mic", "all", "audioset", "scenes"
]


@dataclass
class DataConfig:
    """Where the data set lies and how batches are made of it."""

    root: str | None = None  # folder with dev_data/ and eval_data/ in the official layout
    edition: Literal[2020, 2021, 2022, 2023, 2024, 2025] = 2020  # from 2021 on: sections and domains; 2023: first-shot
    toy: Literal["toy", "tiny"] | None = None  # `prepare` writes the embedded data set of this size to root
    packs: str | None = None  # where `prepare` packs the audio; default: <root>/packed
    machines: list[str] | None = None  # types (fan) or machines (fan_id_00, fan_section_00); null: all that are there
    proxies: ProxySet = "same_mic_all_types"
    proxy_clips: int | None = in_range(None, 1)  # draw so many proxy clips once per run; null: all
    # The end of a pass over the proxies: batches go on with the next pass (joined), or it is a smaller batch (kept), or
    # left out (dropped). A set smaller than a batch is always joined.
    proxy_ends: Literal["joined", "kept", "dropped"] = "joined"
    proxy_blur: float | None = in_range(None, 0, FINITE)  # sigma of a Gaussian blur of the proxies' spectrograms
    audioset: str | None = None  # folder <class>/*.wav of the proxy set `audioset`
    scenes: str | None = None  # folder of wav files of the proxy set `scenes`
    snippet_frames: int = in_range(256, 17)  # the network halves it four times
    batch: int = in_range(32, 1)  # normal clips; as many proxies beside them
    eval_batch: int = in_range(64, 1)
    # Autoencoders: what an epoch has of a clip: as many windows as it has, at random places; or every window once.
    windows: Literal["random", "every"] = "random"
    validation_split: float = in_range(0.0, 0, 0.9)  # of `every`: last share of the windows, which is not trained on
    # One network for each machine (ID or section), or for all of a type: development and additional IDs apart.
    network_per: Literal["machine", "type"] = "machine"


@dataclass
class FrontEndConfig:
    """A setting of common.frontends, and what a recipe changes of it (null: as there)."""

    setting: Literal["task2_challenge", "task2_workshop", "task2_workshop_zero_pad", "task2_organisers"] = (
        "task2_challenge"
    )
    num_mels: int | None = in_range(None, 17)
    hop: int | None = in_range(None, 1)
    standardise: bool = False  # each band over the time of each clip


@dataclass(frozen=True)
class ModelConfig:
    """classifier: CP-ResNet by its stage-1 kernels; ae: autoencoders; embedding: `embedding` below.

    module:Name is an own classifier, made with `arguments`.
    """

    kind: Literal["classifier", "ae_organisers", "ae_workshop", "ae_conv", "ae_firstshot", "embedding"] | Own = (
        "classifier"
    )
    arguments: dict[str, Any] = field(default_factory=dict)  # of an own network's class
    kernels: Literal["very_small", "a_bit_smaller", "normal", "a_bit_larger"] = "a_bit_larger"
    base_channels: int = in_range(128, 1)

    @property
    def classifies(self) -> bool:
        """Whether the network tells normal clips from proxies."""
        return self.kind == "classifier" or isinstance(self.kind, Own)


@dataclass
class LossConfig:
    """Outlier-exposed classification."""

    name: Literal["bce", "auc", "neyman_pearson"] = "bce"


@dataclass
class OptimizerConfig:
    """Adam without weight decay; the rate is multiplied after each epoch."""

    lr: float = in_range(1e-4, 0, FINITE)
    beta2: float = in_range(0.999, 0, 1)
    epoch_factor: float = in_range(0.99, 0, 1)


@dataclass
class EmbeddingConfig:
    """The second system: embeddings of a pre-trained encoder, and a back end that scores the distance to normal."""

    encoder: str | Own = "beats"  # of common.encoders, or module:Name, an own one
    checkpoint: str | None = None  # of common.encoders' catalogue, or a file; null: random weights
    pooling: Literal["mean", "mean_std"] = "mean"
    finetune: bool = False  # classification of machine, section and attributes first
    backend: Literal["knn", "gmm", "mahalanobis"] = "knn"
    neighbours: int = in_range(1, 1)
    components: int = in_range(2, 1)
    mixup_probability: float = in_range(0.5, 0, 1)  # fine-tuning: share of the batches that are mixed
    smote: float = in_range(0.0, 0, 1)  # oversampling of the target domain up to this share (first-shot editions)


@dataclass
class ScoringConfig:
    """From window scores to file scores and decisions."""

    hop: int = in_range(1, 1)  # frames between windows
    aggregate: Literal["mean", "max", "median"] = "mean"
    # ae_firstshot: Mahalanobis distance of the residuals to the nearer domain, over the clip or (as published) of the
    # clip's mean residual, instead of the squared error.
    residuals: Literal["squared", "mahalanobis", "mahalanobis_published"] = "squared"
    decision_quantile: float = in_range(0.9, 0, 1)  # of a gamma distribution fitted to scores of held-out normal clips
    held_out: float = in_range(0.1, 0, 0.5)  # share of the normal training clips for the decision's threshold


@dataclass
class Config:
    """A Task 2 recipe."""

    seed: int = in_range(1220, 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_epochs=100, devices=1))
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    submission: SubmissionConfig | None = None

    def __post_init__(self) -> None:
        check_class("model", "kind", self.model.kind, self.model.arguments, OFFERED)
        check_class("embedding", "encoder", self.embedding.encoder, {}, ("num_classes",))
        kind, scoring, data = self.model.kind, self.scoring, self.data
        if scoring.residuals != "squared" and kind != "ae_firstshot":
            raise UserError(f"scoring.residuals: {scoring.residuals} needs model.kind=ae_firstshot, not {kind}")
        for name, value, default in (
            ("windows", data.windows, "random"),
            ("network_per", data.network_per, "machine"),
        ):
            if value != default and (self.model.classifies or kind == "embedding"):
                raise UserError(f"data.{name}: {value} is for autoencoders (model.kind=ae_...), not {kind}")
        if data.validation_split and data.windows != "every":
            raise UserError("data.validation_split: needs data.windows=every, which has an order of windows")
        if kind == "embedding" and not scoring.held_out:
            raise UserError("scoring.held_out: is 0, but a clip's distance to itself makes no decision threshold")
