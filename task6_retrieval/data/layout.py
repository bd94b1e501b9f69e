"""Where Clotho, AudioCaps and WavCaps have their tables and audio, in the layouts that are about.

Clotho (v2.1), below <root>, <root>/clotho_v2 or <root>/CLOTHO_v2.1:
    clotho_captions_<split>.csv, clotho_metadata_<split>.csv    or in clotho_csv_files/
    <split>/*.wav                                               or in clotho_audio_files/
    <split> is development, validation or evaluation
AudioCaps: train.csv, val.csv, test.csv, or in dataset/; Y<id>.{wav,flac,mp3} or <id>.{...} anywhere below the folder;
    class_labels_indices.csv and unbalanced_train_segments*.csv of AudioSet: labels are the keywords
Evaluation sets of the challenge: retrieval_captions.csv (column caption), retrieval_audio/ or test/, and where it is
    there retrieval_audio_metadata.csv
WavCaps: json_files/<source>/<file>.json; <source>/<id>.{flac,wav,mp3}, or in audio/ or waveforms/
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import existing_folder, read_rows
from common.run.folders import below, is_clutter
from task6_retrieval.config import AUDIOCAPS, CHALLENGE, CLOTHO, WAVCAPS, DataConfig
from task6_retrieval.data.captions import (
    Captioned,
    read_audiocaps,
    read_audioset_labels,
    read_captions,
    read_excluded,
    read_keywords,
    read_wavcaps,
    with_keywords,
)

SUFFIXES = (".wav", ".flac", ".mp3")
CLOTHO_PLACES = (".", "clotho_v2", "CLOTHO_v2.1")
# source of WavCaps: its folder, its json
SOURCES = {
    "freesound": ("FreeSound", "fsd_final"),
    "bbc": ("BBC_Sound_Effects", "bbc_final"),
    "soundbible": ("SoundBible", "sb_final"),
    "audioset": ("AudioSet_SL", "as_final"),
}


@dataclass(frozen=True)
class Listing:
    """A data set as its tables have it: every clip, the file that it should have, and what is odd.

    uncaptioned: audio files that no table names; excluded: clips that a list forbids, which are not among `clips`.
    """

    name: str
    table: Path
    clips: tuple[Captioned, ...]
    files: tuple[Path, ...]  # (clips,); need not exist
    uncaptioned: int = 0
    excluded: int = 0

    @property
    def captions(self) -> int:
        """Captions of all clips."""
        return sum(len(clip.captions) for clip in self.clips)


def read_listing(data: DataConfig, name: str) -> Listing | None:
    """A data set by its name (config.SET_NAMES); None where its table is not there. UserError where that is wrong."""
    part = name.partition("_")[2]
    if name in CLOTHO:
        return _clotho(root_of(data), name, part)
    if name in AUDIOCAPS and data.audiocaps:
        return _audiocaps(existing_folder(data.audiocaps, "folder of AudioCaps"), name, part)
    if name in WAVCAPS and data.wavcaps:
        return _wavcaps(existing_folder(data.wavcaps, "folder of WavCaps"), name, part, data.exclude)
    if name == CHALLENGE and (challenge := challenge_of(data)):
        return _challenge(existing_folder(challenge, "folder of an evaluation set"))
    return None


def challenge_of(data: DataConfig) -> Path | None:
    """The folder of the retrieval evaluation set, where one is named or lies beside the data set."""
    beside = Path(data.root or ".") / "challenge"
    return Path(data.challenge) if data.challenge else beside if data.root and beside.is_dir() else None


def needed(data: DataConfig, name: str) -> Listing:
    """As `read_listing`; UserError where the set is not there."""
    listing = read_listing(data, name)
    if listing is None:
        raise UserError(f"{name}: not there; {_expected(data, name)}")
    return listing


def _expected(data: DataConfig, name: str) -> str:
    family, _, part = name.partition("_")
    if name == CHALLENGE:
        return "data.challenge=DIR names its folder, with retrieval_captions.csv"
    if family == "clotho":
        return f"expected {Path(data.root or '.') / f'clotho_captions_{part}.csv'}"
    folder = getattr(data, family)
    if folder is None:
        return f"data.{family}=DIR names its folder"
    table = f"{part}.csv" if family == "audiocaps" else f"json_files/{SOURCES[part][0]}/{SOURCES[part][1]}.json"
    return f"expected {Path(folder) / table}"


def _first(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if path.exists()), None)


# -------------------------------------------------------------------------------------------------------------- Clotho


def clotho_table(root: Path, kind: str, split: str) -> Path | None:
    """clotho_<kind>_<split>.csv (kind captions or metadata) in either layout, or None."""
    folders = [root / place / inner for place in CLOTHO_PLACES for inner in (".", "clotho_csv_files")]
    return _first(folder / f"clotho_{kind}_{split}.csv" for folder in folders)


def clotho_audio(root: Path, split: str) -> Path:
    """The folder of a split's audio in either layout; where there is none, where it is expected."""
    folders = [root / place / inner / split for place in CLOTHO_PLACES for inner in (".", "clotho_audio_files")]
    return _first(folders) or folders[0]


