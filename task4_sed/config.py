"""The settings of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from common.run.config import FINITE, in_range
from common.run.energy import EnergyConfig
from common.run.errors import UserError, did_you_mean
from common.run.imports import Own, check_class, check_functions
from common.run.settings import SubmissionConfig, TrainerConfig
from task4_sed.systems import SYSTEMS, System

# What an own network's class is given where it asks for it.
OFFERED = ("num_classes", "num_mels", "embedding_dim")
# Names of the data sets, in the order of the official layout (data/layout.py).
SET_NAMES = (
    "synth_train",
    "synth_val",
    "weak",
    "unlabeled",
    "strong",
    "external_strong_train",
    "external_strong_val",
    "devtest",
    "maestro_train",
    "maestro_val",
    "eval_public",
    "eval24",
)

Toy = Literal["toy", "tiny", "audioset", "audioset_tiny", "dcase2016", "dcase2016_tiny", "maestro", "maestro_tiny"]

# Augmentations of stages 1 and 2, and those that change what the encoder hears.
STAGED_ONLY = ("wavmix_probability", "impulse_probability", "time_mask", "warp_probability")
NOT_FRAMEWISE = ("start", "loss.teacher_moves", "augment.impulse_probability")
UNCACHED = ("wavmix_probability", "impulse_probability", "warp_probability")


@dataclass
class Block:
    """One part of every batch: `batch` clips drawn from the union of `sets` (of SET_NAMES); 0 leaves it out."""

    sets: list[str] = field(default_factory=list)
    batch: int = in_range(0, 0)


@dataclass
class BlocksConfig:
    """The blocks of a batch, in their order there."""

    maestro: Block = field(default_factory=Block)
    strong: Block = field(default_factory=Block)
    synth: Block = field(default_factory=Block)
    weak: Block = field(default_factory=Block)
    unlabeled: Block = field(default_factory=Block)

    def named(self) -> dict[str, Block]:
        """{name: block}, in order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass
class OwnClipsConfig:
    """Clips with classes of one's own beside AudioSet-strong's, which the network then has after the 447."""

    root: str  # folder with classes.csv, train_strong.tsv, eval_strong.tsv, audio/train and audio/eval (data/own.py)
    share: float = in_range(0.2, 1e-6, 1 - 1e-6)  # of the draws
    weight: float = in_range(100.0, 0, FINITE)  # of the labels of an own class, one of the 447 having 1


@dataclass
class DataConfig:
    """Where the data set lies and how batches are made of it."""

    root: str | None = None  # folder in the official layout
    # Of loss.kind framewise: AudioSet-strong; before that AudioSet's clip labels; after it DCASE 2016 Task 2 or MAESTRO
    # in HEAR's form, or DESED
    format: Literal["audioset", "audioset_weak", "hear", "desed"] = "audioset"
    fold: int | None = in_range(None, 0, 4)  # of MAESTRO, tested; the next validates; null: of training n number n - 1
    # `prepare` writes this embedded data set to root; of loss.kind framewise one for its format
    toy: Toy | None = None
    packs: str | None = None  # where `prepare` packs the audio; default: <root>/packed
    blocks: BlocksConfig = field(default_factory=BlocksConfig)
    desed_to_maestro: bool = False  # labels Speech and Dishes also count for their MAESTRO aliases
    maestro_hop: int = in_range(1, 1, 10)  # seconds between the windows that `prepare` cuts of MAESTRO's recordings
    maestro_dog: bool = False  # Dog counts among the classes that MAESTRO is labelled for (as in the baseline)
    exclude_overlapping: bool = True  # leave out clips that the exclusion lists name
    pseudo_labels: str | None = None  # stored logits of all training clips; all are cropped at 0 then
    # Framewise: clips in a batch and in an epoch; of HEAR's files random pieces, 12 for each.
    # balanced: drawn by how rare what is heard in them is, with replacement; or without it, as published, which nearly
    # orders the clips where an epoch has most of them.
    batch: int = in_range(256, 1)
    draws: int = in_range(100_000, 1)
    sampler: Literal["uniform", "balanced", "balanced_without_replacement"] = "uniform"
    own: OwnClipsConfig | None = None  # beside AudioSet-strong
    workers: int = in_range(2, 0, 128)  # loader processes
    eval_batch: int = in_range(16, 1)


