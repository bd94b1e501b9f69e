"""The settings of a recipe."""

from dataclasses import dataclass, field
from typing import Any, Literal

from common.run.config import FINITE, in_range
from common.run.energy import EnergyConfig
from common.run.errors import UserError, did_you_mean
from common.run.settings import SubmissionConfig, TrainerConfig

SAMPLE_RATE = 32_000  # Hz; of packs, batches and what networks take
# Names of the data sets: three parts of Clotho and of AudioCaps, four sources of WavCaps.
CLOTHO = ("clotho_development", "clotho_validation", "clotho_evaluation")
AUDIOCAPS = ("audiocaps_train", "audiocaps_val", "audiocaps_test")
WAVCAPS = ("wavcaps_freesound", "wavcaps_bbc", "wavcaps_soundbible", "wavcaps_audioset")
OTHER: dict[str, Literal["best", "last"]] = {"best": "last", "last": "best"}  # checkpoints of a training
CHALLENGE = "challenge"  # clips and queries without ground truth
SET_NAMES = (*CLOTHO, *AUDIOCAPS, *WAVCAPS)


@dataclass
class DataConfig:
    """Where the data sets lie and how batches are made of them."""

    root: str | None = None  # folder of Clotho, in either of its official layouts
    toy: Literal["toy", "tiny"] | None = None  # `prepare` writes the embedded data set of this size to root
    packs: str | None = None  # where `prepare` packs the audio; default: <root>/packed
    audiocaps: str | None = None  # folder of AudioCaps: train.csv, val.csv, test.csv, and audio anywhere below it
    wavcaps: str | None = None  # folder of WavCaps: json_files/ and a folder of audio for each source
    # Folder of a retrieval evaluation set: retrieval_captions.csv, and a folder of audio; default: <root>/challenge,
    # where that is there.
    challenge: str | None = None
    # Lists of clips that training on WavCaps leaves out: csv of Freesound ids, or json of ids by source.
    exclude: list[str] = field(default_factory=list)
    # json lines with other wordings of Clotho's captions; in training one of them takes a caption's place so often.
    variants: str | None = None
    variants_probability: float = in_range(0.0, 0, 1)
    train: list[str] = field(default_factory=lambda: ["clotho_development"])
    validation: str = "clotho_validation"
    test: str = "clotho_evaluation"
    # The challenge's annotations of 2025 for the test set: csv of queries, each with several relevant clips.
    annotations: str | None = None
    window_seconds: float = in_range(30.0, 0.1, FINITE)  # what of a longer clip is heard at once
    segment_seconds: float = in_range(10.0, 0.1, FINITE)  # pieces of the window that are encoded apart
    # Of longer clips in tests: the middle, or windows side by side whose embeddings are averaged. Training: random.
    test_crop: Literal["centre", "grid"] = "centre"
    batch: int = in_range(64, 1)
    eval_batch: int = in_range(32, 1)
    drop_last: bool = True  # leave out the last batch of an epoch, which is smaller
    workers: int = in_range(2, 0, 128)  # loader processes

    def __post_init__(self) -> None:
        """Raises UserError (`key: what is wrong`)."""
        named = {"data.train": self.train, "data.validation": [self.validation], "data.test": [self.test]}
        for key, names in named.items():
            for name in names:
                if name not in SET_NAMES:
                    raise UserError(f"{key}: unknown data set {name!r}{did_you_mean(name, SET_NAMES)}")
        if self.variants_probability and self.variants is None:
            raise UserError("data.variants_probability: needs data.variants, a file with other wordings")
        if self.segment_seconds > self.window_seconds:
            raise UserError(
                f"data.segment_seconds: {self.segment_seconds:g} s do not fit into the window of "
                f"{self.window_seconds:g} s"
            )


@dataclass(frozen=True)
class AudioConfig:
    """The audio encoder: a model of `common.encoders`, one pass for each segment of a clip."""

    encoder: str = "passt-s16"
    checkpoint: str | None = None  # a published one by name, a file or an address; null: random weights
    part: Literal["student", "teacher"] = "student"  # of files that hold both
    tokens: Literal["clip", "frames"] = "clip"  # what a segment gives: one vector, or its sequence
    patchout: tuple[int, int] = in_range((0, 0), 0)  # time columns and frequency rows that training leaves out
    skip_padding: bool = True  # segments of padding alone are not computed; matters for batch norms in training
    frozen: bool = False
    stored: bool = False  # of a frozen encoder: computed once for every clip, then read


@dataclass(frozen=True)
class TextConfig:
    """The text encoder: a name of `common.encoders.text`, or a folder that transformers reads."""

    encoder: str = "roberta-large"
    max_tokens: int = in_range(32, 3, 512)
    pooling: Literal["first", "mean"] = "first"  # the first token's state, or the mean over all tokens
    dropout: float | None = in_range(0.2, 0, 1)  # of hidden states and attention; null: the model's own
    normalise: bool = True  # lower case, no punctuation
    frozen: bool = False  # then every text is embedded once
    seed: int = in_range(0, 0)  # of the random weights of "small"


@dataclass(frozen=True)
class SequenceConfig:
    """A small transformer over audio tokens, behind metadata tokens in mid-level fusion (Primus & Widmer 2024)."""

    layers: int = in_range(2, 1)
    dim: int = in_range(768, 1)
    heads: int = in_range(12, 1)
    feed_forward: int = in_range(2048, 1)
    dropout: float = in_range(0.1, 0, 1)
    position_dropout: float = in_range(0.1, 0, 1)
    positions: bool = True  # fixed sinusoids with one learned scale
    max_length: int = in_range(192, 1)
    group: int = in_range(1, 1)  # so many consecutive audio tokens enter as one
    metadata: bool = False  # metadata tokens stand in front: mid-level fusion
    readout: Literal["learned", "first", "mean"] = "learned"  # first: as published, with metadata one of its tokens
    # What is added to the learned token: the mean of the audio tokens; as published also of those of padding.
    mean: Literal["heard", "padded", "none"] = "heard"


