"""Check a data set against the official layout, say exactly what is missing, and pack its audio."""

from pathlib import Path
from typing import Any

from common.audio.packing import PackReport, write_pack
from common.audio.packs import open_pack
from common.run.errors import UserError
from common.run.files import existing_folder, remove_partials, write_json, write_rows
from common.run.progress import progress
from common.run.results.tables import print_table
from task2_anomaly.config import SAMPLE_RATE, Config, DataConfig
from task2_anomaly.data.classes import TYPES, Machine
from task2_anomaly.data.layout import PARTS, SOURCES, Part, clips_of, folder_of, pack_of, packs_of, root_of, types_of
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
    reports = {}
    for (part, machine), files in sources.items():
        reports[f"{part}_{machine}"] = _pack(pack_of(config.data, part, machine), files, workers)
    for name, files in _outside(config).items():
        reports[name] = _pack(packs / name, files, workers)
    damaged = [problem for name in reports for problem in open_pack(packs / name).verify()] if verify else []
    if damaged:
        raise UserError(f"{damaged[0]}; prepare again after removing it")
    missing = [] if config.data.toy else _missing(sources)
    _show(root, reports, missing)
    summary = {
        "root": str(root),
        "toy": bool(config.data.toy),
        "clips": {name: report.clips for name, report in reports.items()},
        "missing": missing,
    }
    write_json(packs / "coverage.json", summary)
    return summary


def write_toy_data(data: DataConfig) -> None:
    """The embedded data set, where the recipe asks for it and it is not there."""
    if data.root is None or not data.toy:
        return
    from task2_anomaly.data.toy.firstshot import write_first_shot_toy
    from task2_anomaly.data.toy.write import write_toy

    write = write_toy if data.edition == 2020 else write_first_shot_toy
    with progress("toy data", 0, "files") as advance:
        write(Path(data.root), data.toy, progress=advance.to)


def _sources(root: Path) -> dict[tuple[Part, Machine], list[tuple[str, Path]]]:
    found: dict[tuple[Part, Machine], list[tuple[str, Path]]] = {}
    for kind in types_of(root):
        for part in PARTS:
            folder = folder_of(root, part, kind)
            for number, clips in (clips_of(folder) if folder else {}).items():
                assert folder is not None
                found[part, Machine(kind, number, clips[0].section)] = [
                    (clip.name, folder / clip.name) for clip in clips
                ]
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


def _pack(pack: Path, files: list[tuple[str, Path]], workers: int) -> PackReport:
    workers = min(workers, 1 + len(files) // CLIPS_WORTH_A_PROCESS)
    with progress(f"pack {pack.name}", len(files)) as advance:
        report = write_pack(pack, files, SAMPLE_RATE, workers=workers, progress=advance.to, on_error="skip")
    broken = pack.with_name(f"{pack.name}.broken.tsv")
    if report.skipped:
        write_rows(broken, ("filename", "reason"), report.skipped)
    else:
        broken.unlink(missing_ok=True)
    return report


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


def _show(root: Path, reports: dict[str, PackReport], missing: list[str]) -> None:
    rows = [[name, str(report.clips), str(len(report.skipped))] for name, report in reports.items()]
    note = "; ".join(f"missing: {text}" for text in missing) or None
    print_table(f"data set {root}", ["part and machine", "clips", "broken"], rows, note=note)