@dataclass(frozen=True)
class ModelConfig:
    """The defaults are the organisers' baseline on 128 mel bands and embeddings of 768 dimensions.

    Of an own network (module:Name, made with `arguments`) num_mels and fft hold, the front end's.
    """

    kind: Literal["crnn"] | Own = "crnn"
    arguments: dict[str, Any] = field(default_factory=dict)  # of an own network's class
    num_mels: int = in_range(128, 1)
    fft: int = in_range(2048, 2)  # samples of the front end's window and FFT
    channels: tuple[int, ...] = in_range((16, 32, 64, 128, 128, 128, 128), 1)
    # (time, frequency)
    pooling: tuple[tuple[int, int], ...] = in_range(((2, 2), (2, 2), (1, 2), (1, 2), (1, 2), (1, 2), (1, 2)), 1)
    activation: Literal["glu", "cg"] = "glu"
    dropout: float = 0.2
    # Running statistics are nearly those of the last batch, as published; 0.01 is what was probably meant.
    batchnorm_momentum: float = 0.99
    rnn_hidden: int = in_range(192, 1)
    rnn_layers: int = in_range(2, 1)
    num_classes: int = in_range(27, 1)  # those of DESED and MAESTRO
    embedding_dim: int | None = in_range(768, 1)  # None: no embeddings, the GRU follows the CNN
    # To the CNN's frames: adaptive average, nearest embedding frame, a trained convolution that begins as a mean.
    embedding_pooling: Literal["aap", "int", "conv"] = "aap"
    projection_dim: int | None = in_range(None, 1)  # a trained linear map of the embeddings before that; null: none
    fusion_dim: int = in_range(128, 1)
    dropstep: float = 0.3  # largest share of frames that is masked in each stream before the fusion; 0: off
    dropstep_frames: int = in_range(16, 1)
    dropstep_masks: Literal["clip", "batch"] = "clip"  # a mask for each clip, or (as published) one for the whole batch

    def __post_init__(self) -> None:
        if len(self.pooling) != len(self.channels):
            raise UserError(f"model.pooling: {len(self.pooling)} steps, expected {len(self.channels)} as in channels")
        if self.freq_bands < 1 and not isinstance(self.kind, Own):
            raise UserError(f"model.pooling: {self.num_mels} mel bands are pooled to none, use fewer steps of 2")
        for name in ("dropout", "dropstep", "batchnorm_momentum"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"model.{name}: {getattr(self, name):g} is outside 0 to 1")

    @property
    def freq_bands(self) -> int:
        """Bands that are left after the CNN."""
        bands = self.num_mels
        for _, step in self.pooling:
            bands //= step
        return bands

    @property
    def cnn_dim(self) -> int:
        """Features per frame after the CNN."""
        return self.channels[-1] * self.freq_bands

    def num_frames(self, feature_frames: int) -> int:
        """Output frames for that many frames of log-mel: 156 for 626."""
        for step, _ in self.pooling:
            feature_frames //= step
        return feature_frames


@dataclass
class EncoderConfig:
    """A pre-trained encoder beside the CNN: a model of `common.encoders` at 16 kHz, e.g. beats, atst-f."""

    name: str | Own  # module:Name: an own one
    checkpoint: str | None = None  # a published one by name, a file or an address; null: random weights
    depth: int | None = in_range(None, 1)  # only the first so many blocks of a transformer; null: all
    seed: int = in_range(0, 0)  # of random weights and of a frozen projection
    # Where a time step has several tokens, one per band: they follow each other (as published), or their mean.
    bands: Literal["apart", "mean"] = "apart"
    projection: Literal["none", "frozen"] = "none"  # frozen: a random linear map to 527, as in the winner's ATST system
    train: bool = False  # fine-tuned with the CNN, as a part of student and teacher; false: frozen, one for both
    checkpointing: bool = False  # of gradients, where it trains: less memory, one more forward pass
    # Of a front end with a random mel range (fpasst), drawn where the encoder trains: the lower edge rises by less than
    # the first; the upper one lies within half the second around sample rate / 2 less that half. null: the encoder's.
    mel_range: tuple[int, int] | None = in_range(None, 1)
    batch_floor: bool = False  # of a mel with a floor (atst-f): below the loudest of the batch, as published
    keep_head: bool = (
        False  # framewise: of the head in `checkpoint`, too, for the classes that it has; else a fresh one
    )
    cache: bool = False  # store the embeddings of all clips beside the packs; longer clips are cropped at 0 then

    @property
    def options(self) -> dict[str, Any]:
        """Of the model's class."""
        return {} if self.depth is None else {"depth": self.depth}


