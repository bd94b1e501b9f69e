"""The archive of an ensemble: what it says, and faults planted in it, each found by the same validator as others'."""

import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from common.run.results.store import read_results, record
from common.run.submission.violations import Violation
from common.run.verbs import Run, main
from common.tests.submission_case import Mutation, edit, edit_row, put, swap, unpack
from task4_sed.__main__ import TASK
from task4_sed.data.annotations import read_durations
from task4_sed.data.layout import SETS
from task4_sed.evaluation.complexity import network_counts
from task4_sed.submission.validate import validate
from task4_sed.tests.submission_case import LABEL, RUN1, YAML, remove, write

META = f"{LABEL}/{YAML}"
SETTINGS = (
    *("energy.enabled=true", "postprocess.csebbs=default", "test_sets=[devtest,maestro_val]"),
    *(f"submission.label={LABEL}", "encoder={name: beats-tiny, checkpoint: null}"),
)
MEMBERS = ("one.yaml", "two.yaml")


@pytest.fixture
def packed(predicted: Callable[..., Run], tiny_root: Path) -> tuple[Path, list[Run]]:
    """The unpacked archive of three ensembles of two recipes, and the members of the first."""
    members = []
    for number in (1, 2, 3):
        for recipe in MEMBERS:
            run = predicted(recipe, number, 1.0, *SETTINGS)
            members.append(run)
            folder = run.folder / "codecarbon"
            for phase in ("training", "test", "logits"):
                write(f"emissions_{phase}.csv", b"project_name,duration,energy_consumed\nx,10,1.0\n")(folder)
    record(members[0].folder, "logits", {"kwh": 0.5})
    words = ["--ensemble", *MEMBERS, "--recipe", "one.yaml", "--runs", "1", "2", "3", "--run-dir", "runs/both"]
    words += [f"data.root={tiny_root}", *SETTINGS]
    assert main(TASK, ["evaluate", "--no-plots", *words]) == 0
    assert main(TASK, ["package", *words]) == 0
    return unpack(Path("runs/both/submission.zip"), Path("unpacked")), members[:2]


def check(path: Path, root: Path) -> list[Violation]:
    durations = read_durations(root / SETS["eval24"].durations[0])
    return validate(path, list(durations), durations)


def tables(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in (root / LABEL).glob("*.output/*.tsv"))


def row(of: Callable[[list[str]], list[str]], line: int | None = None) -> Callable[[np.random.Generator], Mutation]:
    """A change of a row (None: any below the header) of any table."""
    return lambda rng: lambda root: edit_row(rng.choice(tables(root)), line or int(rng.integers(3, 100)), of)(root)


def lines(of: Callable[[list[str]], list[str]]) -> Callable[[np.random.Generator], Mutation]:
    return lambda rng: lambda root: edit(rng.choice(tables(root)), of)(root)


def file(of: Callable[[Path], Any]) -> Callable[[np.random.Generator], Mutation]:
    return lambda rng: lambda root: of(root / rng.choice(tables(root)))


def always(mutation: Mutation) -> Callable[[np.random.Generator], Mutation]:
    return lambda rng: mutation


def copied(of: str, to: str) -> Mutation:
    def mutate(root: Path) -> None:
        shutil.rmtree(root / LABEL / to, ignore_errors=True)
        shutil.copytree(root / LABEL / of, root / LABEL / to)

    return mutate


