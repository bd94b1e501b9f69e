"""The settings of a recipe.

Of the paper only the abstract is known here: data sets, kinds of encoders, findings. What else stands here is
reconstruction (the README says which), and therefore a setting.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from common.run.config import FINITE, in_range
from common.run.energy import EnergyConfig
from common.run.errors import UserError
from common.run.settings import TrainerConfig
from common.run.verbs import Run

Layout = Literal["esc50", "audioset", "openmic"]
STATISTICS = "statistics"  # encoder.name: 136 numbers of a log-mel spectrogram, nothing is learnt
# encoder.name: spectrogram patches, learnt from the training clips without labels; the second has numbers of mel bands
# and loudness beside them, which are not learnt.
DICTIONARIES = ("dictionary", "dictionary-bands")
SPLITS = "splits"  # section of a run's results.json: which splits were asked for
CLASSES = "classes.json"  # beside the network of a split: its classes, their texts and distances
LEARNT_FROM_LABELS = ("yamnet", "yamnet-whole")  # their weights come with them, from all labels of AudioSet


@dataclass
class TrainingDataConfig:
    """Another data set to train on than the one that is tested."""

    layout: Layout = "audioset"
    root: str | None = None
    packs: str | None = None  # default: <root>/packed
    toy: None = None


@dataclass
class DataConfig:
    """The data set that is tested, and trained on as well unless `training` names another one."""

    layout: Layout = "esc50"
    root: str | None = None  # folder in the official layout
    toy: Literal["toy", "tiny"] | None = None  # `prepare` writes the embedded data set of this size to root
    packs: str | None = None  # where `prepare` packs the audio; default: <root>/packed
    training: TrainingDataConfig | None = None
    ontology: str | None = None  # AudioSet's ontology.json; default: in the folder of AudioSet
    sample_rate: int = in_range(32000, 4000, 192000)  # Hz, of the packs: that of the encoder
    clip_seconds: float = in_range(10.0, 0.1, FINITE)  # clips are padded with silence or cut to so much
    # ESC-50: clip folds that are not trained on; their clips of seen classes are the seen part of the generalised test.
    # AudioSet and OpenMIC have a test part of their own.
    generalised_folds: list[int] = field(default_factory=list)
    balanced: bool = False  # training clips are drawn by class weights; else each once an epoch
    epoch_clips: int | None = in_range(None, 1)  # of a balanced epoch; null: as many as there are
    batch: int = in_range(32, 1)
    eval_batch: int = in_range(32, 1)
    workers: int = in_range(2, 0, 128)


@dataclass
class SplitConfig:
    """Which classes train, validate and test. One run does all splits of a protocol, or those that `only` names.

    file: of `files`, each a csv with class, role (train, val, test) and reason. random: `folds` class folds (ESC-50:
    the published ones), each tested once. category: ESC-50's five categories, each tested once (ESC-10: those that are
    there). near, far: test on all classes of `data.root`, train on `data.training` without their exact counterparts, or
    without their counterparts' sub-trees (OpenMIC: without the sub-tree `far_root`).
    leave_out: every choice of `leave_out` test classes.
    """

    protocol: Literal["file", "random", "category", "near", "far", "leave_out"] = "random"
    files: list[str] = field(default_factory=list)  # without a slash: in data.root
    folds: int = in_range(5, 2)
    leave_out: int = in_range(2, 2)
    far_root: str = "Musical instrument"  # far, OpenMIC: instruments, or `Music`
    validation: int = in_range(0, 0)  # training classes that become validation classes; leave_out: 0 (all are needed)
    seed: int = in_range(0, 0, 2**31 - 1)  # of drawn folds and validation classes
    only: list[str] | None = None  # names of splits (fold1, dog+rain, near): do these alone
    # What bars a clip of several labels from training: a held-out label, or also its ancestors and descendants.
    barred_by: Literal["labels", "relatives"] = "relatives"


@dataclass
class TextsConfig:
    """Class descriptions and how vectors are made of them (frozen).

    encoder: a name or folder of common.encoders.text; or attributes (a table of numbers), tfidf (words and parts of
    words, singular values over the texts of all classes), random (a control: says nothing of the class).
    """

    file: str | None = None  # csv (class, text; a row for each text) or yaml; null: what is carried for the data set
    use: Literal["name", "description", "name_description", "mean"] = (
        "mean"  # mean: of name's and descriptions' vectors
    )
    templates: list[str] = field(default_factory=lambda: ["{}"])  # around names, e.g. "the sound of {}"; averaged
    encoder: str = "tfidf"
    attributes: str | None = None  # csv (class, and numbers); null: the 13 attributes carried for ESC-10
    dims: int = in_range(64, 1)  # of tfidf and random; fewer where there are fewer texts
    centre: bool = True  # subtract the mean of the training classes' vectors


@dataclass
class EncoderConfig:
    """The audio encoder: a model of common.encoders, `statistics`, or `dictionary`."""

    name: str = "passt"
    checkpoint: str | None = None  # of the catalogue, a file or an address; null: from scratch (yamnet: its own)
    # The checkpoint that is known to have seen no labels of test classes (ImageNet, or training classes only): named a
    # second time, so that another one in `checkpoint` does not inherit the claim.
    label_free: str | None = None
    finetune: bool = False  # train the encoder too; else embeddings are computed once and kept
    patchout: tuple[int, int] = in_range((0, 0), 0)  # passt, in training: rows of frequency, columns of time

    @property
    def by_gradient(self) -> bool:
        """Whether the encoder is trained with the maps."""
        return self.finetune and self.name not in DICTIONARIES

    @property
    def claim(self) -> str:
        """ "zero-shot" where the encoder never had the test classes' labels, else "transfer"."""
        has_seen = self.checkpoint is not None or self.name in LEARNT_FROM_LABELS
        return "transfer" if has_seen and (self.label_free or "") != self.checkpoint else "zero-shot"


