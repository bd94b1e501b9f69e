"""What TensorBoard shows beside the curves of a training: settings with the main figures (HParams), and pictures.

Written from the first byte to the last without TensorBoard's own writer, whose thread would wait for locks that a
Ctrl-C may have left taken.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.run.config import config_dict
from common.run.files import write_then_rename
from common.run.results.store import FILE_NAME, read_results
from common.run.verbs import Run

Plain = bool | int | float | str


def summarise(
    run: Run, figures: Mapping[str, float | None] | None = None, pictures: Mapping[str, Path] | None = None
) -> None:
    """Write a run's settings, main figures and pictures into <run>/tensorboard, in place of earlier ones.

    figures: by tag, e.g. devtest/psds1; the best validation figure of the training comes with them. pictures: .png
    files by tag; those that are not there are left out.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb, hparams_pb
    from tensorboard.summary.writer.record_writer import RecordWriter

    results = read_results(run.folder) if (run.folder / FILE_NAME).is_file() else {}
    trained = results.get("train", {}).get("values", {})
    monitor = trained.get("monitor", "")
    known = {f"best/{monitor}": trained.get("best", {}).get(monitor), **(figures or {})}
    values = {tag: float(value) for tag, value in known.items() if value is not None}
    settings = flat({**config_dict(run.config), "seed": run.seed, "submission": {}})
    summaries = [
        hparams_config_pb([HParam(name) for name in settings], [Metric(tag) for tag in values]),
        hparams_pb(settings),
        Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]),
        *(Summary(value=[_image(tag, path)]) for tag, path in (pictures or {}).items() if path.is_file()),
    ]
    now, steps = time.time(), trained.get("steps", 0)
    out = run.folder / "tensorboard" / f"events.out.tfevents.{now:.0f}.summary"
    before = list(out.parent.glob("events.out.tfevents.*.summary"))
    with write_then_rename(out) as partial, partial.open("wb") as file:
        records = RecordWriter(file)
        records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for summary in summaries:
            records.write(Event(wall_time=now, step=steps, summary=summary).SerializeToString())
    for old in before:
        if old != out:
            old.unlink(missing_ok=True)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Plain]:
    """Settings by dotted names, as overrides have them; what is no plain value as text."""
    found: dict[str, Plain] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def _image(tag: str, path: Path) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    png = path.read_bytes()
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
    return Summary.Value(tag=tag, image=image)
