"""Energy: measured over sessions, switched off, and when it cannot be measured."""

from pathlib import Path

import pytest

from common.run import energy
from common.run.energy import EnergyConfig, Meter, cost_text, energy_text, measure
from common.run.errors import UserError
from common.run.files import read_rows, write_rows


@pytest.mark.parametrize(
    ("kwh", "spread", "text"),
    [
        (0.000241, None, "0.241 Wh"),
        (0.0005, None, "0.500 Wh"),
        (0.0195, 0.00041, "19.5 ± 0.4 Wh"),
        (0.7, None, "700 Wh"),
        (1.666, 0.125, "1.67 ± 0.12 kWh"),
        (223.3, None, "223 kWh"),
        (12_345.0, None, "12,345 kWh"),
        (0.0, None, "0 Wh"),
    ],
)
def test_energy_in_the_unit_that_suits(kwh: float, spread: float | None, text: str) -> None:
    assert energy_text(kwh, spread) == text


def test_what_a_training_cost_is_a_sentence() -> None:
    assert cost_text(0.0005, EnergyConfig()) == "this training cost 0.500 Wh"
    assert cost_text(0.0, EnergyConfig(enabled=False)) == "its energy was not measured"


def test_switched_off_there_is_no_energy_and_no_file(tmp_path: Path) -> None:
    with measure(tmp_path, "training", EnergyConfig(enabled=False)) as meter:
        meter.flush()
    assert meter.kwh == 0
    assert list(tmp_path.iterdir()) == []


def test_kwh_is_the_sum_of_the_sessions(tmp_path: Path) -> None:
    file = tmp_path / "emissions_test.csv"
    write_rows(file, ("run_id", "energy_consumed"), [("a", 0.25), ("b", 1e-3)])
    assert Meter(file).kwh == pytest.approx(0.251)
    file.write_text("run_id,energy_consumed\na,\n")
    with pytest.raises(UserError, match=r"emissions_test\.csv:2: energy_consumed is ''"):
        _ = Meter(file).kwh


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A run measured in two sessions; the kWh after a flush in the first, and after each."""
    folder, kwh = tmp_path_factory.mktemp("energy") / "run1", []
    with measure(folder, "training", EnergyConfig(country="FRA")) as meter:
        sum(range(300_000))
        meter.flush()
        kwh.append(meter.kwh)
    kwh.append(meter.kwh)
    with measure(folder, "training", EnergyConfig(country="FRA")) as meter:
        sum(range(300_000))
    kwh.append(meter.kwh)
    return folder / "codecarbon" / "emissions_training.csv", kwh


def test_a_session_is_a_row_and_a_second_one_goes_on(sessions: tuple[Path, list[float]]) -> None:
    file, (flushed, first, both) = sessions
    assert 0 < flushed <= first < both
    rows = read_rows(file, ("run_id", "energy_consumed", "country_iso_code", "project_name"))
    assert len(rows) == 2
    assert rows[0]["run_id"] != rows[1]["run_id"]
    assert {(row["country_iso_code"], row["project_name"]) for row in rows} == {("FRA", "run1")}
    assert sum(row.number("energy_consumed") for row in rows) == pytest.approx(both)


def test_the_table_has_the_columns_that_the_challenge_reads(sessions: tuple[Path, list[float]]) -> None:
    columns = ("timestamp", "duration", "energy_consumed", "cpu_power", "gpu_power", "ram_power", "country_name")
    (first, second) = read_rows(sessions[0], columns)
    assert first.number("duration") > 0
    assert second["country_name"] == "France"


def test_where_nothing_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> object:
        raise RuntimeError("no counter")

    monkeypatch.setattr(energy, "_tracker", broken)
    with (
        pytest.raises(UserError, match=r"codecarbon cannot measure energy here \(no counter\); energy\.enabled=false"),
        measure(tmp_path, "test", EnergyConfig()),
    ):
        pass


def test_an_interrupted_block_is_still_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    class Tracker:
        def start(self) -> None: ...

        def stop(self) -> None:
            stopped.append(True)

    monkeypatch.setattr(energy, "_tracker", lambda *args: Tracker())
    with pytest.raises(KeyboardInterrupt), measure(tmp_path, "test", EnergyConfig()):
        raise KeyboardInterrupt
    assert stopped == [True]
