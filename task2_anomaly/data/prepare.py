"""Check a data set against the official layout, say exactly what is missing, and pack its audio."""

from pathlib import Path
from typing import Any

from common.audio.coverage import Coverage, cover, made_of, pack, packs_of, root_of, write_embedded
from common.audio.coverage import verify as verify_packs
from common.run.errors import UserError
from common.run.files import existing_folder, remove_partials, write_json
from common.run.results.tables import print_table
from task2_anomaly.config import SAMPLE_RATE, Config, DataConfig
from task2_anomaly.data.classes import TYPES, Machine
from task2_anomaly.data.layout import PARTS, SOURCES, Part, clips_of, folders_of, types_of
from task2_anomaly.data.proxies import ROOM, audioset_files, scene_files

CLIPS_WORTH_A_PROCESS = 300  # starting a process costs about as much as packing some hundred clips


def prepare(config: Config, workers: int, verify: bool = False) -> dict[str, Any]:
    """Report what of the data set is there, pack it by machine and part; returns the report.

    Raises UserError for malformed names, no training clips at all, or a damaged pack (with `verify`).
    """
    root, packs = root_of(config.data), packs_of(config.data)
    packs.mkdir(parents=True, exist_ok=True)
    remove_partials(packs)
    sources = _sources(root)
    if not any(part in ("dev_train", "eval_train") for part, _ in sources):
        raise UserError(f"{root}: no training clips, expected e.g. dev_data/fan/train/normal_id_00_00000000.wav")
    listed = {f"{part}_{machine}": files for (part, machine), files in sources.items()} | _outside(config)
    sets = {
        name: pack(cover(files), packs / name, SAMPLE_RATE, workers, CLIPS_WORTH_A_PROCESS)
        for name, files in listed.items()
    }
    missing = [] if config.data.toy or made_of(root) == "recordings" else _missing(sources)
    _show(root, sets, missing)
    summary = {
        "root": str(root),
        "toy": made_of(root) == "toy",
        "made_of": made_of(root),
        "clips": {name: coverage.packed for name, coverage in sets.items()},
        "missing": missing,
    }
    write_json(packs / "coverage.json", summary)
    if verify:
        verify_packs(packs / name for name in sets)
    return summary


def write_toy_data(data: DataConfig) -> None:
    """The embedded data set, where the recipe asks for it."""
    from task2_anomaly.data.toy.first_shot import write_first_shot_toy
    from task2_anomaly.data.toy.write import write_toy

    write_embedded(data, write_toy if data.edition == 2020 else write_first_shot_toy)


def _sources(root: Path) -> dict[tuple[Part, Machine], list[tuple[str, Path]]]:
    found: dict[tuple[Part, Machine], list[tuple[str, Path]]] = {}
    for kind in types_of(root):
        for part in PARTS:
            for folder in folders_of(root, part, kind):
                for number, clips in clips_of(folder).items():
                    files = found.setdefault((part, Machine(kind, number, clips[0].section)), [])
                    files += [(clip.name, folder / clip.name) for clip in clips]
    return found


def _outside(config: Config) -> dict[str, list[tuple[str, Path]]]:
    """Proxies from outside the task: {pack: files}."""
    if not config.data.audioset and not config.data.scenes:
        return {}
    from task2_anomaly.data.front_end import front_end

    hop = front_end(config.front_end).setting.hop
    least = (config.data.snippet_frames + ROOM) * hop / SAMPLE_RATE
    found = {}
    if config.data.audioset:
        found["audioset"] = audioset_files(existing_folder(Path(config.data.audioset), "data.audioset"), least)
    if config.data.scenes:
        found["scenes"] = scene_files(existing_folder(Path(config.data.scenes), "data.scenes"), least)
    return found


def _missing(sources: dict[tuple[Part, Machine], list[tuple[str, Path]]]) -> list[str]:
    """Parts of the data set of 2020 that are not there, with where they can be had; none for the later editions."""
    there = {(part, machine.type) for part, machine in sources}
    if any(machine.section for _, machine in sources):
        return []
    return [
        f"{part} of {kind}: {SOURCES[part][1].format(kind)} of Zenodo record {SOURCES[part][0]}"
        for kind in TYPES
        for part in PARTS
        if (part, kind) not in there
    ]


def _show(root: Path, sets: dict[str, Coverage], missing: list[str]) -> None:
    rows = [[name, str(coverage.packed), str(len(coverage.broken))] for name, coverage in sets.items()]
    note = "; ".join(f"missing: {text}" for text in missing) or None
    print_table(f"data set {root}", ["part and machine", "clips", "broken"], rows, note=note)
