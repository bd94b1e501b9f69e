"""Task 2: anomalous sound detection for machine condition monitoring (DCASE 2020, and the first-shot editions)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def judge(
    recording: "str | Path | np.ndarray",
    checkpoint: str | Path,
    sample_rate: int | None = None,
    machine: str | None = None,
) -> dict[str, Any]:
    """Whether a recording of a machine is an anomaly: {"score", "threshold", "anomalous"}, as `predict FILE`.

    recording: an audio file of any length, rate and number of channels, or an array (samples,) in [-1, 1] at
    `sample_rate` Hz. checkpoint: the folder of the machine in a run (`.../run1/machines/fan_id_00`), or a checkpoint in
    it, of which `predict` must have stored the scores of normal clips that the threshold comes from; or a folder that
    `export` wrote. machine: whose recording it is, where the network is one of several (`.../machines/fan_dev`). Raises
    UserError for what cannot be read.
    """
    from task2_anomaly.inference.predict import judge

    return judge(recording, checkpoint, sample_rate, machine)
