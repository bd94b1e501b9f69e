"""Wrong input as a user meets it: every mistake ends with exit code 1 and one line that says what would be right."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import torch

if TYPE_CHECKING:
    from tests.conftest import Place

    Change = Callable[[Place], Any]

RECIPE = Path(__file__).parent.parent / "task4_sed" / "tests" / "tiny.yaml"
SYNTH = "dcase_synth/metadata/train/synthetic21_train/soundscapes.tsv"
DEVTEST, DEVTEST_DURATIONS = "metadata/validation/validation.tsv", "metadata/validation/validation_durations.tsv"
RUN = "runs/run1"
EVALUATE = "evaluate --scores {here}/scores --ground-truth {here}/data/" + DEVTEST
EVALUATE_WHOLE = f"{EVALUATE} --durations {{here}}/data/{DEVTEST_DURATIONS}"


def line(name: str, number: int, text: str) -> Change:
    return lambda place: place.change_line(name, number, text)


def write(name: str, content: str | bytes) -> Change:
    return lambda place: place.write(name, content)


def remove(name: str) -> Change:
    def change(place: Place) -> None:
        path = place / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def truncate(name: str) -> Change:
    return lambda place: place.truncate(name)


def nothing(place: Place) -> None:
    pass


def scored_clip(place: Place) -> Path:
    """The scores of a clip that has events."""
    name = (place / "data" / DEVTEST).read_text().splitlines()[1].split("\t")[0]
    return place / "scores" / f"{name.removesuffix('.wav')}.tsv"


def change_scores(edit: Callable[[list[list[str]]], Any]) -> Change:
    """Edit the rows (with header) of the scores of one clip."""

    def change(place: Place) -> None:
        path = scored_clip(place)
        rows = [row.split("\t") for row in path.read_text().splitlines()]
        edit(rows)
        place.write(f"scores/{path.name}", "\n".join("\t".join(row) for row in rows) + "\n")

    return change


def set_cell(row: int, column: int, text: str) -> Change:
    return change_scores(lambda rows: rows[row].__setitem__(column, text))


def swap_rows(rows: list[list[str]]) -> None:
    rows[2], rows[3] = rows[3], rows[2]


def other_model(place: Place) -> None:
    checkpoint = torch.load(place / f"{RUN}/checkpoints/best.ckpt", weights_only=True)
    checkpoint["sed"]["model"]["rnn_hidden"] = 12
    torch.save(checkpoint, place / "other.ckpt")


def archive(*members: str) -> Change:
    def change(place: Place) -> None:
        with zipfile.ZipFile(place / "archive.zip", "w") as zipped:
            for member in members:
                zipped.writestr(member, "onset\toffset\n" * 100)

    return change


def tones(*names: str) -> Change:
    def change(place: Place) -> None:
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(place / name, np.sin(np.arange(8000) / 9) / 4, 8000)

    return change


def recordings(place: Place) -> None:
    rows = [f"{c}{fold}.wav\t{fold}\t{c}".replace("\t", ",") for c in ("dog", "cat") for fold in (1, 2, 3, 4)]
    place.write("esc/meta.csv", "\n".join(["filename,fold,category", *rows]) + "\n")


FROM = "prepare --from-recordings {here}/esc --out {here}/made --clips 2"
ROW = "0.wav\t{}\t{}\t{}"
CASES: dict[str, tuple[str, Change, str]] = {
    # name: (command, what is done to the folder before, pattern of the message)
    # --- the data set
    "no data root": ("prepare data.root={here}/no data.toy=null", nothing, r"here/no: data set not found"),
    "no data root in train": ("train --runs 2 data.root={here}/no", nothing, r"here/no: data set not found"),
    "data root is a file": ("prepare data.root={here}/data/toy.json data.toy=null", nothing, r"toy\.json: is a file"),
    "recipe without data": ("train --runs 2 --recipe baseline data.root=null", nothing, r"data\.root=DIR"),
    "empty data root": ("prepare data.root={here}/e data.toy=null", lambda p: (p / "e").mkdir(), r"here/e: no audio"),
    "annotation missing": ("prepare", remove(f"data/{SYNTH}"), r"synth_train.*soundscapes\.tsv: annotation not found"),
    "annotation missing in train": ("train --runs 2", remove(f"data/{SYNTH}"), r"soundscapes\.tsv: annotation of"),
    "annotation empty": ("prepare", write(f"data/{SYNTH}", ""), r"soundscapes\.tsv: empty, expected a header"),
    "annotation binary": ("prepare", write(f"data/{SYNTH}", b"\xff\xfe\x00\x01"), r"soundscapes\.tsv: not a text file"),
    "wrong column": (
        "prepare",
        line(f"data/{SYNTH}", 1, "filename\tonset\toffset\tevent_lable"),
        r"soundscapes\.tsv:1: no column 'event_label'; did you mean 'event_lable'",
    ),
    "missing field": ("prepare", line(f"data/{SYNTH}", 3, "0.wav\t1\t2"), r"soundscapes\.tsv:3: 3 fields, expected 4"),
    "unknown class": (
        "prepare",
        line(f"data/{SYNTH}", 3, ROW.format(1, 2, "Dogg")),
        r"soundscapes\.tsv:3: unknown class 'Dogg'; did you mean 'Dog'",
    ),
    "onset after offset": (
        "prepare",
        line(f"data/{SYNTH}", 3, ROW.format(4, 3, "Dog")),
        r"soundscapes\.tsv:3: offset 3 is not after onset 4",
    ),
    "onset no number": (
        "prepare",
        line(f"data/{SYNTH}", 3, ROW.format("x", 3, "Dog")),
        r"tsv:3: onset is 'x', expected",
    ),
    "event past the end": (
        "prepare",
        lambda p: p.change_line(f"data/{DEVTEST}", 2, scored_clip(p).stem + ".wav\t1\t25\tDog"),
        r"validation\.tsv:2: offset 25 is past the end of the clip \(\d+\.?\d* s\)",
    ),
    "event before the start in evaluate": (
        "evaluate",
        lambda p: p.change_line(f"data/{DEVTEST}", 2, scored_clip(p).stem + ".wav\t-1\t2\tDog"),
        r"validation\.tsv:2: onset -1 is negative",
    ),
    "duration no number": (
        "prepare",
        line(f"data/{DEVTEST_DURATIONS}", 2, "0.wav\tlong"),
        r"durations\.tsv:2: duration is 'long', expected a number",
    ),
    "unknown weak class": (
        "prepare",
        line("data/metadata/train/weak.tsv", 2, "a.wav\tSpeech,Dogg"),
        r"weak\.tsv:2: unknown class 'Dogg'; did you mean 'Dog'",
    ),
    "confidence above 1": (
        "prepare",
        line("data/metadata/maestro_real_train.tsv", 2, "cafe_restaurant_00-000000-001000.wav\t0\t1\tfootsteps\t1.5"),
        r"maestro_real_train\.tsv:2: confidence 1\.5 is outside 0 to 1",
    ),
    "class listed twice": (
        "prepare",
        write("data/classes.tsv", "event_label\nDog\nDog\n"),
        r"classes\.tsv: expected at least one class, each once",
    ),
    "set that the recipe needs": (
        "prepare",
        remove("data/audio/train/weak_16k"),
        r"needs data set weak, but .*audio/train/weak_16k: no audio found",
    ),
    "not prepared": (
        "train --runs 2",
        remove("data/packed"),
        r"packed/\w+: packed audio not found; `prepare` makes it",
    ),
    "damaged pack": (
        "train --runs 2",
        truncate("data/packed/synth_train/00000.h5"),
        r"00000\.h5: .* run prepare again",
    ),
    "no space for packs": ("prepare data.packs={here}/data/toy.json/packs", nothing, r"toy\.json.*[Nn]ot a directory"),
    # --- settings
    "unknown setting": ("train optimizer.lrr=1", nothing, r"optimizer\.lrr=1: unknown setting; did you mean 'lr'"),
    "wrong type": ("train seed=many", nothing, r"seed=many: is 'many', expected int"),
    "out of range": ("train optimizer.lr=-1", nothing, r"optimizer\.lr=-1: is -1, expected 0 or more"),
    "unknown recipe": ("train --recipe tiy", nothing, r"no recipe 'tiy'; did you mean 'toy'"),
    "recipe not found": ("train --recipe {here}/no.yaml", nothing, r"no\.yaml: recipe not found"),
    "recipe with broken yaml": (
        "train --recipe {here}/r.yaml",
        write("r.yaml", "extends: toy\nseed: 1\ndata: {root: x\n"),
        r"r\.yaml:\d: not valid YAML",
    ),
    "recipe with unknown setting": (
        "train --recipe {here}/r.yaml",
        write("r.yaml", "extends: toy\ntrainer:\n  max_epoch: 3\n"),
        r"r\.yaml:3: trainer\.max_epoch: unknown setting; did you mean 'max_epochs'",
    ),
    "recipe extends itself": (
        "train --recipe {here}/r.yaml",
        write("r.yaml", "extends: r.yaml\n"),
        r"r\.yaml: extends itself",
    ),
    "unknown data set": (
        "train --runs 2 data.blocks.weak.sets=[weakk]",
        nothing,
        r"data\.blocks\.weak\.sets=\[weakk\]: unknown data set 'weakk'; did you mean 'weak'",
    ),
    "unknown data set in a recipe": (
        "prepare --recipe {here}/r.yaml",
        lambda p: p.write("r.yaml", f"extends: {RECIPE}\ntest_sets:\n  - devtests\n"),
        r"r\.yaml:2: test_sets: unknown data set 'devtests'; did you mean 'devtest'",
    ),
    "data set of another part": (
        "train --runs 2 validation.sets=[devtest]",
        nothing,
        r"devtest has no validation part",
    ),
    "batch larger than the set": (
        "train --runs 2 data.blocks.weak.batch=99",
        nothing,
        r"data\.blocks\.weak: batch is 99, but its sets have only \d clips",
    ),
    "unknown post-processing": (
        "evaluate postprocess.csebbs=tune:everything",
        nothing,
        r"no grid 'everything'; known: default, organisers, winner",
    ),
    # --- the command line
    "unknown verb": ("trian", nothing, r"unknown verb 'trian'; did you mean 'train'"),
    "unknown option": ("train --restrat", nothing, r"unknown option '--restrat'; did you mean '--restart'"),
    "word without meaning": ("train now", nothing, r"train: unexpected argument 'now'; a setting is .*key=value"),
    "run 0": ("train --runs 0", nothing, r"--runs: '0', expected numbers of trainings"),
    "option without value": ("predict --checkpoint", nothing, r"--checkpoint: expected"),
    # --- checkpoints
    "no checkpoint": ("predict --checkpoint {here}/no.ckpt", nothing, r"no\.ckpt: checkpoint not found"),
    "checkpoint of another model": (
        "predict --checkpoint {here}/other.ckpt",
        other_model,
        r"other\.ckpt: checkpoint of another model: \d+ misshapen \(\S+ is \(.*\), expected \(",
    ),
    "truncated checkpoint": (
        f"predict --checkpoint {{here}}/{RUN}/checkpoints/last.ckpt",
        truncate(f"{RUN}/checkpoints/last.ckpt"),
        r"last\.ckpt: not a readable checkpoint",
    ),
    "text as checkpoint": (
        "predict --checkpoint {here}/a.txt",
        write("a.txt", "hello"),
        r"a\.txt: not a readable check",
    ),
    "damaged checkpoint": (
        "predict",
        lambda p: p.write(f"{RUN}/checkpoints/best.ckpt", (p / f"{RUN}/checkpoints/best.ckpt").read_bytes() + b"x"),
        r"best\.ckpt: SHA-256 differs",
    ),
    # --- files that people name
    "audio file missing": ("predict {here}/no.wav --out {here}/out", nothing, r"no\.wav: audio file not found"),
    "empty folder": (
        "predict {here}/e --out {here}/out",
        lambda p: (p / "e").mkdir(),
        r"here/e: no audio in this folder",
    ),
    "threshold above 1": ("predict {here}/x.wav --threshold 2", tones("x.wav"), r"--threshold is 2, expected 0 to 1"),
    "threshold no number": ("predict {here}/x.wav --threshold x", tones("x.wav"), r"--threshold: .*'x'"),
    "unknown boxes": ("predict {here}/x.wav --csebbs filtr=1 --out {here}/o", tones("x.wav"), r"filtr=1.*filter"),
    # --- scores
    "scores without truth": ("evaluate --scores {here}/scores", nothing, r"needs --ground-truth and --durations"),
    "no truth": (EVALUATE_WHOLE, remove(f"data/{DEVTEST}"), r"validation\.tsv: ground truth not found"),
    "no durations": (EVALUATE_WHOLE, remove(f"data/{DEVTEST_DURATIONS}"), r"durations\.tsv: table not found"),
    "no scores": (EVALUATE_WHOLE, remove("scores"), r"here/scores: score file or folder not found"),
    "scores of no clip": (
        EVALUATE_WHOLE,
        lambda p: (remove("scores")(p), (p / "scores").mkdir()),
        r"here/scores: no \.tsv file, expected one <clip>\.tsv",
    ),
    "scores with a missing clip": (
        EVALUATE_WHOLE,
        lambda p: scored_clip(p).unlink(),
        r"here/scores: no scores of \S+, which has events in the ground truth .*--allow-missing",
    ),
    "unsorted scores": (EVALUATE_WHOLE, change_scores(swap_rows), r"\.tsv:3: onset .* not sorted|\.tsv:3: .*gap"),
    "NaN scores": (EVALUATE_WHOLE, set_cell(4, 5, "nan"), r"\.tsv:5: \S+ is 'nan', expected a finite number"),
    "scores with a word": (EVALUATE_WHOLE, set_cell(4, 5, "loud"), r"\.tsv:5: \S+ is 'loud', expected a number"),
    "scores with another header": (EVALUATE_WHOLE, set_cell(0, 0, "start"), r"\.tsv:1: .*'onset'"),
    "scores of another class": (EVALUATE_WHOLE, set_cell(0, 6, "Dogs"), r"\.tsv:1: .*(Dogs|'Dog')"),
    "truncated stored scores": ("evaluate", truncate(f"{RUN}/scores/devtest.h5"), r"devtest\.h5: not a readable HDF5"),
    "unknown boxes of scores": (f"{EVALUATE_WHOLE} --csebbs tune:all", nothing, r"all"),
    # --- archives
    "no archive": ("validate {here}/no.zip", nothing, r"no\.zip: archive or folder not found"),
    "no archive named": ("validate", nothing, r"name at least one archive"),
    "archive that leads out": (
        "validate {here}/archive.zip",
        archive("../evil.tsv"),
        r"archive\.zip: .*'\.\./evil\.tsv'",
    ),
    "truncated archive": (
        "validate {here}/archive.zip",
        lambda p: (archive("a/b.tsv", "a/c.tsv")(p), p.truncate("archive.zip")),
        r"archive\.zip: truncated or damaged",
    ),
    "text as archive": ("validate {here}/a.zip", write("a.zip", "hello"), r"a\.zip: neither a folder nor a \.zip"),
    "folder without a system": ("validate {here}/scores", nothing, r"here/scores: not a valid submission"),
    # --- recordings
    "no meta.csv": (FROM, lambda p: (p / "esc").mkdir(), r"esc/meta\.csv: table not found"),
    "no folder of recordings": (FROM, nothing, r"here/esc: folder of recordings not found"),
    "recording missing": (FROM, recordings, r"(dog|cat)\d\.wav: listed in meta\.csv, not found"),
    "folds of nonsense": (f"{FROM} --folds tain=1", recordings, r"--folds: 'tain=1', expected e\.g\. train=1,2"),
    "fold without numbers": (f"{FROM} --folds train=", recordings, r"--folds: 'train=', expected"),
    "fold that is not there": (f"{FROM} --folds train=9", recordings, r"has no fold 9 .*its folds are 1, 2, 3, 4"),
    "recordings without out": ("prepare --from-recordings {here}/esc", recordings, r"needs --out DIR"),
    "folds without recordings": ("prepare --folds train=1", nothing, r"--folds go with --from-recordings"),
    # --- the order of verbs
    "other settings": (
        "train optimizer.lr=0.5",
        nothing,
        r"runs/run1: holds a run with other settings: optimizer\.lr: \S+ there, 0\.5 now; --restart",
    ),
    "predict before train": ("predict --runs 2", nothing, r"runs/run2: no finished training; `train` makes one"),
    "evaluate before predict": (
        "evaluate --runs 2",
        nothing,
        r"scores/\w+\.h5: scores \(`predict` makes them\) not found",
    ),
    "package before evaluate": ("package --runs 1 2 3", nothing, r"runs/run1.*`evaluate` makes"),
    "package of one run": ("package", nothing, r"3 independent trainings: --runs 1 2 3"),
    "compare before evaluate": ("compare", nothing, r"runs/run1/results\.json: no test results; `evaluate` makes them"),
    "compare before train": ("compare --runs 2", nothing, r"runs/run2/results\.json: .*`train` makes"),
    "package without authors": ("package submission=null", nothing, r"says nothing about `submission`"),
    "damaged results": ("evaluate", write(f"{RUN}/results.json", "{"), r"results\.json:1: not valid JSON"),
    "damaged config of a run": ("train", write(f"{RUN}/config.yaml", "a: [\n"), r"config\.yaml.*not valid YAML"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_what_would_be_right(
    name: str, request: pytest.FixtureRequest, error_line: Callable[[], str]
) -> None:
    command, change, pattern = CASES[name]
    place: Place = request.getfixturevalue("user_folder" if change is nothing else "place")
    change(place)
    before = place.files()
    assert place.run(*command.split()) == 1
    message = error_line()
    assert re.search(pattern, message), message
    made = place.files() - before
    assert not {path for path in made if ".partial" in path}
    # `evaluate` writes what it tuned before it scores, `prepare` its lists before it says what is missing.
    assert all(path.endswith((f"{RUN}/csebbs.tsv", ".missing.tsv", "coverage.json")) for path in made), made
