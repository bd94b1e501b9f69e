"""A recipe's data, network and teachers, put together for the Trainer."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from common.audio.arrays import ClipArrays
from common.audio.coverage import made_of, packs_of, root_of
from common.audio.loading import turn_of
from common.run.checkpoints import start_of
from common.run.errors import UserError
from common.run.files import existing_file
from common.run.processes import working_device
from common.run.results.store import record
from common.run.training import BEST, claim, finished, fit, is_first_process
from common.run.verbs import Run
from task6_retrieval.config import Config
from task6_retrieval.data.batches import Batch, clip_loader, train_loader
from task6_retrieval.data.embeddings import store
from task6_retrieval.data.sets import load_set, training_sets
from task6_retrieval.data.teachers import VECTORS, bank, clip_names, embeddings_file, texts_of
from task6_retrieval.metrics import padded, ranks_of_embeddings, retrieval_metrics
from task6_retrieval.model.audio import AudioTower
from task6_retrieval.model.networks import build_network, load_weights
from task6_retrieval.training.captions import caption_change
from task6_retrieval.training.system import Bank, RetrievalSystem

MONITOR = "val/map@10"


class RetrievalData(LightningDataModule):
    """Training pairs and validation clips of a recipe; as stored tokens where its audio encoder is frozen."""

    def __init__(self, config: Config, seed: int, tower: AudioTower) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.training, self.validation = training_sets(config.data), load_set(config.data, config.data.validation)
        pairs = sum(len(of.pairs()[1]) for of in self.training)
        if pairs < config.data.batch and config.data.drop_last:
            raise UserError(f"data.batch: is {config.data.batch}, but the training sets have only {pairs} captions")
        self.stored: dict[str, ClipArrays] = {}
        if config.model.audio.stored:
            device = torch.device(working_device())
            folder = packs_of(config.data) / "embeddings"
            tower = tower.to(device)
            for of in (*self.training, self.validation):
                self.stored[of.name] = store(of, folder, tower, config.data.eval_batch, device)
            tower.cpu()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Every caption with its clip once an epoch."""
        divided = self.config.trainer.divide_batch
        turn = turn_of(self.trainer)
        return train_loader(self.training, self.config, self.seed, *turn, stored=self.stored, divided=divided)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Only tensors are looked at: Lightning would ask every caption whether it is one."""
        return batch.on(device)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation clips, each once."""
        return clip_loader(self.validation, self.config, *turn_of(self.trainer)[1:], stored=self.stored)

    def validate(self, sentences: np.ndarray, clips: np.ndarray) -> Mapping[str, float]:
        """Figures of the validation set; of own recordings every clip that has the caption counts."""
        own = made_of(root_of(self.config.data)) == "recordings"
        relevant = padded(self.validation.fitting()) if own else self.validation.pairs()[0]
        return retrieval_metrics(ranks_of_embeddings(sentences, clips, relevant))


def build(run: Run) -> tuple[RetrievalSystem, RetrievalData]:
    """System and data of a run; the initial weights depend on the seed alone, or are those of `start`."""
    config: Config = run.config
    if config.model.uses_metadata and config.model.metadata == "description":
        raise UserError(
            "model.metadata: description needs a gallery for each caption in tests; training takes keywords"
        )
    start, teachers = start_file(run), teacher_runs(run)  # before encoders ask for their weights
    for path in (embeddings_file(folder, name) for folder in teachers for name in config.data.train):
        existing_file(path, VECTORS)
    torch.manual_seed(run.seed)
    network = build_network(config)
    if start is not None:
        load_weights(network, start)
    data = RetrievalData(config, run.seed, network.audio_encoder)
    texts = texts_of(data.training)
    system = RetrievalSystem(
        config,
        network,
        math.ceil(len(data.train_dataloader()) / config.trainer.accumulate_grad_batches),
        data.validation.pairs()[1],
        data.validate,
        teachers_of(run, data, texts),
        caption_change(config.augment, texts, packs_of(config.data) / "words"),
    )
    return system, data


def start_file(run: Run) -> Path | None:
    """The checkpoint that a run begins with: the best one of a recipe's run of the same number, or a file."""
    start = run.config.start
    if start is None or Path(start).suffix:
        return start and Path(start)
    return start_of(run, start) / BEST


def teacher_runs(run: Run) -> list[Path]:
    """The runs of all teachers; recipes by name lie beside this one's folder, those with a slash anywhere."""
    runs, distill = run.folder.parent.parent, run.config.distill
    folders = [Path(name) if "/" in name else runs / name for name in distill.teachers]
    return [folder / f"run{number}" for folder in folders for number in distill.runs]


def teachers_of(run: Run, data: RetrievalData, texts: list[str]) -> Bank | None:
    """What the teachers of a recipe say of its training data; None in stage 1."""
    runs, sets = teacher_runs(run), data.training
    if not runs:
        return None
    audio, sentence = bank(runs, [of.name for of in sets], clip_names(sets), texts)
    rows = {text: row for row, text in enumerate(texts)}
    return Bank(torch.from_numpy(audio), torch.from_numpy(sentence), rows)


def _watched(
    watch: Callable[[int, float], None], system: RetrievalSystem, sentences: np.ndarray, clips: np.ndarray
) -> Mapping[str, float]:
    found = system.trainer.datamodule.validate(sentences, clips)  # type: ignore[attr-defined]
    watch(system.current_epoch, found["map@10"])
    return cast(Mapping[str, float], found)


def train_run(run: Run, restart: bool = False, watch: Callable[[int, float], None] | None = None) -> None:
    """Train a run to its end, from where it was interrupted; does nothing when it is finished.

    A recipe of tags is finished at once. watch: gets the epoch and its mAP@10, and may raise an error to end it.
    """
    if finished(run) and not restart:
        if is_first_process():
            claim(run)  # says so when the folder holds other settings
        return
    config: Config = run.config
    if config.tags:
        claim(run, restart)
        record(run.folder, "train", {"data": made_of(root_of(config.data)), "epochs": 0, "seed": run.seed})
        return
    system, data = build(run)
    if watch is not None:
        system.validate = partial(_watched, watch, system)
    counts = {"clips": sum(map(len, data.training)), "captions": sum(len(of.pairs()[1]) for of in data.training)}
    notes = {"data": made_of(root_of(config.data)), **counts, "selection": MONITOR}
    if config.distill.teachers:
        notes["teachers"] = [str(path) for path in teacher_runs(run)]
    batch = config.data.batch
    fit(run, system, data, monitor=MONITOR, batch_size=batch, restart=restart, notes=notes, model=config.checkpoint)