def _clotho(root: Path, name: str, split: str) -> Listing | None:
    table, metadata = clotho_table(root, "captions", split), clotho_table(root, "metadata", split)
    if table is None:
        return None
    own = made_of(root) == "recordings"
    clips = read_captions(table, fewer=own)
    keywords = read_keywords(metadata, *(["utf-8"] if own else [])) if metadata else {}
    clips = with_keywords(clips, keywords)
    folder = clotho_audio(root, split)
    files = match_files([clip.name for clip in clips], folder)
    there = {path.name for path in _audio_in(folder)}
    return Listing(name, table, tuple(clips), files, len(there - {path.name for path in files}))


def match_files(names: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """The file of each name in a folder: exactly that name, else one that differs in blanks around it or in colons.

    Clotho's names may begin with a blank that some copies have lost, and have `:` where a disk has `_`.
    """
    there = {path.name for path in _audio_in(folder)}
    loose = {_loose(name): name for name in there}
    return tuple(folder / (name if name in there else loose.get(_loose(name), name)) for name in names)


def _loose(name: str) -> str:
    return re.sub(r"\s*:\s*", "_", name).strip()


def _audio_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [Path(e.path) for e in entries if e.name.lower().endswith(SUFFIXES) and not is_clutter(e.name)]


def _challenge(root: Path) -> Listing | None:
    """Its clips are the files of its folder of audio; none has a caption."""
    table, metadata = root / "retrieval_captions.csv", root / "retrieval_audio_metadata.csv"
    if not table.is_file():
        return None
    files = sorted(_audio_in(_first((root / "retrieval_audio", root / "test")) or root))
    keywords = {_loose(name): words for name, words in read_keywords(metadata).items()} if metadata.is_file() else {}
    clips = (Captioned(path.name, (), keywords.get(_loose(path.name), "")) for path in files)
    return Listing(CHALLENGE, table, tuple(clips), tuple(files))


def read_queries(data: DataConfig) -> tuple[str, ...]:
    """The captions of the evaluation set, in their order."""
    return tuple(row["caption"] for row in read_rows(needed(data, CHALLENGE).table, ("caption",), ","))


# --------------------------------------------------------------------------------------------------- AudioCaps, WavCaps


def _audiocaps(root: Path, name: str, part: str) -> Listing | None:
    table = _first((root / f"{part}.csv", root / "dataset" / f"{part}.csv"))
    if table is None:
        return None
    classes, segments = root / "class_labels_indices.csv", sorted(root.glob("unbalanced_train_segments*.csv"))
    labels = read_audioset_labels(segments, classes) if classes.is_file() else {}
    clips = with_keywords(read_audiocaps(table), labels)
    stems = {path.stem: path for path in below(root) if path.suffix.lower() in SUFFIXES and path.stem[:1] != "."}
    files = (stems.get(f"Y{clip.name}") or stems.get(clip.name) or root / f"Y{clip.name}.wav" for clip in clips)
    return Listing(name, table, tuple(clips), tuple(files))


def _wavcaps(root: Path, name: str, part: str, lists: Sequence[str]) -> Listing | None:
    folder, table_name = SOURCES[part]
    tables = [f"{table_name}.json", f"{table_name}_2s.json"]
    table = _first(root / place / table for place in (f"json_files/{folder}", "json_files") for table in tables)
    if table is None:
        return None
    listed = read_wavcaps(table)
    forbidden = excluded_ids(lists).get(part, frozenset())
    clips = [clip for clip in listed if clip.name not in forbidden and clip.name.removeprefix("Y") not in forbidden]
    audio = _first(root / place / folder for place in (".", "audio", "waveforms")) or root / folder
    stems = {path.stem: path for path in _audio_in(audio)}
    files = (stems.get(clip.name, audio / f"{clip.name}.flac") for clip in clips)
    return Listing(name, table, tuple(clips), tuple(files), 0, len(listed) - len(clips))


def excluded_ids(lists: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """{source: ids} of several lists together."""
    joined: dict[str, frozenset[str]] = {}
    for path in lists:
        for source, ids in read_excluded(path).items():
            joined[source] = joined.get(source, frozenset()) | ids
    return joined
