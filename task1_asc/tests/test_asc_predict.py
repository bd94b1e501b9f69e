"""What predicting says when splits or file names do not fit; the runs themselves are in test_asc_verbs."""

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
    out = tmp_path / "scenes.csv"
    assert main(TASK, ["predict", str(recordings), "--out", str(out), *usual]) == 0
    assert main(TASK, ["predict", str(recordings / "first"), "--out", str(out), *usual]) == 0
    names = [line.split("\t")[0] for line in out.read_text().splitlines()[1:]]
    assert names == ["first-clip.wav", "second-clip.wav", "clip.wav"]
