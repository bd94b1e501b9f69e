"""The settings of a recipe, and of the parts that a run of it consists of."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from common.run.config import FINITE, in_range
from common.run.energy import EnergyConfig
from common.run.errors import UserError
from common.run.imports import Own, check_class, check_functions
from common.run.settings import SubmissionConfig, TrainerConfig
from common.run.verbs import Run

Precision = Literal["float32", "float16", "float16_weights", "int8"]
OFFERED = ("num_classes",)  # what an own network's class is given where it asks for it
SPLITS = (5, 10, 25, 50, 100)  # percent of the development-train set


@dataclass
class DataConfig:
    """Where the data set lies and how batches are made of it."""

    root: str | None = None  # folder of the development set in the official layout
    edition: Literal[2024, 2025] = 2024  # whose evaluation set and form of submission
    evaluation: str | None = None  # folder of the evaluation set; default: beside root, in the official layout
    toy: Literal["toy", "tiny"] | None = None  # `prepare` writes the embedded data set of this size to root
    packs: str | None = None  # where `prepare` packs the audio; default: <root>/packed
    # Clips are packed at this rate. 44100: the front end resamples, as published for 2024 and 2025; 32000: resampled
    # once, as published for 2023.
    sample_rate: Literal[44100, 32000] = 44100
    splits: list[int] = field(default_factory=lambda: list(SPLITS))  # percent of the training set; one system for each
    devices: list[str] | None = None  # train only on these devices
    validation_share: float = in_range(0.0, 0, 0.5)  # of the training split, whole locations; 0: the test list
    cropped: bool = False  # random 1-s windows of the re-joined 10-s segments instead of the clips
    batch: int = in_range(256, 1)
    eval_batch: int = in_range(256, 1)
    workers: int = in_range(2, 0, 128)


@dataclass
class FrontEndConfig:
    """A setting of common.frontends, and what a recipe changes of it (null: as there)."""

    setting: str = "asc_2024"
    window: int | None = in_range(None, 1)
    fft: int | None = in_range(None, 2)
    hop: int | None = in_range(None, 1)
    num_mels: int | None = in_range(None, 1)
    fmax: float | None = in_range(None, 1, FINITE)
    fmax_range: int | None = in_range(
        None, 0
    )  # training: the upper end moves by half of it up and down; Kaldi filter banks only


@dataclass(frozen=True)
class ModelConfig:
    """The network. The defaults are the baseline of 2024 and 2025; `strides` of block N: (frequency, time)."""

    kind: Literal["baseline", "cp_mobile", "cp_resnet", "passt"] | Own = "baseline"  # or module:Name, an own one
    arguments: dict[str, Any] = field(default_factory=dict)  # of an own network's class
    in_channels: int = in_range(1, 1)
    num_classes: int = in_range(10, 1)
    base_channels: int = in_range(32, 1)
    channels_multiplier: float = in_range(1.8, 1e-6, FINITE)
    expansion_rate: float = in_range(2.1, 1e-6, FINITE)
    blocks: tuple[int, int, int] = in_range((3, 2, 1), 0)
    strides: dict[str, tuple[int, int]] = in_range(lambda: {"b3": (1, 2), "b4": (2, 1)}, 1)  # noqa: RUF009
    expanded: dict[str, int] = in_range(dict, 1)  # noqa: RUF009 (channels inside block N, where pruning left fewer)
    checkpoint: str | None = None  # passt: weights of common.encoders' catalogue; null: from scratch
    encoder: str = "passt"  # passt: the model of common.encoders
    patchout: tuple[int, int] = in_range((6, 0), 0)  # passt: rows of frequency, columns of time


@dataclass
class AugmentConfig:
    """Random changes of a training batch."""

    roll_seconds: float = in_range(0.1, 0, FINITE)  # circular shift up to so much, each clip
    frequency_mask: int = in_range(48, 0)  # widest band that is masked
    time_mask: int = in_range(0, 0)
    # Each clip its own masks, or one for the whole batch: what the libraries made of the systems of 2022 and 2023.
    masks: Literal["per_clip", "per_batch"] = "per_clip"
    mixstyle_probability: float = in_range(0.4, 0, 1)  # Freq-MixStyle, a whole batch
    mixstyle_beta: float = in_range(0.3, 1e-6, FINITE)
    impulse_response_probability: float = in_range(0.0, 0, 1)  # device impulse responses, clips of device a
    # Folder of recorded responses (wav files, MicIRP), or `synthetic`: made-up band-passes. There is no default.
    impulse_responses: str | None = None
    mixup_probability: float = in_range(0.0, 0, 1)
    mixup_beta: float = in_range(0.3, 1e-6, FINITE)
    own: Own | list[Own] = field(default_factory=list)  # module:function of log-mel (batch, mel, frames), the last step


@dataclass
class OptimizerConfig:
    """AdamW or Adam. cosine: linear warm-up by steps, half a cosine to 0; hold_ramp: by epochs, as in 2022 and 2023."""

    name: Literal["adamw", "adam"] = "adamw"
    lr: float = in_range(5e-3, 0, FINITE)
    weight_decay: float = in_range(1e-4, 0, FINITE)
    schedule: Literal["cosine", "hold_ramp"] = "cosine"
    warmup_steps: int = in_range(2000, 0)
    warmup_share: float | None = in_range(None, 0, 1)  # of all steps, in place of warmup_steps; null: warmup_steps
    warmup_epochs: int = in_range(14, 0)
    hold_until_epoch: int = in_range(50, 0)
    ramp_epochs: int = in_range(84, 1)
    last_factor: float = in_range(0.005, 0, 1)


@dataclass
class DistillConfig:
    """Knowledge distillation: weight on the labels' cross entropy, temperature, and the runs that teach."""

    # Recipes whose runs lie beside this one's (or folders of runs) and gave logits (`teach`); none: no distillation.
    teachers: list[str] = field(default_factory=list)
    runs: list[int] = field(default_factory=lambda: [1])
    label_weight: float = in_range(0.02, 0, 1)
    temperature: float = in_range(2.0, 1e-3, FINITE)


