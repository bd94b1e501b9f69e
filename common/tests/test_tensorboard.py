"""What TensorBoard gets beside the curves: settings with main figures, pictures; read back by TensorBoard itself."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.run import plots
from common.run.results.store import record
from common.run.settings import TrainerConfig
from common.run.tensorboard import flat, summarise
from common.run.verbs import Run, Task


@dataclass(frozen=True)
class Settings:
    seed: int = 3
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run as training leaves it, as far as its summary goes."""
    made = Run(Task("common", "", Settings, ()), "own", 2, tmp_path / "run2", Settings())
    record(made.folder, "train", {"monitor": "val/f1", "best": {"val/f1": 0.8, "val/loss": 1.0}, "steps": 12})
    return made


def shown(run: Run) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run.folder / "tensorboard")).Reload()


def hparams_in(run: Run) -> tuple[dict[str, Any], list[str]]:
    """Settings and metrics as TensorBoard's HParams has them."""
    from tensorboard.plugins.hparams import metadata as of

    content = {tag: about.plugin_data.content for tag, about in shown(run).summary_metadata.items()}
    session = of.parse_session_start_info_plugin_data(content[of.SESSION_START_INFO_TAG])
    metrics = of.parse_experiment_plugin_data(content[of.EXPERIMENT_TAG]).metric_infos
    settings = {name: getattr(value, value.WhichOneof("kind")) for name, value in session.hparams.items()}
    return settings, [metric.name.tag for metric in metrics]


def test_settings_stand_beside_the_best_figure(run: Run) -> None:
    summarise(run)
    settings, metrics = hparams_in(run)
    assert (settings["trainer.max_epochs"], settings["trainer.accelerator"], settings["seed"]) == (100, "auto", 4)
    assert metrics == ["best/val/f1"]
    (best,) = shown(run).Scalars("best/val/f1")
    assert (best.step, best.value) == (12, pytest.approx(0.8))


def test_figures_and_pictures_replace_earlier_ones_without_a_thread(run: Run, tmp_path: Path) -> None:
    plots.save(plots.new_figure(2.0, 1.0), tmp_path / "a.png")
    before = set(threading.enumerate())
    for value in (0.4, 0.5):
        summarise(run, {"test/f1": value, "unknown": None}, {"roll": tmp_path / "a.png", "no": tmp_path / "b.png"})
    assert set(threading.enumerate()) == before
    assert hparams_in(run)[1] == ["best/val/f1", "test/f1"]
    assert [of.value for of in shown(run).Scalars("test/f1")] == [0.5]
    (image,) = shown(run).Images("roll")
    assert (image.width, image.height, image.encoded_image_string) == (300, 150, (tmp_path / "a.png").read_bytes())
    assert len(list((run.folder / "tensorboard").iterdir())) == 1


def test_ctrl_c_leaves_the_earlier_summary(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    summarise(run)
    before = {path: path.read_bytes() for path in (run.folder / "tensorboard").iterdir()}

    def stopped(writer: RecordWriter, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RecordWriter, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        summarise(run, {"test/f1": 0.5})
    assert {path: path.read_bytes() for path in (run.folder / "tensorboard").iterdir()} == before


def test_settings_have_the_names_of_overrides() -> None:
    config = {"seed": 1, "data": {"root": "x", "blocks": {"a": [1, 2]}, "rate": None}}
    assert flat(config) == {"seed": 1, "data.root": "x", "data.blocks.a": "[1, 2]", "data.rate": "None"}
