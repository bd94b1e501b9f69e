"""Energy in kWh, measured by codecarbon without network access."""

import logging
import math
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.run.errors import UserError
from common.run.files import read_rows, write_rows


@dataclass
class EnergyConfig:
    """How energy is measured."""

    enabled: bool = True
    country: str = "AUT"  # ISO code; only the emission factor depends on it, not the kWh


def energy_text(kwh: float, spread: float | None = None) -> str:
    """Three digits in the unit that suits, with a spread (kWh too) in the same: `0.241 Wh`, `1.67 ± 0.13 kWh`."""
    factor, unit = (1.0, "kWh") if kwh >= 1 else (1000.0, "Wh")
    value = factor * kwh
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    texts = [f"{factor * of:,.{max(0, min(decimals, 6))}f}" for of in (kwh, spread) if of is not None]
    return f"{' ± '.join(texts)} {unit}"


def cost_text(kwh: float, config: EnergyConfig) -> str:
    """What a training cost, as a sentence for the person."""
    return f"this training cost {energy_text(kwh)}" if config.enabled else "its energy was not measured"


@dataclass
class Meter:
    """Energy of one phase of a run, summed over all sessions that were needed for it."""

    file: Path
    tracker: Any = field(default=None, repr=False)

    def flush(self) -> None:
        """Write what was measured so far; a killed process loses no more than what came after."""
        if self.tracker is not None:
            self.tracker.flush()

    @property
    def kwh(self) -> float:
        """Energy of all sessions so far, in kWh; 0 where nothing was measured."""
        if not self.file.is_file():
            return 0.0
        return sum(row.number("energy_consumed") for row in read_rows(self.file, ("run_id", "energy_consumed")))


@contextmanager
def measure(folder: Path, phase: str, config: EnergyConfig, anew: bool = False) -> Iterator[Meter]:
    """Measure the block's energy into `<folder>/codecarbon/emissions_<phase>.csv`, one row a session; anew: in place of
    what is there.

    Without a power meter codecarbon estimates from the processor's model and load. Switched off, it says so in the
    results: 0 kWh and `measured: false`.
    """
    file = folder / "codecarbon" / f"emissions_{phase}.csv"
    if anew:
        file.unlink(missing_ok=True)
    if not config.enabled:
        yield Meter(file)
        return
    logging.disable(logging.WARNING)  # codecarbon greets before it reads its log level
    try:
        tracker = _tracker(file, folder.name, config.country)
        tracker.start()
    except Exception as error:
        raise UserError(f"codecarbon cannot measure energy here ({error}); energy.enabled=false runs without") from None
    finally:
        logging.disable(logging.NOTSET)
    try:
        yield Meter(file, tracker)
    finally:
        tracker.stop()


def _tracker(file: Path, project: str, country: str) -> Any:
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.output_methods.base_output import BaseOutput

    earlier = read_rows(file, ("run_id",)) if file.is_file() else []

    class Table(BaseOutput):
        """codecarbon's own CSV columns; rewritten whole, so that kill -9 cannot leave half a row."""

        def out(self, total: Any, delta: Any) -> None:
            values = total.values
            rows = [[row.get(column, "") for column in values] for row in earlier]
            write_rows(file, list(values), [*rows, list(values.values())])

    return OfflineEmissionsTracker(
        project_name=project,
        country_iso_code=country,
        output_methods=[],
        output_handlers=[Table()],
        measure_power_secs=15,
        # Work beside other work: its own share of the processor, not the whole machine.
        tracking_mode="process" if multiprocessing.parent_process() else "machine",
        log_level="error",
        allow_multiple_runs=True,
    )
