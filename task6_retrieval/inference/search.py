"""What answers where a folder of recordings is searched."""

from pathlib import Path

from common.run.errors import UserError
from common.run.verbs import Run
from common.search import Encoder


def encoder_of(run: Run | None, checkpoint: Path | None) -> Encoder:
    """What answers: the network of a checkpoint or of a finished run, else the tags of YAMNet."""
    if checkpoint is not None and run is not None:
        raise UserError("--checkpoint: the file has its recipe beside it; leave --recipe and its settings out")
    if checkpoint is not None:
        from task6_retrieval.inference.trained import of_file  # torch: seconds

        return of_file(checkpoint)
    if run is not None:
        from task6_retrieval.inference.trained import of_run

        return of_run(run)
    from task6_retrieval.inference.tags import Tags

    return Tags()
