"""Frame-level pre-training of the real size: start of a training, scores of a validation; small here, whole if slow."""

from pathlib import Path

import numpy as np
import pytest

from common.run.config import load_config
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.data.framewise import load_strong
from task4_sed.evaluation.benchmark_index import FIRST, LAST, RECIPES, benchmark_index, start_up, write_index
from task4_sed.metrics.streamed import ScoresOnDisk


def test_labelled_clips_are_found_in_the_packs(tmp_path: Path) -> None:
    write_index(tmp_path, 400)
    clips = load_strong(load_config(Config, TASK.recipes, "pretrain_teacher", [f"data.root={tmp_path}"]).data, "train")
    assert set(clips.where[:, 0]) == {0, 1}
    assert len(clips.labels.clips) == 400
    for name, (pack, row) in zip(clips.labels.clips, clips.where.tolist(), strict=True):
        assert clips.packs[pack].names[row] == name
    for recipe in RECIPES:
        found = start_up(TASK.recipes, recipe, tmp_path, FIRST)
        assert found["memory, MB at most"] > found["memory beyond torch and Lightning, MB at most"] >= 0


@pytest.mark.slow
def test_two_million_clips() -> None:
    for found in benchmark_index(TASK.recipes).values():
        assert found["memory beyond torch and Lightning, MB at most"] < 500
        assert sum(value for stage, value in found.items() if stage.endswith("CPU s")) < 10
        for when in (FIRST, LAST):
            assert found[f"each loader process after {when} batches, of it dirty, MB"] < 150


def test_scores_on_disk_come_back_in_the_order_of_the_clips(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float16)
    kept = ScoresOnDisk(tmp_path)
    for chosen in ([3, 0], [4, 1], [2, 3]):  # across processes some come twice
        kept.put(np.array(chosen), scores[chosen].astype(np.float32))
    np.testing.assert_array_equal(kept[1:4], scores[1:4])
    np.testing.assert_array_equal(kept[0:5], scores)
    assert not list(tmp_path.iterdir())
