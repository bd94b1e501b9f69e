"""The settings of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from common.run.config import FINITE, in_range
from common.run.energy import EnergyConfig
from common.run.errors import UserError, did_you_mean
from common.run.settings import SubmissionConfig, TrainerConfig
from common.run.verbs import Run

SAMPLE_RATE = 32_000  # Hz; of packs, batches and what the encoders take
Protocol = Literal["coarse", "fine", "qvim"]
PARTS = "parts"  # section of a run's results.json: the trainings that it was asked for
TRAINED = "trained"  # the recipe's network, among the systems that are compared
# frozen: the encoder as training begins with it, the same for both sides. yamnet: weights of an installed package.
SYSTEMS = (TRAINED, "frozen", "2dft", "m-vggish", "yamnet", "random")


@dataclass
class DataConfig:
    """Where the data sets lie and how batches are made of them.

    coarse: trained and tested on VimSketch, a training for each fold, whose test concepts are unseen. fine: trained on
    VocalSketch, tested within the classes of the Vocal Imitation Set. qvim: trained on all of VimSketch, tested on the
    development set of QVIM 2025.
    """

    protocol: Protocol = "coarse"
    root: str | None = None  # folder of VimSketch
    toy: Literal["toy", "tiny"] | None = None  # `prepare` writes the embedded data sets of this size to root
    vocal_sketch: str | None = None
    vocal_imitation_set: str | None = None
    qvim: str | None = None
    packs: str | None = None  # where `prepare` packs the audio; default: <folder of each data set>/packed
    splits: str | None = None  # fold<k>/{train,val,test}.csv (fine: {train,val}.csv); default: <data set>/splits
    folds: list[int] = field(default_factory=lambda: list(range(10)))  # coarse: which are trained and tested
    seconds: float = in_range(10.0, 0.1, FINITE)  # the beginning of a sound, all that is heard of it
    padding: Literal["zeros", "repeat"] = "zeros"  # what fills the rest of shorter sounds
    passes: int = in_range(1, 1, 2)  # how often an imitation comes in an epoch; 2: as often as the split files list it
    batch: int = in_range(16, 1)  # pairs
    eval_batch: int = in_range(32, 1)
    workers: int = in_range(2, 0, 128)  # loader processes

    def __post_init__(self) -> None:
        """Raises UserError (`key: what is wrong`)."""
        if self.protocol == "coarse" and (not self.folds or len(set(self.folds)) < len(self.folds)):
            raise UserError(f"data.folds: {self.folds}, expected at least one fold, each once")
        if any(fold < 0 for fold in self.folds):
            raise UserError(f"data.folds: {self.folds}, expected numbers from 0 on")


@dataclass
class ModelConfig:
    """Two encoders of `common.encoders`, and how an imitation is compared with a recording."""

    encoder: str = "mn10"
    checkpoint: str | None = None  # of both, by its name in the catalogue, a file or an address; null: random weights
    width: float | None = in_range(None, 0.1, 4.0)  # of a MobileNet from scratch: its channels times this
    # Of batch norms; null: the encoder's own, for MobileNets 0.01, which suits pre-trained ones alone.
    norm_momentum: float | None = in_range(None, 1e-4, 1)
    shared: bool = False  # one encoder for imitations and recordings
    head: int | None = in_range(None, 1)  # numbers after a linear layer for each side; null: the encoder's own
    frozen: bool = False  # the encoder stays as it is, for both sides: the heads alone train
    similarity: Literal["cosine", "network"] = "cosine"
    hidden: int = in_range(96, 1)  # network: units of its one hidden layer
    dropout: float = in_range(0.2, 0, 1)  # network: before both of its layers
    temperature: float = in_range(0.07, 1e-6, FINITE)
    temperature_trained: bool = False


@dataclass
class AugmentConfig:
    """Random changes of a training batch."""

    roll_samples: int = in_range(0, 0)  # imitations, circular, by at most so many samples
    roll_recordings: bool = False  # recordings too
    mel_jitter: bool = True  # range of the mel bands, one draw for imitations and one for recordings of a batch
    frequency_mask: int = in_range(0, 0)  # one mask a sound, narrower than so many bands
    time_mask: int = in_range(0, 0)  # and frames
    mixstyle_probability: float = in_range(0.0, 0, 1)  # of a batch, imitations and recordings by themselves
    mixstyle_alpha: float = in_range(0.4, 1e-6, FINITE)


@dataclass
class OptimizerConfig:
    """ramp, by epochs: exponential warm-up, constant, linear down to `last_factor`.

    cosine, by steps: from min_lr in a line up to lr, along half a cosine back to min_lr, then constant.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = in_range(5e-4, 0, FINITE)
    weight_decay: float = in_range(0.0, 0, FINITE)
    schedule: Literal["ramp", "cosine"] = "ramp"
    warmup_epochs: float = in_range(2.0, 0, FINITE)
    hold_until_epoch: float = in_range(4.0, 0, FINITE)  # ramp
    ramp_epochs: float = in_range(7.0, 1e-6, FINITE)  # ramp
    last_factor: float = in_range(1e-4, 0, 1)  # ramp
    min_lr: float = in_range(1e-4, 0, FINITE)  # cosine
    cosine_epochs: float = in_range(7.0, 1e-6, FINITE)  # cosine


