"""AudioSet: what of the labelled clips is there; folders of audio are packed, packs of mp3 files stay."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.audio.audioset import read_labels
from common.audio.coverage import cover, pack, packs_of, root_of
from common.audio.coverage import verify as verify_packs
from common.audio.packs import open_pack
from common.run.errors import UserError
from common.run.files import remove_partials, write_json
from common.run.results.tables import print_table
from task4_sed.config import Config
from task4_sed.data.audioset import read_strong_labels
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.framewise import AUDIO, PACKS, Part, table_of
from task4_sed.data.own import pack_of, read_own
from task4_sed.data.weak import read_segments

CLIPS_WORTH_A_PROCESS = 500
PARTS: tuple[Part, ...] = ("train", "eval")


class Listed(NamedTuple):
    """Clips of a set (None: all of `files`), the folder of their audio and the pack that becomes of it; files: packs of
    mp3 files in place of both."""

    clips: Sequence[str] | None
    folder: Path
    out: Path
    files: Sequence[Path] = ()


def prepare_audioset(config: Config, workers: int, verify: bool) -> dict[str, Any]:
    """Print and return how many of the labelled clips are there; pack them where they lie in a folder.

    Of AudioSet-strong, of AudioSet's clip labels, of own classes: what the recipe trains with. Raises UserError for
    malformed tables, and where a set has no audio.
    """
    root, packs = root_of(config.data), packs_of(config.data)
    remove_partials(packs)
    summary: dict[str, Any] = {"root": str(root), "sets": {}}
    listed = sets_of(config)
    for name, of in listed.items():
        summary["sets"][name] = counts = _of_packs(of) if of.files else _of_folder(of, workers)
        if not counts["packed"]:
            raise UserError(f"{of.folder}: no audio of the clips of {name}")
    if verify:
        verify_packs(of.out for of in listed.values() if not of.files)
    columns = ["listed", "missing", "broken", "packed"]
    rows = [[name, *(str(counts[column]) for column in columns)] for name, counts in summary["sets"].items()]
    print_table(
        f"data set {root}", ["set", *columns], rows, note="missing and broken clips are listed beside the packs"
    )
    write_json(packs / "coverage.json", summary)
    return summary


def sets_of(config: Config) -> dict[str, Listed]:
    """The sets of a recipe by name."""
    data, root, packs = config.data, root_of(config.data), packs_of(config.data)
    files = {part: [root / name for name in PACKS[part] if (root / name).is_file()] for part in PARTS}
    found: dict[str, Listed] = {}
    if data.format == "audioset":
        for part in PARTS:
            clips: Sequence[str] | None = read_strong_labels(table_of(root, part)).clips
            found[f"audioset_{part}"] = Listed(clips, root / AUDIO[part], packs / f"audioset_{part}", files[part])
    if data.format == "audioset_weak" or (config.teacher is not None and config.teacher.weak_batch):
        mids = tuple(read_labels(root))
        for part in PARTS:
            clips, name = None if files[part] else read_segments(root, part, mids)[0], f"audioset_weak_{part}"
            found[name] = Listed(clips, root / AUDIO[part], packs / name, files[part])
    if data.own is not None:
        own = Path(data.own.root)
        for part in PARTS:
            found[f"own_{part}"] = Listed(read_own(own, part).clips, own / AUDIO[part], pack_of(own, part))
    return found


def _of_packs(of: Listed) -> dict[str, int]:
    packs = [open_pack(path, SAMPLE_RATE) for path in of.files]
    if of.clips is None:
        listed = there = sum(map(len, packs))
    else:
        wanted = set(of.clips)
        listed, there = len(of.clips), len({name for each in packs for name in each.names if name in wanted})
    return {"listed": listed, "missing": listed - there, "broken": 0, "packed": there}


def _of_folder(of: Listed, workers: int) -> dict[str, int]:
    files = {path.stem: path for path in sorted(of.folder.iterdir())} if of.folder.is_dir() else {}
    found = cover((clip, files.get(clip, of.folder / clip)) for clip in of.clips or ())
    return pack(found, of.out, SAMPLE_RATE, workers, CLIPS_WORTH_A_PROCESS).counts()
