"""The settings of a recipe."""

from dataclasses import dataclass, field
from typing import Literal

from common.run.config import FINITE, in_range
from common.run.errors import UserError, did_you_mean

# Names of the data sets: three parts of Clotho and of AudioCaps, four sources of WavCaps.
CLOTHO = ("clotho_development", "clotho_validation", "clotho_evaluation")
AUDIOCAPS = ("audiocaps_train", "audiocaps_val", "audiocaps_test")
WAVCAPS = ("wavcaps_freesound", "wavcaps_bbc", "wavcaps_soundbible", "wavcaps_audioset")
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
    challenge: str | None = None  # folder of a retrieval evaluation set: retrieval_captions.csv, and a folder of audio
    # Lists of clips that training on WavCaps leaves out: csv of Freesound ids, or json of ids by source.
    exclude: list[str] = field(default_factory=list)
    # json lines with other wordings of Clotho's captions; in training one of them takes a caption's place so often.
    variants: str | None = None
    variants_probability: float = in_range(0.0, 0, 1)
    train: list[str] = field(default_factory=lambda: ["clotho_development"])
    validation: str = "clotho_validation"
    test: str = "clotho_evaluation"
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


@dataclass
class Config:
    """A Task 6 recipe."""

    seed: int = in_range(42, 0, 2**31 - 1)
    data: DataConfig = field(default_factory=DataConfig)