@dataclass
class ComparisonConfig:
    """The systems that `predict` asks beside the trained one."""

    systems: list[str] = field(default_factory=lambda: list(SYSTEMS))
    seconds: float = in_range(15.4, 0.1, 600)  # 2dft, m-vggish: the beginning of a sound, or zeros at its end
    vggish_checkpoint: str | None = "vggish-10086976"  # null: random weights

    def __post_init__(self) -> None:
        """Raises UserError (`key: what is wrong`)."""
        if unknown := [name for name in self.systems if name not in SYSTEMS]:
            raise UserError(f"comparison.systems: unknown system {unknown[0]!r}{did_you_mean(unknown[0], SYSTEMS)}")


@dataclass
class EntryConfig(SubmissionConfig):
    """A system of QVIM 2025; `label` is <team>_<n>."""

    # Public address (https) below which the files that `package` writes for it can be fetched.
    download: str | None = None


@dataclass
class Config:
    """A recipe of query by vocal imitation."""

    seed: int = in_range(1234, 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    # nt_xent: other recordings of the concept are no negatives. softmax: all but the own one are.
    # bce: of every pair, and of every imitation with the recording that the split files give it as a negative.
    loss: Literal["nt_xent", "softmax", "bce"] = "nt_xent"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    comparison: ComparisonConfig = field(default_factory=ComparisonConfig)
    checkpoint: Literal["best", "last"] = "last"  # what is tested; best: by val/mrr
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_epochs=15))
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    submission: EntryConfig | None = None

    def __post_init__(self) -> None:
        """Raises UserError (`key: what is wrong`)."""
        if self.model.width is not None and (self.model.checkpoint or not self.model.encoder.startswith("mn")):
            raise UserError("model.width: is for encoders mn* without a checkpoint; those with one have theirs by name")
        if self.model.frozen and self.model.head is None:
            raise UserError("model.frozen: nothing would train; model.head=N adds a linear layer that does")
        if self.model.similarity == "network" and self.loss != "bce":
            raise UserError("model.similarity: network is trained by loss=bce")
        if self.loss == "bce" and self.data.protocol == "qvim":
            raise UserError("loss: bce needs the negatives of split files, which data.protocol=qvim has not")
        if self.submission is not None and self.data.protocol != "qvim":
            raise UserError("submission: a system of QVIM 2025 is tested on its development set, data.protocol=qvim")


def parts_of(run: Run) -> dict[str, Run]:
    """The trainings of a run by name: of coarse one for each fold, in a folder of its own; else the run itself."""
    config: Config = run.config
    if config.data.protocol != "coarse":
        return {config.data.protocol: run}
    return {f"fold{fold}": of_fold(run, fold) for fold in config.data.folds}


def of_fold(run: Run, fold: int) -> Run:
    """The part of a coarse run that belongs to one fold."""
    config: Config = run.config
    one = replace(config, data=replace(config.data, folds=[fold]))
    return replace(run, folder=run.folder / f"fold{fold}", config=one)


def part_of(run: Run, fold: int | None) -> Run:
    """The training of one fold of a coarse run (None: its first one); of the other protocols the only training.

    Raises UserError for a fold that the recipe does not have.
    """
    return next(iter(chosen_parts(run, None if fold is None else [fold], "--fold").values()))


def chosen_parts(run: Run, folds: Sequence[int] | None, option: str = "--folds") -> dict[str, Run]:
    """The trainings of some folds (None: all). Raises UserError, which names the option, for folds that are not."""
    parts, data = parts_of(run), run.config.data
    if folds is None:
        return parts
    if data.protocol != "coarse":
        raise UserError(f"{option}: data.protocol={data.protocol} has none")
    if unknown := [fold for fold in folds if f"fold{fold}" not in parts]:
        raise UserError(f"{option}: no fold {unknown[0]} in the recipe, it has {', '.join(map(str, data.folds))}")
    return {f"fold{fold}": parts[f"fold{fold}"] for fold in folds}
