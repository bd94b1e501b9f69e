"""AudioSet-strong: what of the labelled clips is there; folders of audio are packed, packs of mp3 files stay."""

from pathlib import Path
from typing import Any

from common.audio.coverage import Coverage, cover, pack, packs_of, root_of
from common.audio.coverage import verify as verify_packs
from common.audio.packs import open_pack
from common.run.errors import UserError
from common.run.files import remove_partials, write_json
from common.run.results.tables import print_table
from task4_sed.config import Config
from task4_sed.data.audioset import read_strong_labels
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.framewise import AUDIO, PACKS, TABLES, Part
from task4_sed.data.sets import first_existing

CLIPS_WORTH_A_PROCESS = 500


def prepare_audioset(config: Config, workers: int, verify: bool) -> dict[str, Any]:
    """Print and return how many of the labelled clips are there; pack them where they lie in a folder.

    Raises UserError for malformed tables, and where a part has no audio.
    """
    root, packs = root_of(config.data), packs_of(config.data)
    remove_partials(packs)
    summary: dict[str, Any] = {"root": str(root), "sets": {}}
    parts: tuple[Part, ...] = ("train", "eval")
    for part in parts:
        table = first_existing(root, TABLES[part])
        if table is None:
            raise UserError(f"{root / TABLES[part][0]}: labels of AudioSet-strong not found")
        clips = read_strong_labels(table).clips
        there = [root / name for name in PACKS[part] if (root / name).is_file()]
        counts = _of_packs(there, clips) if there else _of_folder(root, packs, part, clips, workers)
        if not counts["packed"]:
            raise UserError(f"{root / AUDIO[part]}: no audio of the clips in {table.name}")
        summary["sets"][f"audioset_{part}"] = counts
        if verify and not there:
            verify_packs([packs / f"audioset_{part}"])
    columns = ["listed", "missing", "broken", "packed"]
    rows = [[name, *(str(counts[column]) for column in columns)] for name, counts in summary["sets"].items()]
    print_table(
        f"data set {root}", ["set", *columns], rows, note="missing and broken clips are listed beside the packs"
    )
    write_json(packs / "coverage.json", summary)
    return summary


def _of_packs(packs: list[Path], clips: tuple[str, ...]) -> dict[str, int]:
    wanted = set(clips)
    found = {name for path in packs for name in open_pack(path, SAMPLE_RATE).names if name in wanted}
    return {"listed": len(clips), "missing": len(clips) - len(found), "broken": 0, "packed": len(found)}


def _of_folder(root: Path, packs: Path, part: Part, clips: tuple[str, ...], workers: int) -> dict[str, int]:
    folder = root / AUDIO[part]
    files = {path.stem: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    found: Coverage = cover((clip, files.get(clip, folder / clip)) for clip in clips)
    return pack(found, packs / f"audioset_{part}", SAMPLE_RATE, workers, CLIPS_WORTH_A_PROCESS).counts()