@dataclass(frozen=True)
class SequenceConfig:
    """A sequence model between a frame-wise encoder and its heads. GRU: `dim` in each direction.

    tf: attention and feed-forward layers; attn: attention alone; hybrid: minimal GRUs beside attention; tcn: causal
    convolutions.
    """

    kind: Literal["gru", "attn", "tf", "hybrid", "mamba", "tcn"] = "gru"
    dim: int = in_range(2048, 1)
    layers: int = in_range(2, 1)
    heads: int | None = in_range(None, 1)  # of attention; null: 8, of tf below 128 features 4
    dropout: float | None = in_range(None, 0, 1)  # null: as published, 0.2 for tf and tcn, else 0

    def __post_init__(self) -> None:
        multiple = {"attn": 2, "tf": 2, "hybrid": 1}.get(self.kind, 1) * self.num_heads
        multiple = 32 if self.kind == "mamba" else multiple  # of twice that the heads are 64 wide
        if self.kind in ("attn", "tf", "hybrid", "mamba") and self.dim % multiple:
            raise UserError(f"sequence.dim: {self.dim}, expected a multiple of {multiple} for {self.kind}")

    @property
    def num_heads(self) -> int:
        """Heads of attention."""
        return self.heads or (4 if self.kind == "tf" and self.dim < 128 else 8)