@dataclass
class QuantizeConfig:
    """Quantisation-aware training to int8 after the training; 0 epochs: none."""

    epochs: int = in_range(0, 0)
    lr: float = in_range(5e-5, 0, FINITE)
    ramp_epochs: int = in_range(16, 1)
    last_factor: float = in_range(0.1, 0, 1)
    freeze_epochs: int = in_range(4, 0)  # last epochs with frozen observers and batch norm statistics


@dataclass
class FineTuneConfig:
    """The device-specific stage of 2025; 0 epochs: a general model only."""

    epochs: int = in_range(0, 0)
    lr: float = in_range(5e-4, 0, FINITE)
    warmup_steps: int = in_range(200, 0)
    check_every: int = in_range(10, 1)  # epochs from one validation to the next
    mixstyle_probability: float = in_range(0.0, 0, 1)


@dataclass
class Config:
    """A Task 1 recipe."""

    seed: int = in_range(42, 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    # The network's arithmetic at test time and what its size is counted in. float16_weights: stored in half precision,
    # computed in single precision (fast on a CPU).
    precision: Precision = "float16"
    # Training computes channels last: on a CPU a step takes little more than half of the time, but the sums of batch
    # norms round more (gradients by a per cent instead of a per mille on a few clips). Prediction does so anyway.
    channels_last: bool = False
    checkpoint: Literal["last", "best"] = "last"  # which epoch is the model; best: by val/macro_avg_acc
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_epochs=150))
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    submission: SubmissionConfig | None = None

    def __post_init__(self) -> None:
        """Raise UserError (`key: what is wrong`) for splits that do not exist and for what does not go together."""
        check_class("model", "kind", self.model.kind, self.model.arguments, OFFERED)
        check_functions("augment.own", self.augment.own)
        for split in self.data.splits:
            if split not in SPLITS:
                raise UserError(f"data.splits: {split} is no split, choose from {', '.join(map(str, SPLITS))}")
        if self.precision == "int8" and not self.quantize.epochs:
            raise UserError("precision: int8 needs quantisation-aware training, set quantize.epochs")
        if self.quantize.epochs and self.model.kind not in ("baseline", "cp_mobile"):
            raise UserError("quantize.epochs: only baseline and cp_mobile networks can be quantised, set it to 0")
        if 0 < self.quantize.epochs <= self.quantize.freeze_epochs:
            raise UserError(f"quantize.freeze_epochs: expected less than quantize.epochs ({self.quantize.epochs})")
        if self.quantize.epochs and self.finetune.epochs:
            raise UserError("quantize.epochs: device-specific models are not quantised, set finetune.epochs to 0")
        if self.distill.teachers and self.data.cropped:
            raise UserError("data.cropped: teachers know whole clips only, not random windows; set it to false")


def known_split(run: Run, split: int | None) -> int:
    """The given split of the recipe, or its largest one."""
    splits: list[int] = run.config.data.splits
    if split is not None and split not in splits:
        raise UserError(f"--split: {split}, but data.splits has {', '.join(map(str, splits))}")
    return max(splits) if split is None else split


def with_split(run: Run, split: int | None) -> Run:
    """The run with one of its recipe's `data.splits` alone; None: with all of them."""
    if split is None:
        return run
    config: Config = run.config
    return replace(run, config=replace(config, data=replace(config.data, splits=[known_split(run, split)])))


def of_split(run: Run, split: int) -> Run:
    """The part of a run that belongs to one training split; it has a folder of its own."""
    config: Config = run.config
    return replace(
        run, folder=run.folder / f"split{split}", config=replace(config, data=replace(config.data, splits=[split]))
    )


def of_device(run: Run, device: str) -> Run:
    """The stage of a split's run that makes the network of one device (2025)."""
    config: Config = run.config
    of = config.finetune
    return replace(
        run,
        folder=run.folder / "devices" / device,
        config=replace(
            config,
            data=replace(config.data, devices=[device]),
            augment=replace(config.augment, mixstyle_probability=of.mixstyle_probability),
            optimizer=replace(config.optimizer, lr=of.lr, warmup_steps=of.warmup_steps),
            trainer=replace(
                config.trainer, max_epochs=of.epochs, check_val_every_n_epoch=min(of.check_every, of.epochs)
            ),
        ),
    )
