"""Task 2: anomalous sound detection for machine condition monitoring (DCASE 2020, and the first-shot editions)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def judge(
    recording: "str | Path | np.ndarray", checkpoint: str | Path, sample_rate: int | None = None
) -> dict[str, Any]:
    """{"score", "threshold", "anomalous"} of a recording, by what the training of one machine has learnt.

    recording: an audio file, or samples (samples,) or (channels, samples) at `sample_rate` Hz. checkpoint: the
    machine's folder in a run, such as runs/task2_anomaly/toy/run1/machines/fan_id_00, or a checkpoint in it; `predict`
    has stored the scores that its threshold comes from. Raises UserError, as `predict FILES` does.
    """
    from task2_anomaly.inference.predict import judge_recording

    verdict = judge_recording(recording, Path(checkpoint), sample_rate)
    return {"score": verdict.score, "threshold": verdict.limit, "anomalous": verdict.anomalous}