@dataclass
class ModelConfig:
    """The compatibility F(audio, class). eszsl: bilinear, in closed form, on frozen embeddings."""

    compatibility: Literal["projected", "bilinear", "factored", "eszsl"] = "projected"
    dim: int = in_range(512, 1)  # projected: of the common space; factored: rank
    scale: float = in_range(1 / 0.07, 1e-3, FINITE)  # projected: start of the learned factor
    scale_limit: float = in_range(100.0, 1e-3, FINITE)
    bias: float = in_range(-10.0, -FINITE, FINITE)  # projected with bce: start of the learned offset
    gamma: float = in_range(100.0, 0, FINITE)  # eszsl: ridge on the audio side
    lambda_: float = in_range(10.0, 0, FINITE)  # eszsl: ridge on the class side
    # eszsl of one label for each clip: choose both on training classes, of which so many take the place of unseen ones
    # at a time; 0: as given.
    choose_left_out: int = in_range(0, 0)
    standardise: bool = True  # embeddings by mean and standard deviation of the training clips (frozen ones)


@dataclass
class AugmentConfig:
    """Random changes of a training batch; masks as the encoder's family has them."""

    mixup_alpha: float = in_range(0.0, 0, FINITE)  # 0: none
    mixup_probability: float = in_range(1.0, 0, 1)
    roll_samples: int = in_range(0, 0)
    gain_db: float = in_range(0.0, 0, FINITE)
    frequency_mask: int = in_range(0, 0)  # widest band, mel bands
    time_mask: int = in_range(0, 0)  # longest, frames
    masks: int = in_range(1, 1)  # of each kind


@dataclass
class OptimizerConfig:
    """constant, or ramp: exponential warm-up, constant, linear down to `last_factor`."""

    name: Literal["adamw", "adam"] = "adamw"
    lr: float = in_range(1e-3, 0, FINITE)  # of the maps
    encoder_lr: float = in_range(2e-5, 0, FINITE)
    weight_decay: float = in_range(1e-4, 0, FINITE)
    schedule: Literal["constant", "ramp"] = "constant"
    warmup_epochs: int = in_range(5, 0)
    hold_until_epoch: int = in_range(50, 0)
    ramp_epochs: int = in_range(50, 1)
    last_factor: float = in_range(0.01, 0, 1)


@dataclass
class Config:
    """A recipe of zero-shot tagging or classification."""

    seed: int = in_range(42, 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    texts: TextsConfig = field(default_factory=TextsConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: Literal["softmax", "bce", "warp"] = "softmax"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    # best: by the validation classes (split.validation); never by test classes or by the accuracy of seen ones.
    checkpoint: Literal["best", "last"] = "last"
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(max_epochs=10))
    energy: EnergyConfig = field(default_factory=EnergyConfig)

    def __post_init__(self) -> None:
        """Raises UserError (`key: what is wrong`) for what does not go together."""
        tagging = (self.data.training or self.data).layout != "esc50"
        if tagging and self.loss == "softmax":
            raise UserError("loss: softmax needs one label for each clip; of several labels take bce or warp")
        if (self.split.protocol == "file") != bool(self.split.files):
            raise UserError("split.files: go with split.protocol=file")
        apart = self.split.protocol in ("near", "far")
        if self.split.protocol != "file" and apart != (self.data.training is not None):
            raise UserError("data.training: goes with split.protocol near, far or file")
        if self.split.protocol == "category" and self.data.layout != "esc50":
            raise UserError("split.protocol: category is one of ESC-50")
        if self.split.protocol == "leave_out" and self.split.validation:
            raise UserError("split.validation: leave_out has no validation classes, set it to 0")
        if self.checkpoint == "best" and self.split.protocol != "file" and not self.split.validation:
            raise UserError("checkpoint: best is chosen by validation classes, set split.validation")
        if self.encoder.name == STATISTICS and (self.encoder.finetune or self.encoder.checkpoint):
            raise UserError("encoder.name: statistics learns nothing, without finetune and checkpoint")
        learns = self.encoder.finetune and self.model.compatibility == "eszsl"
        if self.encoder.name in DICTIONARIES and (not learns or self.encoder.checkpoint):
            raise UserError("encoder.name: dictionary goes with finetune, model.compatibility=eszsl and no checkpoint")
        if not all("{}" in template for template in self.texts.templates) or not self.texts.templates:
            raise UserError("texts.templates: expected templates with {} in the place of the class")


def of_split(run: Run, name: str) -> Run:
    """The part of a run that belongs to one class split; it has a folder of its own."""
    config: Config = run.config
    return replace(run, folder=run.folder / name, config=replace(config, split=replace(config.split, only=[name])))


def closed_stage(run: Run) -> Run:
    """Where the closed form of a split's run lies: after a training of the encoder in a folder of its own."""
    config: Config = run.config
    after = config.model.compatibility == "eszsl" and config.encoder.by_gradient
    return replace(run, folder=run.folder / "closed_form") if after else run
