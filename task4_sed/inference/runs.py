"""The scores of several runs, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.run.errors import UserError, did_you_mean
from common.run.files import alone
from common.run.processes import all_done, default_jobs, usable_gpus
from common.run.progress import show_as
from common.run.verbs import Run, run_label
from task4_sed.config import SET_NAMES


def predict_runs(
    runs: Sequence[Run], checkpoint: Path | None, floors: bool, logits: Sequence[str] | None = None
) -> list[Mapping[str, Any]]:
    """Store the scores of every run on the recipe's data sets, as many side by side as trainings would be.

    logits: instead the logits of the training clips of these sets; of none: of those that the recipe trains on.
    """
    trainer = runs[0].config.trainer
    gpus = 0 if trainer.accelerator == "cpu" or len(runs) == 1 else usable_gpus()
    blocks = runs[0].config.data.blocks.named().values()
    if logits is not None and not logits:
        logits = list(dict.fromkeys(name for block in blocks if block.batch for name in block.sets))
    for name in logits or ():
        if name not in SET_NAMES:
            raise UserError(f"--sets: unknown data set {name!r}{did_you_mean(name, SET_NAMES)}")
    items = [(run, checkpoint, floors, logits, run_label(run, runs)) for run in runs]
    return all_done(_predict, items, default_jobs(trainer.threads, gpus), gpus)


def _predict(
    run: Run, checkpoint: Path | None, floors: bool, logits: Sequence[str] | None, label: str
) -> Mapping[str, Any]:
    predict = run.config.system.does("predict" if logits is None else "predict --logits")
    show_as(label)
    with alone(run.folder, "predict", run.folder):
        found: Mapping[str, Any] = predict(run, checkpoint, floors if logits is None else logits)
        return found
