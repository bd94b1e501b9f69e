"""Where the official download keeps each data set, below one root folder.

The names are those that the challenge's own code expects, so that a real download works as it is. Audio is looked
for at 16 kHz first, then as the original (it is resampled when packed).
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["strong", "weak", "unlabeled", "soft"]
Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class SetLayout:
    """One data set on disk. Paths are relative to the root; the first that exists counts."""

    name: str
    kind: Kind
    parts: tuple[Part, ...]
    audio: tuple[str, ...]
    annotation: tuple[str, ...] = ()  # none: unlabeled, every wav of the folder belongs to it
    durations: tuple[str, ...] = ()
    official_clips: int | None = None  # of a complete download


def _audio(folder: str) -> tuple[str, str]:
    return (f"{folder}_16k", folder)


SETS: dict[str, SetLayout] = {
    layout.name: layout
    for layout in (
        SetLayout(
            "synth_train",
            "strong",
            ("train",),
            _audio("dcase_synth/audio/train/synthetic21_train/soundscapes"),
            ("dcase_synth/metadata/train/synthetic21_train/soundscapes.tsv",),
            official_clips=10000,
        ),
        SetLayout(
            "synth_val",
            "strong",
            ("validation",),
            (
                *_audio("audio/validation/synthetic21_validation/soundscapes"),
                *_audio("dcase_synth/audio/validation/synthetic21_validation/soundscapes"),
            ),
            ("dcase_synth/metadata/validation/synthetic21_validation/soundscapes.tsv",),
            ("dcase_synth/metadata/validation/synthetic21_validation/durations.tsv",),
            official_clips=2500,
        ),
        SetLayout(
            "weak", "weak", ("train", "validation"), _audio("audio/train/weak"), ("metadata/train/weak.tsv",), (), 1578
        ),
        SetLayout("unlabeled", "unlabeled", ("train",), _audio("audio/train/unlabel_in_domain"), official_clips=14412),
        SetLayout(
            "strong",
            "strong",
            ("train",),
            _audio("audio/train/strong_label_real"),
            ("metadata/train/audioset_strong.tsv",),
            (),
            3470,
        ),
        SetLayout(
            "external_strong_train",
            "strong",
            ("train",),
            _audio("audio/external_strong"),
            ("resources/external_strong_split/external_audioset_strong_train.tsv",),
            ("resources/external_strong_split/external_audioset_strong_train_dur.tsv",),
        ),
        SetLayout(
            "external_strong_val",
            "strong",
            ("validation",),
            _audio("audio/external_strong"),
            ("resources/external_strong_split/external_audioset_strong_eval.tsv",),
            ("resources/external_strong_split/external_audioset_strong_eval_dur.tsv",),
        ),
        SetLayout(
            "devtest",
            "strong",
            ("test",),
            _audio("audio/validation/validation"),
            ("metadata/validation/validation.tsv",),
            ("metadata/validation/validation_durations.tsv",),
            official_clips=1168,
        ),
        SetLayout(
            "maestro_train",
            "soft",
            ("train", "validation"),
            _audio("audio/maestro_real_train"),
            ("metadata/maestro_real_train.tsv",),
            ("metadata/maestro_real_durations.tsv",),
            official_clips=7503,
        ),
        SetLayout(
            "maestro_val",
            "soft",
            ("test",),
            _audio("audio/maestro_real_validation"),
            ("metadata/maestro_real_validation.tsv",),
            ("metadata/maestro_real_durations.tsv",),
            official_clips=3474,
        ),
        SetLayout(
            "eval_public",
            "strong",
            ("test",),
            _audio("eval/desed_public_eval/audio/eval/public"),
            ("eval/desed_public_eval/metadata/eval/public.tsv",),
            ("eval/desed_public_eval/metadata/eval/public_durations.tsv",),
            official_clips=692,
        ),
        SetLayout(
            "eval24",
            "unlabeled",
            ("test",),
            _audio("eval/eval24/audio"),
            (),
            ("eval/eval24/eval24_durations.tsv",),
            official_clips=2200,
        ),
    )
}

# Lists of clips (column filename) that also occur in External_Strong or in evaluation data: left out of training.
EXCLUSION_LISTS = {
    name: f"resources/exclude/{stem}_exclude.tsv"
    for name, stem in (("strong", "audioset_strong"), ("weak", "weak"), ("unlabeled", "unlabeled"))
}

# Optional at the root: column event_label; the classes of a data set that is not DESED and MAESTRO.
CLASSES_FILE = "classes.tsv"