@dataclass(frozen=True)
class ModelConfig:
    """Two encoders, a head for each, and what is known of a clip beside its audio."""

    audio: AudioConfig = field(default_factory=AudioConfig)
    text: TextConfig = field(default_factory=TextConfig)
    dim: int = in_range(1024, 1)  # of the shared space
    hidden: int | None = in_range(None, 1)  # a hidden layer of ReLU in both heads
    # Late fusion: the clip's metadata, projected, is added to its projected audio.
    late: Literal["none", "shared", "separate"] = "none"  # encoder and head of the captions, or own ones
    metadata: Literal["keywords", "description"] = "keywords"  # description: another caption of the clip
    # A clip without keywords adds nothing, or (as published) the embedding of an empty text.
    no_metadata: Literal["nothing", "encoded"] = "nothing"
    hear: bool = True  # false: metadata alone
    sequence: SequenceConfig | None = None
    tau: float = in_range(0.05, 1e-6, FINITE)
    tau_trained: bool = False

    def __post_init__(self) -> None:
        if not self.hear and self.late == "none":
            raise UserError("model.hear: false needs metadata: model.late=shared or separate")
        if self.audio.stored and not self.audio.frozen:
            raise UserError("model.audio.stored: true needs model.audio.frozen=true")

    @property
    def uses_metadata(self) -> bool:
        """Whether clips can only be embedded with their metadata: an archive of a challenge without it cannot."""
        return self.late != "none" or (self.sequence is not None and self.sequence.metadata)


@dataclass
class AugmentConfig:
    """Random changes of a training batch."""

    roll: bool = False  # each waveform, circular, by any offset
    mel_jitter: bool = False  # range of the mel bands, one draw for a batch; of front ends that have one
    frequency_mask: int = in_range(0, 0)  # one mask a segment, narrower than so many bands
    time_mask: int = in_range(0, 0)  # and frames
    # SpecAugment of PANNs: narrower than so many frames or bands, filled with the batch's mean of the band.
    time_stripes: int = in_range(0, 0)
    time_stripe_width: int = in_range(64, 1)
    frequency_stripes: int = in_range(0, 0)
    frequency_stripe_width: int = in_range(8, 1)
    eda: float = in_range(0.0, 0, 1)  # probability that a caption is changed by one of the four below
    synonyms: str | None = None  # json: {word: [synonyms]}; null: near words of the captions, by all-MiniLM-L6-v2
    replaced: float = in_range(0.3, 0, 1)  # share of words replaced by a synonym
    deleted: float = in_range(0.2, 0, 1)
    swapped: float = in_range(0.0, 0, 1)
    inserted: float = in_range(0.0, 0, 1)


@dataclass
class DistillConfig:
    """Stage 2: correspondences of captions and clips, estimated by trained systems (Primus et al. 2024)."""

    teachers: list[str] = field(default_factory=list)  # recipes whose runs have embeddings of the training data
    runs: list[int] = field(default_factory=lambda: [1])
    weight: float = in_range(1.0, 0, FINITE)
    supervised_weight: float = in_range(0.0, 0, FINITE)  # of the loss of stage 1
    tau: float | None = in_range(None, 1e-6, FINITE)  # of the teachers; null: the student's
    # As published; each is the bug or the accident that its name says.
    supervised_weight_squared: bool = False
    tau_through_targets: bool = False  # a trained temperature has gradients through the soft targets too
    half_precision: bool = False  # the teachers' similarities are computed in float16


@dataclass
class OptimizerConfig:
    """AdamW; the rate rises linearly, falls along half a cosine, then stays. Epochs are fractional."""

    lr: float = in_range(2e-5, 0, FINITE)
    min_lr: float = in_range(1e-7, 0, FINITE)
    weight_decay: float = in_range(0.0, 0, FINITE)
    warmup_epochs: float = in_range(1.0, 0, FINITE)
    cosine_until_epoch: float = in_range(15.0, 0, FINITE)
    warmup_from: Literal["min_lr", "zero"] = "min_lr"  # zero, as published before 2025: the first step does nothing
    # Gradient caching: clips of one pass through the encoders, whose activations are made anew for the backward pass.
    # The memory of a step is that of so many clips, the loss that of the whole batch; 0: all at once.
    cached: int = in_range(0, 0)


@dataclass
class Config:
    """A Task 6 recipe."""

    seed: int = in_range(42, 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    tags: bool = False  # nothing is trained: the tags of YAMNet answer, as in `search` without a training
    start: str | None = None  # begin with the weights of this recipe's run of the same number, or of a checkpoint
    checkpoint: Literal["best", "last"] = "best"  # what is evaluated; last, as published
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    submission: SubmissionConfig | None = None
    # The space that `tune` searches: settings by their dotted names, each [lowest, highest] or [lowest, highest, log]
    # (a logarithmic scale); between whole numbers, whole numbers.
    tune: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UserError (`key: what is wrong`)."""
        if self.distill.teachers and self.data.variants_probability:
            raise UserError(
                "data.variants_probability: teachers know the captions alone, expected 0 with distill.teachers"
            )