FAULTS: Mapping[str, tuple[Callable[[np.random.Generator], Mutation], str]] = {
    "unknown class": (row(put((4, "Kat")), 1), "column-unknown"),
    "class missing": (row(lambda fields: fields[:-1], 1), "column-missing"),
    "class order": (row(lambda fields: [*fields[:2], fields[3], fields[2], *fields[4:]], 1), "column-order"),
    "class twice": (row(lambda fields: [*fields, fields[-1]], 1), "column-twice"),
    "field missing": (row(lambda fields: fields[:-1]), "row-fields"),
    "no number": (row(put((5, "high"))), "number"),
    "decimal comma": (row(put((7, "0,5"))), "number"),
    "NaN": (row(put((9, "nan"))), "score-nan"),
    "infinite": (row(put((9, "inf"))), "score-infinite"),
    "minus infinity": (row(put((9, "-inf"))), "score-infinite"),
    "gap": (lines(lambda of: [*of[:8], *of[9:]]), "time-gap"),
    "zero length": (row(lambda fields: [fields[0], fields[0], *fields[2:]]), "time-zero-length"),
    "back in time": (lines(lambda of: [*of[:8], of[4], *of[8:]]), "time-order"),
    "late start": (row(put((0, "0.05")), 2), "time-start"),
    "cut off": (lines(lambda of: of[:20]), "time-coverage"),
    "header only": (lines(lambda of: of[:1]), "table-empty"),
    "no text": (file(lambda path: path.write_bytes(b"onset\toffset\n\xff\xfe\n")), "encoding"),
    "clip missing": (file(Path.unlink), "clip-missing"),
    "clip more": (file(lambda path: shutil.copy(path, path.with_name("other.tsv"))), "clip-additional"),
    "clip's name": (file(lambda path: path.rename(path.with_suffix(".wav.tsv"))), "clip-name"),
    "stray file": (file(lambda path: path.with_suffix(".wav").write_bytes(b"x")), "stray"),
    "two trainings": (always(lambda root: shutil.rmtree(root / LABEL / f"{LABEL}_run3.output")), "run-missing"),
    "a training twice": (always(copied(RUN1, f"{LABEL}_run2.output")), "run-identical"),
    "run's name": (always(copied(RUN1, "Other_run1.output")), "stray"),
    "no report": (always(lambda root: next(root.glob("*.pdf")).unlink()), "report"),
    "no meta file": (always(remove(YAML)), "meta-file"),
    "label": (always(swap(META, f"label: {LABEL}", "label: Other_Uni_task4_1")), "meta-label"),
    "parameters": (always(swap(META, "total_parameters:", "total_parameters: many #")), "meta-type"),
    "PSDS1": (always(swap(META, "PSDS1:", "PSDS:")), "meta-missing"),
    "no closing bracket": (always(swap(META, "input: mono", "input: [mono")), "meta-syntax"),
    "energy": (always(lambda root: [path.unlink() for path in (root / LABEL).glob("*.csv")]), "energy"),
}


def test_the_archive_of_an_ensemble(
    packed: tuple[Path, list[Run]], tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Valid as it is, of all its members; every planted fault is found."""
    root, members = packed
    assert check(root, tiny_root) == []
    about = yaml.safe_load((root / META).read_text())
    counts = [network_counts(member) for member in members]
    assert about["system"]["complexity"] == {
        "total_parameters": sum(of["parameters"] for of in counts),
        "MACS": sum(of["macs"] for of in counts),
        "energy_training": pytest.approx(2.0 + 0.5 / 3),
        "energy_test": 0.5,
    }
    assert about["system"]["description"]["ensemble_method_subsystem_count"] == 2
    ours = [read_results(Path("runs/both") / f"run{number}")["test"]["values"] for number in (1, 2, 3)]
    stated = about["results"]["devtest"]["desed"]["PSDS1"]
    assert stated == pytest.approx(np.mean([of["sets"]["devtest"]["csebbs"]["psds1"] for of in ours]))
    names = zipfile.ZipFile("runs/both/submission.zip").namelist()
    energy = {Path(name).stem for name in names if name.endswith(".csv")}
    phases = [(phase, recipe, run) for phase in ("training", "test") for recipe in ("one", "two") for run in (1, 2, 3)]
    expected = {f"emissions_{phase}_{recipe}_run{run}" for phase, recipe, run in phases}
    assert energy == expected | {"emissions_logits_one_run1"}
    assert len(FAULTS) >= 20
    for seed, (name, (fault, rule)) in enumerate(FAULTS.items()):
        broken = Path(shutil.copytree(root, tmp_path / "broken" / str(seed)))
        fault(np.random.default_rng(seed))(broken)
        assert rule in {found.rule for found in check(broken, tiny_root)}, name
    again = ["package", "--ensemble", "two.yaml", "one.yaml", "--recipe", "one.yaml", "--run-dir", "runs/both"]
    assert main(TASK, [*again, "--runs", "1", "2", "3", f"data.root={tiny_root}", *SETTINGS]) == 1
    assert "not the ensemble of two.yaml, one.yaml; `evaluate --ensemble` makes it" in capsys.readouterr().err
