"""Lightning callbacks and plugins that every training uses."""

import contextlib
import csv
import io
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from common.run import progress
from common.run.errors import UserError
from common.run.files import write_text, write_then_rename
from common.run.seeds import mix_seed


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints appear whole or not at all, also when the process is killed while it writes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write to a temporary file in the same folder, then rename. Raises UserError when the disk is full."""
        try:
            with write_then_rename(Path(path)) as partial, _Output(partial) as file:
                try:
                    torch.save(checkpoint, file)
                except RuntimeError:  # torch does not say why it could not write
                    raise file.failure or RuntimeError(f"{path}: torch could not write it") from None
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise UserError(f"{path}: {reason}; train goes on from the last whole checkpoint") from None


class _Output(io.BufferedWriter):
    """A file that remembers why it could not be written."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


class Checkpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, but it knows what was best also after its folder was moved or copied.

    Lightning forgets that when the path has changed, and the next epoch would replace best.ckpt, however bad it is.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of a checkpoint, with its files in the folder where they are now."""
        state = dict(state_dict)
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = self._here(state[key])
        state["best_k_models"] = {self._here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict({**state, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name) if path else path


class SeedEveryStep(Callback):
    """All random draws of a step depend on (seed, epoch, step, rank) alone.

    So a resumed training draws what the uninterrupted one would have drawn. Draws of the data set are seeded by
    its sampler in the same way.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed torch's generators, of the device too."""
        torch.manual_seed(mix_seed(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))


class History(Callback):
    """metrics.csv: one row an epoch. The rows are part of the checkpoint, so that resuming never loses or doubles."""

    def __init__(self, path: Path, meter: Any) -> None:
        self.path, self.meter = path, meter
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of the checkpoint that training resumes from."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row; runs before the checkpoint of the epoch is written."""
        row = {"epoch": float(trainer.current_epoch), "step": float(trainer.global_step)}
        # Lightning keeps the validation metrics of earlier epochs; only those of this epoch belong into its row.
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        for name, value in sorted(trainer.callback_metrics.items()):
            if validated or not name.startswith("val/"):
                row[name] = float(value)
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write()
            self.meter.flush()

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())


class Interruption(Callback):
    """Ctrl-C ends a training between two steps; a second one ends it at once.

    Raised anywhere, KeyboardInterrupt leaves locks taken for which the end of the training waits: those of the
    loader's queues, of TensorBoard's. The loader's processes do not hear of it (`common.audio.loading`).
    """

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Listen within the block. Where Ctrl-C is ignored (background jobs, worker processes) it stays so."""
        before = signal.getsignal(signal.SIGINT)
        if not callable(before) or threading.current_thread() is not threading.main_thread():
            yield
            return

        def answer(number: int, frame: Any) -> None:
            self.asked = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, answer)
        try:
            yield
            self._end()
        finally:
            signal.signal(signal.SIGINT, before)

    def _end(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt

    on_train_batch_start = _end
    on_validation_batch_start = _end


class Progress(Callback):
    """One bar over the whole training, with clips a second and the remaining time."""

    def __init__(self, batch_size: int, monitor: str) -> None:
        self.batch_size, self.monitor = batch_size, monitor
        self.stack = contextlib.ExitStack()
        self.advance: progress.Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar where a resumed training stands."""
        if not trainer.is_global_zero:
            return
        clips = int(trainer.num_training_batches) * self.batch_size * trainer.world_size
        epochs = trainer.max_epochs or 1
        bar = progress.progress("train", clips * epochs, done=clips * trainer.current_epoch)
        self.advance = self.stack.enter_context(bar)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any) -> None:
        """Move the bar."""
        if self.advance is not None:
            self.advance(self.batch_size * trainer.world_size, self._note(trainer))

    def _note(self, trainer: Trainer) -> str:
        note = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        value = trainer.callback_metrics.get(self.monitor)
        return note if value is None else f"{note} · {self.monitor} {float(value):.3f}"

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar."""
        self.stack.close()
        self.advance = None
