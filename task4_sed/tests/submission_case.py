"""A small valid submission, for the tests of packing and of the rules."""

from pathlib import Path

import numpy as np

from common.run.submission.meta import Affiliation, Author
from common.run.submission.violations import Violation
from common.tests.submission_case import Mutation
from task4_sed.data.classes import CLASSES
from task4_sed.metrics.types import ClipScores, ScoreSet
from task4_sed.submission.meta import Complexity, Description, DevtestResults, SubmissionMeta
from task4_sed.submission.tables import RunScores
from task4_sed.submission.validate import validate

LABEL = "Muster_Uni-X_task4_1"
CLIPS = ("clip_a", "clip_b", "clip_c", "clip_d")
DURATIONS = dict.fromkeys((f"{clip}.wav" for clip in CLIPS), 10.0)
EDGES = np.append(np.arange(20) * 0.5, 9.984)
META = SubmissionMeta(
    label=LABEL,
    name="Fused transformer",
    abbreviation="FT",
    authors=[
        Author("Muster", "Eva", "eva@example.org", True, Affiliation("University of X", "UX", None, "Linz")),
        Author("Beispiel", "Max"),
    ],
    complexity=Complexity(1_234_567, macs=930_000_000, energy_training=1.5),
    results=DevtestResults(0.5, 0.73),
    description=Description(data_augmentation=["mixup"], post_processing="median filter"),
)
RUN1 = f"{LABEL}_run1.output"
TSV = f"{RUN1}/clip_b.tsv"
YAML = f"{LABEL}.meta.yaml"


def score_set(seed: int, classes: tuple[str, ...] = CLASSES) -> ScoreSet:
    random = np.random.default_rng(seed)
    return ScoreSet(classes, {clip: ClipScores(EDGES, random.random((20, len(classes)))) for clip in CLIPS})


RUNS = [RunScores(score_set(i), score_set(10 + i)) for i in range(3)]


def check(path: Path) -> list[Violation]:
    return validate(path, CLIPS, DURATIONS)


def remove(relative: str) -> Mutation:
    return lambda root: (root / LABEL / relative).unlink()


def write(relative: str, data: bytes = b"x") -> Mutation:
    def mutate(root: Path) -> None:
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_bytes(data)

    return mutate