@dataclass
class AugmentConfig:
    """Random changes of a training batch; a probability is that of a whole batch, of waveforms that of each clip.

    The baseline's order is that here, and of stages 1 and 2 that in training/augmentation.py.
    """

    # Of data.format audioset_weak only: waveforms moved by up to so many samples; louder by -gain_db to gain_db - 1 dB.
    roll_samples: int = in_range(0, 0)
    gain_db: int = in_range(0, 0, 60)
    # Of stages 1 and 2 only, up to impulse_time_zero: waveforms of MAESTRO, strong and synth, each with any of its set.
    wavmix_probability: float = in_range(0.0, 0, 1)
    wavmix_beta: float = in_range(0.2, 1e-6, FINITE)
    impulse_probability: float = in_range(0.0, 0, 1)  # device impulse responses, all blocks
    impulse_responses: str | None = None  # folder of wav files, or synthetic
    # What of a response delays nothing; its middle as published, which moves sounds against their labels.
    impulse_time_zero: Literal["peak", "middle"] = "peak"
    frame_shift: float = in_range(0.0, 0, 1)  # circular, N(0, share of the clip's frames); DESED blocks only
    mixup_probability: float = in_range(0.5, 0, 1)  # partners come from the same block
    mixup_beta: float = in_range(0.2, 1e-6, FINITE)  # Beta(b, b) of the coefficients
    # Labels of a mixed clip: weighted as its input; hard: 1 for every class of either partner, as in the baseline.
    mixup_weak: Literal["soft", "hard"] = "soft"
    # Own: embeddings have partners and coefficients apart from the features', labels are mixed by both draws.
    mixup_embeddings: Literal["shared", "own"] = "shared"
    mixstyle_probability: float = in_range(0.0, 0, 1)  # mean and deviation per band exchanged between clips
    mixstyle_beta: float = in_range(0.3, 1e-6, FINITE)
    filter_probability: float = in_range(0.0, 0, 1)  # FilterAugment, drawn apart for student and teacher
    # Of stages 1 and 2, up to filter_encoder. A span of strong and synth, 5 to 30 %, is silent and without labels:
    time_mask: bool = False
    time_mask_longest: float = in_range(0.3, 0.05, 1)  # below this share of the clip
    time_mask_pseudo: bool = True  # framewise: pseudo labels are silent there too; false as published
    warp_probability: float = in_range(0.0, 0, 1)  # bands of the encoder's mel stretched, a draw for each block
    warp_maestro: bool = True
    # The filter on the encoder's mel in stage 2: decibels added to the log, or, as published, factors on that.
    filter_encoder: Literal["added", "multiplied", "off"] = "added"
    # module:function of log-mel (batch, mel, frames), the last step, called for student and teacher; labels stay.
    own: Own | list[Own] = field(default_factory=list)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of stages 1 and 2; the defaults are those of stage 1, iteration 1."""

    maestro: float = in_range(0.08, 0, FINITE)
    strong: float = in_range(0.05, 0, FINITE)
    synth: float = in_range(0.08, 0, FINITE)
    weak: float = in_range(0.21, 0, FINITE)
    ssl: float = in_range(0.58, 0, FINITE)
    pseudo: float = in_range(0.0, 0, FINITE)  # above 0: data.pseudo_labels


@dataclass
class LossConfig:
    """Mean teacher of the baseline, or one of the winner's stages: weights and ramp of the consistency loss.

    framewise: one network, binary cross entropy of its frames (AudioSet-strong).
    """

    kind: Literal["baseline", "stage1", "stage2", "framewise"] = "baseline"
    distillation: float = in_range(0.0, 0, 1)  # framewise: share of the pseudo labels, the rest is the labels'
    # Framewise, of new heads: random, as published, or the classes' log odds in the frames of the training labels, on
    # which a training else spends its first thousand steps.
    head_bias: Literal["random", "prior"] = "random"
    consistency_weight: float = in_range(2.0, 0, FINITE)
    consistency_ramp_epochs: float = in_range(50.0, 0, FINITE)
    # Stages 1 and 2:
    weights: LossWeights = field(default_factory=LossWeights)
    ssl_warmup_steps: int = in_range(14000, 0)  # until the consistency has its weight (stage 1: on, up to twice that)
    ssl_class_mask: bool = True  # consistency of the classes that a clip is labelled for, or of all
    ssl_maestro_weak: bool = True  # MAESTRO counts in the clip-wise consistency
    ict_divisor: float = in_range(8.0, 1e-6, FINITE)  # of mixed batches' consistency; it looks accidental
    teacher_decay: float = in_range(0.999, 0, 1)  # the limit of it
    # When the teacher follows in step n of the student (from 1): after it with a decay of 1 - 1/n, or, as published,
    # before it (after the forward pass) with 1 - 1/(n + 1), hence one step behind, or (stages 1 and 2) with 1 - 1/n: in
    # the first step it becomes a copy.
    teacher_moves: Literal["after_step", "before_step", "before_step_copy"] = "after_step"


@dataclass
class OnlineTeacherConfig:
    """Framewise: a frozen network that hears what the student hears, in place of stored logits.

    Beside the labelled clips each step may have clips of AudioSet without frame labels, for its answers alone.
    """

    checkpoint: str  # a published one by name, or one of an own training
    weak_batch: int = in_range(64, 0)  # clips of AudioSet without frame labels in each step, drawn by their clip labels
    weak_share: float = in_range(0.5, 0, 1)  # of them in the distillation
    weak_mixup_probability: float = in_range(1.0, 0, 1)
    weak_mixup_beta: float = in_range(0.3, 1e-6, FINITE)


@dataclass
class OptimizerConfig:
    """Of the baseline Adam; the rate rises exponentially, stays, then falls along a quarter of a cosine.

    Of stages 1 and 2 AdamW, a linear rise over `warmup_steps`, then half a cosine down to 0.
    """

    lr: float = in_range(1e-3, 0, FINITE)
    warmup_epochs: float = in_range(50.0, 0, FINITE)
    constant_until_epoch: float = in_range(100.0, 0, FINITE)
    final_lr: float = in_range(1e-8, 0, FINITE)
    # Full, as published: the schedule sets nothing before the first step; step n has the rate and the consistency
    # weight of n. Scheduled: those of n - 1.
    first_step: Literal["scheduled", "full"] = "scheduled"
    # Stages 1 and 2:
    warmup_steps: int = in_range(4000, 0)
    weight_decay: float = in_range(1e-2, 0, FINITE)
    cnn_lr: float | None = in_range(None, 0, FINITE)  # null: lr
    encoder_lr: float = in_range(1e-4, 0, FINITE)  # where it trains: of its final norm
    encoder_decay: float = in_range(1.0, 0, 1)  # of the rate, from each layer to the one below
    # Framewise: lr is that of sequence model and heads; biases and other vectors have a weight decay of their own.
    sequence_lr: float | None = in_range(None, 0, FINITE)  # of a sequence model; null: lr
    algorithm: Literal["adam", "adamw", "sgd"] = "adamw"  # sgd: with a momentum of 0.9
    encoder_ends: Literal["merged", "apart"] = "merged"  # final norm and embeddings with their blocks, or a step beyond
    vector_decay: float = in_range(0.0, 0, FINITE)
    # The published code never read its option of the warm-up: steps that it took instead; null: as warmup_steps says.
    warmup_as_run: int | None = in_range(None, 0)


@dataclass
class ValidationConfig:
    """Checkpoint selection: the maximum of the sum of `objective`, metrics of the student on validation data."""

    sets: list[str] = field(default_factory=lambda: ["synth_val", "weak", "maestro_train"])
    objective: list[Literal["weak_f1", "intersection_f1", "segment_f1", "psds1", "mpauc"]] = field(
        default_factory=lambda: ["weak_f1", "intersection_f1", "segment_f1"]
    )
    # As published: weak_f1 is the mean over all classes, absent ones count as 0; segment_f1 and mpauc are taken per
    # window with events, up to the end of the last one, of the largest score in each second.
    as_published: bool = False
    median_frames: int = in_range(9, 1)  # framewise: of the filter before PSDS1; the paper has 12
    loss: bool = False  # framewise: the least loss of the validation clips selects


@dataclass
class EventsConfig:
    """From frames to events and to the main figure, for data.format hear."""

    median_ms: float = in_range(250.0, 0, FINITE)
    min_ms: tuple[float, ...] = in_range((125.0, 250.0), 0, FINITE)  # least duration: the best for validation files
    threshold: float = in_range(0.5, 0, 1)
    of_logits: bool = False  # as published: the threshold is one of logits; 0.5 is a probability of 0.62
    figure: Literal["onset_200ms", "onset_50ms", "onset_offset_50ms"] = "onset_200ms"


@dataclass
class PostprocessConfig:
    """From frame scores to detections."""

    median_filter: bool = True
    median_frames: int | None = in_range(None, 1)  # of all classes alike; null: the challenge's lengths
    csebbs: str = "tune:organisers"  # default, filter=...,abs=...,rel=..., tune[:organisers|:winner]
    tune_on: list[str] = field(default_factory=lambda: ["synth_val"])
    network: Literal["student", "teacher"] = "student"


@dataclass
class Config:
    """A Task 4 recipe."""

    seed: int = in_range(42, 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    encoder: EncoderConfig | None = None
    sequence: SequenceConfig | None = None  # framewise: between encoder and heads
    # Of stages 1 and 2: this recipe's run of the same number; or a checkpoint's networks, its name, file or address.
    start: str | None = None
    teacher: OnlineTeacherConfig | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    events: EventsConfig = field(default_factory=EventsConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    test_sets: list[str] = field(default_factory=lambda: ["devtest", "maestro_val"])
    submission_set: str | None = "eval24"  # null: nothing to submit
    submission: SubmissionConfig | None = None

    def __post_init__(self) -> None:
        """Raise UserError (`key: what is wrong`) for data sets that do not exist."""
        check_class("model", "kind", self.model.kind, self.model.arguments, OFFERED)
        check_functions("augment.own", self.augment.own)
        if self.encoder is not None:
            check_class("encoder", "name", self.encoder.name, {}, ("num_classes",))
        self._check_stage()
        named = {f"data.blocks.{name}.sets": block.sets for name, block in self.data.blocks.named().items()}
        named |= {"validation.sets": self.validation.sets, "postprocess.tune_on": self.postprocess.tune_on}
        named |= {"test_sets": self.test_sets, "submission_set": [self.submission_set] if self.submission_set else []}
        for key, names in named.items():
            for name in names:
                if name not in SET_NAMES:
                    raise UserError(f"{key}: unknown data set {name!r}{did_you_mean(name, SET_NAMES)}")

    @property
    def system(self) -> System:
        """The kind of system that the recipe is of."""
        return SYSTEMS[self.data.format if self.loss.kind == "framewise" else "challenge"]

    def _check_stage(self) -> None:
        """Settings that exclude each other or belong to another kind of training."""
        augment, staged, framewise = self.augment, self.loss.kind != "baseline", self.loss.kind == "framewise"
        if self.sequence is not None and not framewise:
            raise UserError(f"sequence: only for loss.kind framewise, this is {self.loss.kind}")
        if self.loss.distillation and self.data.pseudo_labels is None and self.teacher is None:
            raise UserError("data.pseudo_labels: not set, but loss.distillation is above 0; a file of stored logits")
        if self.teacher is not None and self.data.pseudo_labels is not None:
            raise UserError("teacher.checkpoint: not beside data.pseudo_labels; set one of them to null")
        learnt = self.data.format if framewise else self.loss.kind
        beside = {"teacher": self.teacher, "data.own": self.data.own, "augment.time_mask": augment.time_mask}
        beside["validation.loss"] = self.validation.loss
        for key, on in beside.items():
            if on and learnt != "audioset" and (key != "augment.time_mask" or learnt == "audioset_weak"):
                raise UserError(f"{key}: only for loss.kind framewise with data.format audioset, this is {learnt}")
        if augment.roll_samples and learnt != "audioset_weak":
            raise UserError("augment.roll_samples: only for data.format audioset_weak: frame labels would not move")
        for key, given in {
            "start": self.start is not None,
            "data.pseudo_labels": self.data.pseudo_labels is not None,
            "encoder.train": self.encoder is not None and self.encoder.train,
            "loss.teacher_moves": self.loss.teacher_moves == "before_step_copy",
            **{f"augment.{name}": bool(getattr(augment, name)) for name in STAGED_ONLY},
        }.items():
            if given and (not staged or (framewise and key in NOT_FRAMEWISE)):
                raise UserError(f"{key}: only for loss.kind stage1 or stage2, this is {self.loss.kind}")
        if self.loss.weights.pseudo and self.data.pseudo_labels is None:
            raise UserError("data.pseudo_labels: not set, but loss.weights.pseudo is above 0; a file of stored logits")
        if self.encoder is not None and self.encoder.cache:
            beside = {"encoder.train": self.encoder.train} | {f"augment.{n}": getattr(augment, n) for n in UNCACHED}
            for key, on in beside.items():
                if on:
                    raise UserError(f"encoder.cache: stored embeddings know nothing of {key}; set one of them to 0")


# What `detect` writes for a file.
_OfEvents = Literal["tsv", "csv", "json", "audacity", "raven", "tracks"]
Format = Literal[_OfEvents, "tags", "scores", "npz", "h5", "embeddings", "png", "svg"]


def check_threshold(threshold: float) -> None:
    """UserError where it is no probability."""
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold is {threshold:g}, expected 0 to 1")


def check_stream(files: Sequence[Path], rate: int, threshold: float, low: float | None, microphone: str | None) -> None:
    """UserError for words of `stream` that do not go together."""
    check_threshold(threshold)
    if low is not None and not 0 <= low <= threshold:
        raise UserError(f"--low is {low:g}, expected 0 to the threshold, {threshold:g}")
    if not 1000 <= rate <= 10_000_000:
        raise UserError(f"--rate: {rate}, expected samples a second, e.g. 16000")
    if list(files) not in ([], [Path("-")]):
        raise UserError(f"stream: {files[0]}: it hears - (standard input) or a microphone; `detect` takes files")
    if files and microphone is not None:
        raise UserError("stream: --microphone goes without -")
