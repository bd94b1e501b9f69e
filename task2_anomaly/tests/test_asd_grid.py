"""The study of proxy sets: its variations, one table, and going on where it was stopped."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from common.run.errors import UserError
from common.run.verbs import Run
from task2_anomaly.__main__ import TASK
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.studies import grid

STUDIES = ("proxies", "outside", "amounts", "blurs", "autoencoder")
MACHINES = "data.machines=[fan_id_00,ToyCar_id_01,ToyCar_id_05]"  # the last one has no labelled test clips


@pytest.fixture
def run(tiny: Callable[..., Config], tmp_path: Path) -> Run:
    return Run(TASK, "tiny", 1, tmp_path / "tiny" / "run1", tiny(MACHINES, "trainer.max_epochs=1"))


def test_the_papers_grid() -> None:
    cells = grid.cells(STUDIES)
    assert len(cells) == 5 + 2 + 13 + 11 + 1
    assert len({(cell.study, cell.name) for cell in cells}) == len(cells)
    assert [cell.name for cell in grid.cells(["amounts"], [4, 8])] == ["4 clips", "8 clips"]
    with pytest.raises(UserError, match=r"--studies: unknown study 'proxy'; did you mean 'proxies'\?"):
        grid.cells(["proxy"])


def test_a_variation_changes_what_it_names_and_nothing_else(run: Run) -> None:
    folders = set()
    for cell in grid.cells(STUDIES):
        own = grid.run_of(run, cell, 7)
        assert own.seed == own.config.seed == 7
        folders.add(own.folder)
        changed = {
            name for name in vars(run.config.data) if getattr(own.config.data, name) != getattr(run.config.data, name)
        }
        assert changed <= cell.data.keys()
        assert own.config.model.kind == (cell.kind or "classifier")
    assert len(folders) == len(grid.cells(STUDIES))
    assert grid.run_of(run, grid.cells(["blurs"])[1], 7).config.data.proxy_blur == 0.125


def table(run: Run) -> list[dict[str, str]]:
    with (run.folder.parent / "grid" / "grid.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_stopped_grid_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cells, seeds = grid.cells(["proxies", "blurs", "autoencoder"])[:6:5], (1, 2)
    assert [cell.study for cell in cells] == ["proxies", "blurs"]
    done: list[tuple[str, int, Machine]] = []

    def work(run: Run, machine: Machine) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append((run.folder.parent.name, run.seed, machine))
        real(run, machine)

    real = grid.train_and_score
    monkeypatch.setattr(grid, "train_and_score", work)
    with pytest.raises(KeyboardInterrupt):
        grid.run_grid(run, cells, seeds, jobs=1)
    first = list(done)
    done.clear()
    found = grid.run_grid(run, cells, seeds, jobs=1)
    assert len(done) == 3
    assert not set(first) & set(done)
    assert len({*first, *done}) == 2 * 2 * 2
    assert found["machines"] == 2
    rows = table(run)
    assert [(row["study"], row["variation"], row["seeds"]) for row in rows] == [
        ("proxies", "same_mic_same_type", "2"),
        ("blurs", "none", "2"),
    ]
    assert found["auc"]["blurs/none"] == pytest.approx(float(rows[1]["auc"]))
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("auc", "pauc"))
    assert "toy data, not comparable; mean over 2 development machines" in " ".join(capsys.readouterr().out.split())
    for study in ("proxies", "blurs"):
        assert (run.folder.parent / "grid" / f"{study}.png").is_file()

    # A subset of what is there only makes its table; a score file that was removed is made again.
    done.clear()
    grid.run_grid(run, cells[1:], seeds, jobs=1)
    assert not done
    assert len(table(run)) == 1
    missing = grid.run_of(run, cells[1], 2).folder / "scores" / "dev_test" / "anomaly_score_ToyCar_id_01.csv"
    content = missing.read_bytes()
    missing.unlink()
    grid.run_grid(run, cells[1:], seeds, jobs=1)
    assert done == [("none", 2, Machine("ToyCar", 1))]
    assert missing.read_bytes() == content


def test_amounts_that_a_data_set_does_not_have_are_left_out(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a machine of the tiny set stand 7 others of the same set-up with 6 clips each."""
    kept = grid._possible(run, grid.cells(["amounts"], [4, 42, 43]), [Machine("fan", 0)])
    assert [cell.data["proxy_clips"] for cell in kept] == [4, 42]
    assert "amounts, 43 clips: left out, the smallest proxy set has 42 clips" in capsys.readouterr().out
    with pytest.raises(UserError, match="grid: no variation that this data set is large enough for"):
        grid._possible(run, grid.cells(["amounts"], [4096]), [Machine("fan", 0)])


def test_a_network_that_fails_is_named_and_the_others_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def work(run: Run, machine: Machine) -> None:
        seen.append(machine)
        if machine.type == "fan":
            raise UserError("no luck")

    monkeypatch.setattr(grid, "train_and_score", work)
    with pytest.raises(UserError, match=r"seed1, fan_id_00: no luck \(1 of 2 networks failed\)"):
        grid.run_grid(run, grid.cells(["proxies"])[:1], (1,), jobs=1)
    assert len(seen) == 2


def test_only_classifiers_have_proxies(tiny: Callable[..., Config], tmp_path: Path) -> None:
    run = Run(TASK, "tiny", 1, tmp_path / "run1", tiny("model.kind=ae_workshop"))
    with pytest.raises(UserError, match=r"grid: model.kind is ae_workshop, the study is one of classifiers"):
        grid.run_grid(run, grid.cells(["proxies"]), (1,), jobs=1)
