"""Lightning callbacks and plugins that every training uses."""

import contextlib
import csv
import hashlib
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
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from common.run import progress
from common.run.checkpoints import read_checkpoint
from common.run.errors import UserError
from common.run.files import read_json, sha256, write_json, write_text, write_then_rename
from common.run.seeds import mix_seed


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints appear whole or not at all, also when the process is killed while it writes.

    Beside each lies `<name>.json` with its SHA-256; while it is replaced, with that of the old one too.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write to a temporary file in the same folder, then rename. Raises UserError when the disk is full."""
        path = Path(path)
        try:
            with write_then_rename(path) as partial:
                with _Output(partial) as file:
                    try:
                        torch.save(checkpoint, file)
                    except RuntimeError:  # torch does not say why it could not write
                        raise file.failure or RuntimeError(f"{path}: torch could not write it") from None
                digest = file.digest.hexdigest()
                _note(path, [*([sha256(path)] if path.is_file() else []), digest])
            _note(path, [digest])
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise UserError(f"{path}: {reason}; train goes on from the last whole checkpoint") from None


def _note(path: Path, digests: list[str]) -> None:
    write_json(path.with_name(f"{path.name}.json"), {"sha256": digests})


def check_resumable(path: Path) -> None:
    """Raise UserError for a checkpoint that a training cannot go on from: damaged, another file, or none at all."""
    wrong = f"{path}: not a readable checkpoint, cannot go on from it"
    note = path.with_name(f"{path.name}.json")
    noted = read_json(note) if note.is_file() else None
    digests = noted.get("sha256") if isinstance(noted, dict) else None
    if isinstance(digests, list) and sha256(path) not in digests:
        raise UserError(f"{wrong} (its SHA-256 is not that which training recorded); --restart trains anew")
    try:
        content = read_checkpoint(path)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: not a readable checkpoint ").removeprefix(f"{path}: ")
        raise UserError(f"{wrong} {reason}; --restart trains anew") from None
    missing = [key for key in ("state_dict", "optimizer_states", "loops", "callbacks") if key not in content]
    if missing:
        raise UserError(f"{wrong} (no {missing[0]} in it); --restart trains anew")


class _Output(io.BufferedWriter):
    """A file that remembers why it could not be written, and hashes what was: torch writes from front to end."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.failure: OSError | None = None
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


class Checkpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, but it knows what was best also after its folder was moved or copied.

    Lightning forgets that when the path has changed, and the next epoch would replace best.ckpt, however bad it is.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an epoch: not at its end, before validation, nor where gradients are being accumulated."""
        loop = trainer.fit_loop.epoch_loop
        if not loop.batch_progress.is_last_batch and not loop._should_accumulate():
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

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
        # Without a GPU torch.manual_seed keeps a trace of its callers for later, which takes longer than small steps.
        seeded = torch if torch.accelerator.is_available() else torch.default_generator
        seeded.manual_seed(mix_seed(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))


class WithinEpoch(Callback):
    """A training goes on from a checkpoint within an epoch: with the batch that is next, to the means of all steps."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The sums so far, and of how many clips; of several processes their mean."""
        loop = trainer.fit_loop.epoch_loop
        if not loop.batch_progress.is_last_batch:
            means = {key: of for key, of in loop._results.items() if of.is_tensor and of.meta.is_mean_reduction}
            checkpoint["epoch_sums"] = {
                key: (trainer.strategy.reduce(of.value.clone(), reduce_op="mean"), of.cumulated_batch_size)
                for key, of in means.items()
                if of.cumulated_batch_size  # else of no step of this epoch
            }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave out the batches that the epoch had; Lightning knows of no state of loaders that were asked before."""
        loader: Any = trainer.train_dataloader
        if trainer.fit_loop.restarting and hasattr(loader, "first"):  # a TrainingLoader, in the middle of an epoch
            loader.first = trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the sums of the checkpoint that training resumes from."""
        self.sums = checkpoint.get("epoch_sums", {})

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any) -> None:
        """Add them to those of the first step since."""
        for key, (value, clips) in self.sums.items():
            of = trainer.fit_loop.epoch_loop._results[key]
            of.value, of.cumulated_batch_size = (
                value.to(of.value) + of.value,
                clips.to(of.value.device) + of.cumulated_batch_size,
            )
        self.sums = {}


