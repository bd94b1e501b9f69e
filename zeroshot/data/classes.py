"""What is carried of ESC-50's and OpenMIC's classes: categories, counterparts in AudioSet, published class folds."""

from functools import cache
from pathlib import Path

from common.run.files import read_rows
from zeroshot.config import Layout

CARRIED = Path(__file__).parent
# Class folds of ESC-50 that follow-up work uses, given as those of Xie and Virtanen (2019).
ESC50_FOLDS = tuple(
    tuple(fold.split())
    for fold in (
        "brushing_teeth church_bells clock_tick cow drinking_sipping "
        "fireworks helicopter mouse_click pig washing_machine",
        "clapping crickets glass_breaking hand_saw keyboard_typing laughing siren sneezing thunderstorm vacuum_cleaner",
        "breathing chainsaw chirping_birds coughing door_wood_creaks door_wood_knock frog pouring_water rain train",
        "airplane can_opening crying_baby engine footsteps hen insects rooster snoring toilet_flush",
        "car_horn cat clock_alarm crackling_fire crow dog sea_waves sheep water_drops wind",
    )
)


def words(name: str) -> str:
    """A class as one would say it: `crackling_fire` -> crackling fire."""
    return " ".join(name.replace("_", " ").split())


@cache
def carried(layout: Layout) -> tuple[dict[str, str], ...]:
    """The table of ESC-50's or OpenMIC's classes: class, category, audioset (counterparts there, separated by `;`)."""
    return tuple(dict(row) for row in read_rows(CARRIED / f"{layout}.csv", ("class", "category", "audioset")))


def counterparts(layout: Layout) -> dict[str, tuple[str, ...]]:
    """{class of ESC-50 or OpenMIC: the same in AudioSet}; () where AudioSet has none."""
    return {row["class"]: tuple(filter(None, row["audioset"].split(";"))) for row in carried(layout)}
