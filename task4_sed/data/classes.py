"""The classes of DESED and MAESTRO Real, their aliases, and which of them a clip of each data set is labelled for.

Order and spelling are those of the challenge's label encoder and of the submission's score columns.
"""

from collections.abc import Sequence

DESED_CLASSES = (
    "Alarm_bell_ringing",
    "Blender",
    "Cat",
    "Dishes",
    "Dog",
    "Electric_shaver_toothbrush",
    "Frying",
    "Running_water",
    "Speech",
    "Vacuum_cleaner",
)

MAESTRO_CLASSES = (
    "cutlery and dishes",
    "furniture dragging",
    "people talking",
    "children voices",
    "coffee machine",
    "footsteps",
    "large_vehicle",
    "car",
    "brakes_squeaking",
    "cash register beeping",
    "announcement",
    "shopping cart",
    "metro leaving",
    "metro approaching",
    "door opens/closes",
    "wind_blowing",
    "birds_singing",
)

CLASSES = DESED_CLASSES + MAESTRO_CLASSES

# The classes with enough events above a confidence of 0.5 to be scored.
MAESTRO_SCORED_CLASSES = (
    "birds_singing",
    "car",
    "people talking",
    "footsteps",
    "children voices",
    "wind_blowing",
    "brakes_squeaking",
    "large_vehicle",
    "cutlery and dishes",
    "metro approaching",
    "metro leaving",
)

# Labels of one data set that also say something about a class of the other one.
MAESTRO_TO_DESED = {
    "people talking": "Speech",
    "children voices": "Speech",
    "announcement": "Speech",
    "cutlery and dishes": "Dishes",
}
DESED_TO_MAESTRO = {"Speech": "people talking", "Dishes": "cutlery and dishes"}

# Frames of the median filter per class, in the order of CLASSES (tuned by the organisers' baseline).
MEDIAN_FILTER_FRAMES = dict(
    zip(
        CLASSES,
        (3, 9, 9, 5, 5, 5, 9, 7, 11, 9, 7, 3, 9, 13, 7, 1, 13, 3, 13, 7, 5, 5, 1, 13, 17, 13, 15),
        strict=True,
    )
)


def median_frames(classes: Sequence[str], other: int = 7) -> dict[str, int]:
    """Lengths of the median filter; `other` for classes that are neither DESED's nor MAESTRO's."""
    return {name: MEDIAN_FILTER_FRAMES.get(name, other) for name in classes}


def scored_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Classes of the strong labels that count: DESED's, or all of a data set with classes of its own."""
    return DESED_CLASSES if tuple(classes) == CLASSES else tuple(classes)


FRAME_SECONDS = 0.064  # one score: hop 256 x pooling 4 at 16 kHz
FRAMES_PER_CLIP = 156
CLIP_SECONDS = 10.0
SAMPLE_RATE = 16000
