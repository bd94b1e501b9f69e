"""Check a data set against the official layout, say exactly what is missing, and pack its audio."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from common.audio.coverage import Coverage, cover, made_of, pack, packs_of, root_of, write_embedded
from common.audio.coverage import verify as verify_packs
from common.run.errors import UserError
from common.run.files import remove_partials, sha256, write_json
from common.run.folders import is_clutter
from common.run.processes import usable_cores
from common.run.results.tables import print_table
from task4_sed.config import Config, DataConfig
from task4_sed.data.classes import SAMPLE_RATE
from task4_sed.data.layout import EXCLUSION_LISTS, SETS, SetLayout
from task4_sed.data.maestro import cut_recordings
from task4_sed.data.sets import Annotation, classes_of, first_existing, read_annotation

CLIPS_WORTH_A_PROCESS = 500  # starting a process costs about as much as packing some hundred clips


@dataclass(frozen=True)
class SetCoverage:
    """What of a data set is there; its clips are those that its tables name."""

    layout: SetLayout
    audio: Path | None
    table_hash: str | None
    clips: Coverage
    problem: str | None = None  # why the set cannot be used at all

    @property
    def absent(self) -> bool:
        """Neither audio nor tables: not part of this download."""
        return self.audio is None and self.table_hash is None


def write_toy_data(data: DataConfig) -> None:
    """The embedded data set, where the recipe asks for it."""
    kind = (data.toy or "").partition("_")[0]
    if kind == "audioset":
        from task4_sed.data.toy.audioset import write_toy_audioset

        write_embedded(data, write_toy_audioset)
    elif kind in ("dcase2016", "maestro"):
        from task4_sed.data.toy.hear import write_toy_hear

        write_embedded(data, write_toy_hear)
    else:
        from task4_sed.data.toy.write import write_toy

        write_embedded(data, partial(write_toy, workers=usable_cores()))


def prepare(config: Config, workers: int, verify: bool = False) -> dict[str, Any]:
    """Check and pack the data set of the recipe's kind of system; returns a report as a mapping. Raises UserError."""
    report: dict[str, Any] = config.system.does("prepare")(config, workers, verify)
    return report


def prepare_challenge(config: Config, workers: int, verify: bool) -> dict[str, Any]:
    """Report the coverage of every data set and pack what is there; returns the report as a mapping.

    Whole recordings of MAESTRO are cut into windows first.

    Missing clips are listed in `<packs>/<set>.missing.tsv`, broken ones in `<set>.broken.tsv`; both are left out.
    Raises UserError for malformed tables, and where a data set that the recipe needs is not there at all.
    """
    root, packs = root_of(config.data), packs_of(config.data)
    classes = classes_of(root)
    remove_partials(packs)
    cut_recordings(root, config.data.maestro_hop, classes, workers)
    sets = [cover_set(root, layout, classes) for layout in SETS.values()]
    if not any(of.clips.found for of in sets):
        expected = ", ".join(SETS[name].audio[0] for name in ("synth_train", "weak", "devtest"))
        raise UserError(f"{root}: no audio of any data set found; expected folders such as {expected}")
    sets = [_packed(of, packs, workers) for of in sets]
    _show(sets, root)
    summary = _summary(root, sets)
    write_json(packs / "coverage.json", summary)
    if verify:
        verify_packs(packs / of.layout.name for of in sets if of.clips.packed)
    _check_needed(config, root, sets)
    return summary


def cover_set(root: Path, layout: SetLayout, classes: tuple[str, ...]) -> SetCoverage:
    """Compare a set's tables with its audio folder."""
    audio = first_existing(root, layout.audio)
    table = first_existing(root, layout.annotation)
    if audio is None and table is None:
        return SetCoverage(layout, None, None, cover(()))
    if layout.kind != "unlabeled" and table is None:
        problem = f"{root / layout.annotation[0]}: annotation not found"
        return SetCoverage(layout, audio, None, cover(()), problem)
    folder = audio or root / layout.audio[0]
    listed = _listed(layout, read_annotation(root, layout, classes), audio)
    clips = cover((name, folder / name) for name in listed)
    without = None if clips.found else f"{root / layout.audio[0]}: no audio found"
    return SetCoverage(layout, audio, sha256(table) if table else None, clips, without)


def _packed(of: SetCoverage, packs: Path, workers: int) -> SetCoverage:
    return replace(of, clips=pack(of.clips, packs / of.layout.name, SAMPLE_RATE, workers, CLIPS_WORTH_A_PROCESS))


def _listed(layout: SetLayout, annotation: Annotation, audio: Path | None) -> list[str]:
    """The clips of a set: those of its tables; where windows or clips without labels are not listed, also every wav."""
    if layout.kind in ("strong", "weak"):
        return sorted(set(annotation.clips))
    named = annotation.durations if layout.kind == "unlabeled" else annotation.events
    wavs = (path.name for path in audio.glob("*.wav") if not is_clutter(path.name)) if audio else ()
    return sorted({*named, *wavs})


def _show(sets: list[SetCoverage], root: Path) -> None:
    rows = []
    for of in sets:
        clips, report = of.clips, of.clips.report
        rows.append(
            [
                of.layout.name,
                "not there" if of.absent else of.problem or "ok",
                *(("-", "-") if of.absent else (str(clips.listed), str(len(clips.missing)))),
                *(
                    (str(len(clips.broken)), f"{clips.packed} ({report.seconds / 3600:.2f} h)")
                    if report
                    else ("-", "-")
                ),
                of.layout.kind,
                "–" if of.layout.official_clips is None else f"{of.layout.official_clips:,}",
            ]
        )
    columns = ["set", "state", "listed", "missing", "broken", "packed", "labels", "official"]
    print_table(f"data set {root}", columns, rows, note="missing and broken clips are listed beside the packs")


def _summary(root: Path, coverages: list[SetCoverage]) -> dict[str, Any]:
    sets = {
        of.layout.name: {
            "official": of.layout.official_clips,
            **of.clips.counts(),
            "annotation_sha256": of.table_hash,
            "problem": of.problem,
        }
        for of in coverages
    }
    lists = [name for name, path in EXCLUSION_LISTS.items() if (root / path).is_file()]
    return {"root": str(root), "sets": sets, "exclusion_lists": lists, "made_of": made_of(root)}


def _check_needed(config: Config, root: Path, sets: list[SetCoverage]) -> None:
    needed = {name for block in config.data.blocks.named().values() if block.batch for name in block.sets}
    needed |= {*config.validation.sets, *config.test_sets, *config.postprocess.tune_on}
    needed |= {config.submission_set} if config.submission_set else set()
    for of in sets:
        if of.layout.name in needed and not of.clips.found:
            reason = of.problem or f"{root / of.layout.audio[0]}: not there"
            raise UserError(f"the recipe needs data set {of.layout.name}, but {reason}")