class History(Callback):
    """metrics.csv: one row an epoch, counted from 1. The rows are part of the checkpoint: resuming loses none."""

    def __init__(self, path: Path, meter: Any) -> None:
        self.path, self.meter = path, meter
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of the checkpoint that training resumes from."""
        rows = list(state_dict["rows"])
        first = 1 - rows[0]["epoch"] if rows else 0  # checkpoints of earlier versions count from 0
        self.rows = [{**row, "epoch": row["epoch"] + first} for row in rows]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row; runs before the checkpoint of the epoch is written."""
        row = {"epoch": float(trainer.current_epoch + 1), "step": float(trainer.global_step)}
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


class Patience(EarlyStopping):
    """Ends a training after `patience` validations in a row that were none of the best."""

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        super().__init__(monitor, mode=mode, patience=patience, check_finite=False, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One that was killed between its last checkpoint and its end is not trained further."""
        trainer.should_stop = self.wait_count >= self.patience


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

    def on_train_batch_start(self, *_: Any) -> None:
        """End the training where Ctrl-C was pressed."""
        self._end()

    def on_validation_batch_start(self, *_: Any) -> None:
        """End the training where Ctrl-C was pressed."""
        self._end()

    def _end(self) -> None:
        if self.asked:
            raise KeyboardInterrupt


class Divergence(Callback):
    """Ends a training whose loss or weights are no longer finite, before the epoch's checkpoint is written."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the device, once an epoch. Raises UserError."""
        losses = [
            name for name, of in trainer.callback_metrics.items() if name.startswith("train/") and not of.isfinite()
        ]
        trained = [weights.detach() for weights in pl_module.parameters() if weights.requires_grad]
        whole = torch.stack([weights.isfinite().all() for weights in trained]).all()
        if losses or not whole:
            what = (
                f"{losses[0]} is {float(trainer.callback_metrics[losses[0]])}" if losses else "weights are not finite"
            )
            raise UserError(f"diverged in epoch {trainer.current_epoch + 1} ({what}): lower optimizer.lr")


class Progress(Callback):
    """One bar over the whole training, with clips a second and the remaining time."""

    def __init__(self, batch_size: int, monitor: str, what: str = "train", percent: bool = False) -> None:
        self.batch_size, self.monitor, self.what, self.percent = batch_size, monitor, what, percent
        self.stack = contextlib.ExitStack()
        self.advance: progress.Progress | None = None
        self.score = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar where a resumed training stands."""
        if not trainer.is_global_zero:
            return
        clips = int(trainer.num_training_batches) * self.batch_size * trainer.world_size
        epochs = trainer.max_epochs or 1
        within = trainer.fit_loop.epoch_loop.batch_progress.current.ready % int(trainer.num_training_batches)
        done = clips * trainer.current_epoch + within * self.batch_size * trainer.world_size
        bar = progress.progress(self.what, clips * epochs, done=done)
        self.advance = self.stack.enter_context(bar)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any) -> None:
        """Move the bar."""
        if self.advance is not None:
            self.advance(self.batch_size * trainer.world_size, self._note(trainer))

    def _note(self, trainer: Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{self.score}"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the score, here and not in every step: the device would have to end its work first."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is not None:
            shown = f"{100 * float(value):.1f} %" if self.percent else f"{float(value):.3f}"
            self.score = f" · {self.monitor} {shown}"

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self.stack.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar."""
        self.stack.close()
        self.advance = None
