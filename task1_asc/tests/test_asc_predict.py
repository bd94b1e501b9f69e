"""What predicting says when splits or file names do not fit; the runs themselves are in test_asc_verbs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.run.errors import UserError
from common.run.verbs import Run, main, open_run
from task1_asc.__main__ import TASK
from task1_asc.inference.checkpoints import load_exportable, load_network
from task1_asc.inference.predict import predict_run, store_logits
from task1_asc.tests.conftest import TINY

ONLY_100 = r"run1: no finished training of split 5, 25, only of 100; data\.splits=\[100\] takes what is there"


def run_of(untrained: Path, *splits: int) -> Run:
    words = [f"data.splits={list(splits)}", f"data.root={untrained}"]
    return open_run(TASK, str(TINY), words, 1, untrained.parents[1])


def test_one_split_is_trained_and_others_are_asked_for(untrained: Path) -> None:
    run = run_of(untrained, 5, 25, 100)
    for verb in (lambda: predict_run(run, None), lambda: store_logits(run)):
        with pytest.raises(UserError, match=ONLY_100):
            verb()
    for load in (load_network, load_exportable):
        with pytest.raises(UserError, match="no finished training of split 25, only of 100"):
            load(run, 25)
    assert load_network(run_of(untrained, 100), 100)[0] is not None
    shutil.rmtree(untrained)
    with pytest.raises(UserError, match="split5: no finished training; `train` makes one"):
        load_network(run, 5)


def test_files_of_one_name_are_told_apart_in_a_table_without_folders(untrained: Path, tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    for folder in ("first", "second"):
        (recordings / folder).mkdir(parents=True)
        soundfile.write(recordings / folder / "clip.wav", np.zeros(800), 8000)
    usual = ["--recipe", str(TINY), "--run-dir", str(untrained.parents[1]), "data.splits=[100]"]
    out = tmp_path / "scenes"
    assert main(TASK, ["predict", str(recordings), "--out", str(out), *usual]) == 0
    assert main(TASK, ["predict", str(recordings / "first"), "--out", str(out), *usual]) == 0
    names = [line.split("\t")[0] for line in (out / "scores" / "output.csv").read_text().splitlines()[1:]]
    assert names == ["first-clip.wav", "second-clip.wav", "clip.wav"]
    stems = ("clip", "first-clip.wav", "second-clip.wav")
    written = {f"{stem}{kind}" for stem in stems for kind in (".json", ".tsv")}
    assert {path.name for path in out.iterdir()} == {*written, "scores"}
    about = json.loads((out / "clip.json").read_text())
    assert about["duration"] == pytest.approx(0.1)
    rows = (out / "clip.tsv").read_text().splitlines()
    assert rows[0] == "filename\tscene_label\tprobability"
    assert rows[1].split("\t")[:2] == ["clip.wav", about["scene"]]
    assert len(rows) == 1 + len(about["probabilities"])


def test_a_file_of_somebody_else_is_not_replaced(
    untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "clip.wav", np.zeros(800), 8000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clip.tsv").write_text("mine")
    usual = ["--recipe", str(TINY), "--run-dir", str(untrained.parents[1]), "data.splits=[100]"]
    assert main(TASK, ["predict", str(tmp_path / "clip.wav"), "--out", str(tmp_path / "out"), *usual]) == 1
    assert "out/clip.tsv: is there and not of an earlier `predict`" in capsys.readouterr().err
    assert (tmp_path / "out" / "clip.tsv").read_text() == "mine"
