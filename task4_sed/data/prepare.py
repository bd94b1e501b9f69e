"""Check a data set against the official layout, say exactly what is missing, and pack its audio."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.audio.packing import PackReport, write_pack
from common.run.errors import UserError
from common.run.files import read_json, remove_partials, sha256, write_json, write_rows
from common.run.progress import progress
from common.run.results.tables import print_table
from task4_sed.config import Config
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.layout import EXCLUSION_LISTS, SETS, SetLayout
from task4_sed.data.sets import Annotation, classes_of, first_existing, packs_of, read_annotation, root_of

CLIPS_WORTH_A_PROCESS = 500  # starting a process costs about as much as packing some hundred clips


@dataclass(frozen=True)
class Coverage:
    """What of a data set is there. `listed`: clips that its tables name; `found`: those whose audio is there."""

    layout: SetLayout
    audio: Path | None
    table_hash: str | None
    listed: int
    found: tuple[str, ...]
    missing: tuple[str, ...]
    problem: str | None = None  # why the set cannot be used at all

    @property
    def absent(self) -> bool:
        """Neither audio nor tables: not part of this download."""
        return self.audio is None and self.table_hash is None


def prepare(config: Config, workers: int, verify: bool = False) -> dict[str, Any]:
    """Report the coverage of every data set and pack what is there; returns the report as a mapping.

    Missing clips are listed in `<packs>/<set>.missing.tsv`, broken ones in `<set>.broken.tsv`; both are left out.
    Raises UserError for malformed tables, and where a data set that the recipe needs is not there at all.
    """
    root, packs = root_of(config.data), packs_of(config.data)
    classes = classes_of(root)
    remove_partials(packs)
    coverages = [cover(root, layout, classes) for layout in SETS.values()]
    there = [c for c in coverages if c.found]
    if not there:
        expected = ", ".join(SETS[name].audio[0] for name in ("synth_train", "weak", "devtest"))
        raise UserError(f"{root}: no audio of any data set found; expected folders such as {expected}")
    reports = {c.layout.name: pack_set(c, packs, workers) for c in there}
    for coverage in coverages:
        _list_clips(packs / f"{coverage.layout.name}.missing.tsv", coverage.missing)
    damaged = _verify(packs, reports) if verify else []
    _show(coverages, reports, root)
    summary = _summary(root, coverages, reports)
    write_json(packs / "coverage.json", summary)
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise UserError(f"{damaged[0]}{more}; prepare again after removing it")
    _check_needed(config, root, coverages)
    return summary


def cover(root: Path, layout: SetLayout, classes: tuple[str, ...]) -> Coverage:
    """Compare a set's tables with its audio folder."""
    audio = first_existing(root, layout.audio)
    table = first_existing(root, layout.annotation)
    if audio is None and table is None:
        return Coverage(layout, None, None, 0, (), ())
    if layout.kind != "unlabeled" and table is None:
        return Coverage(layout, audio, None, 0, (), (), f"{root / layout.annotation[0]}: annotation not found")
    annotation = read_annotation(root, layout, classes)
    listed = _listed(layout, annotation, audio)
    present = {path.name for path in audio.iterdir()} if audio else set()
    found = tuple(name for name in listed if name in present)
    missing = tuple(name for name in listed if name not in present)
    problem = None if found else f"{root / layout.audio[0]}: no audio found"
    return Coverage(layout, audio, sha256(table) if table else None, len(listed), found, missing, problem)


def _listed(layout: SetLayout, annotation: Annotation, audio: Path | None) -> list[str]:
    """The clips of a set: those of its tables; where windows or clips without labels are not listed, also every wav."""
    if layout.kind in ("strong", "weak"):
        return sorted(set(annotation.clips))
    named = annotation.durations if layout.kind == "unlabeled" else annotation.events
    wavs = (path.name for path in audio.glob("*.wav")) if audio else ()
    return sorted({*named, *wavs})


def pack_set(coverage: Coverage, packs: Path, workers: int) -> PackReport:
    """Pack the audio of a set at 16 kHz; broken files are left out and listed."""
    assert coverage.audio is not None
    layout, sources = coverage.layout, [(name, coverage.audio / name) for name in coverage.found]
    workers = min(workers, 1 + len(sources) // CLIPS_WORTH_A_PROCESS)
    with progress(f"pack {layout.name}", len(sources)) as advance:
        report = write_pack(
            packs / layout.name, sources, SAMPLE_RATE, workers=workers, progress=advance.to, on_error="skip"
        )
    broken = packs / f"{layout.name}.broken.tsv"
    if report.skipped:
        write_rows(broken, ("filename", "reason"), report.skipped)
    else:
        broken.unlink(missing_ok=True)
    return report


def _list_clips(path: Path, clips: tuple[str, ...]) -> None:
    if clips:
        write_rows(path, ("filename",), ((name,) for name in clips))
    else:
        path.unlink(missing_ok=True)


def _verify(packs: Path, reports: Mapping[str, PackReport]) -> list[str]:
    from common.audio.packs import open_pack

    return [problem for name in reports for problem in open_pack(packs / name).verify()]


def _show(coverages: list[Coverage], reports: Mapping[str, PackReport], root: Path) -> None:
    rows = []
    for c in coverages:
        report = reports.get(c.layout.name)
        rows.append(
            [
                c.layout.name,
                c.layout.kind,
                "-" if c.layout.official_clips is None else str(c.layout.official_clips),
                "-" if c.absent else str(c.listed),
                "-" if c.absent else str(len(c.missing)),
                str(len(report.skipped)) if report else "-",
                f"{report.clips} ({report.seconds / 3600:.2f} h)" if report else "-",
                "not there" if c.absent else c.problem or "ok",
            ]
        )
    columns = ["set", "labels", "official", "listed", "missing", "broken", "packed", "state"]
    print_table(f"data set {root}", columns, rows, note="missing and broken clips are listed beside the packs")


def _summary(root: Path, coverages: list[Coverage], reports: Mapping[str, PackReport]) -> dict[str, Any]:
    sets = {}
    for c in coverages:
        report = reports.get(c.layout.name)
        sets[c.layout.name] = {
            "official": c.layout.official_clips,
            "listed": c.listed,
            "missing": len(c.missing),
            "broken": len(report.skipped) if report else 0,
            "packed": report.clips if report else 0,
            "annotation_sha256": c.table_hash,
            "problem": c.problem,
        }
    lists = [name for name, path in EXCLUSION_LISTS.items() if (root / path).is_file()]
    return {"root": str(root), "sets": sets, "exclusion_lists": lists, "made_of": made_of(root)}


def made_of(root: Path) -> str:
    """ "toy", "recordings" (built by prepare --from-recordings) or "official"."""
    for marker, meaning in (("toy.json", "toy"), ("recordings.json", "recordings")):
        if (root / marker).is_file():
            read_json(root / marker)
            return meaning
    return "official"


def _check_needed(config: Config, root: Path, coverages: list[Coverage]) -> None:
    needed = {name for block in config.data.blocks.named().values() if block.batch for name in block.sets}
    needed |= {*config.validation.sets, *config.test_sets, *config.postprocess.tune_on}
    needed |= {config.submission_set} if config.submission_set else set()
    for c in coverages:
        if c.layout.name in needed and not c.found:
            reason = c.problem or f"{root / c.layout.audio[0]}: not there"
            raise UserError(f"the recipe needs data set {c.layout.name}, but {reason}")
