"""A recipe's class splits, one training for each: by gradient, by the closed form, or the one after the other."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from common.audio.coverage import made_of, root_of
from common.audio.loading import turn_of
from common.run.checkpoints import checkpoint_of
from common.run.energy import cost_text, energy_text
from common.run.errors import UserError
from common.run.files import sha256, write_json, write_then_rename
from common.run.processes import working_device
from common.run.progress import progress
from common.run.results.store import read_results, record
from common.run.results.tables import NOT_AVAILABLE, print_table
from common.run.training import BEST, claim, finished, fit, is_first_process, locked
from common.run.verbs import Run
from zeroshot.config import CLASSES, SPLITS, Config, closed_stage, of_split
from zeroshot.data.batches import Batch, eval_loader, train_loader
from zeroshot.data.embeddings import embedded
from zeroshot.data.ontology import ontology_distances
from zeroshot.data.sets import Clips, DataSets, Parts
from zeroshot.data.splits import ClassSplit, class_splits
from zeroshot.data.texts import class_texts
from zeroshot.data.vectors import centred, class_vectors, plain, semantic_distances
from zeroshot.model.compatibility import eszsl
from zeroshot.model.dictionary import Dictionary
from zeroshot.model.networks import ZeroShotNetwork, build_network, load_network
from zeroshot.training.closed_form import choose_constants
from zeroshot.training.system import TRAIN_LOSS, UNSEEN, ZeroShotSystem

MOST_SHOWN = 12  # splits in the table
ByClass = Mapping[str, NDArray[np.float32]]  # every class's uncentred vector


@dataclass(frozen=True)
class Vectors:
    """Vectors of the classes that a split trains and chooses by, (classes, d_t), centred as the recipe says."""

    train: Tensor
    validation: Tensor | None

    @classmethod
    def of(cls, config: Config, split: ClassSplit, by_class: ByClass) -> "Vectors":
        """Those of a split; by_class: every class's uncentred vector."""
        train = np.stack([by_class[name] for name in split.train])
        validation = np.stack([by_class[name] for name in split.val]) if split.val else None
        found = (None if of is None else centred(of, train, config.texts.centre) for of in (train, validation))
        return cls(*(None if of is None else torch.from_numpy(of).float() for of in found))  # type: ignore[arg-type]


class ZeroShotData(LightningDataModule):
    """Training batches of the training classes' clips, validation batches of the validation classes' ones.

    They hold waveforms where the recipe trains the encoder, else embeddings.
    """

    def __init__(self, config: Config, parts: Parts, seed: int) -> None:
        super().__init__()
        self.config, self.seed, self.parts = config, seed, parts
        self.training = self._embedded(parts.train)
        self.validation = None if parts.validation is None else self._embedded(parts.validation)

    def _embedded(self, clips: Clips) -> NDArray[np.float32] | None:
        return None if self.config.encoder.finetune else embedded(clips, self.config)

    def train_dataloader(self) -> DataLoader[Batch]:
        """An epoch of training clips."""
        return train_loader(self.parts.train, self.config, self.seed, *turn_of(self.trainer), embeddings=self.training)

    def val_dataloader(self) -> Any:
        """The validation clips in order; nothing where there are no validation classes."""
        if self.parts.validation is None:
            return []
        turn = turn_of(self.trainer)
        return eval_loader(self.parts.validation, self.config, *turn[1:], embeddings=self.validation)


def build(run: Run, split: ClassSplit, by_class: ByClass, sets: DataSets) -> tuple[ZeroShotSystem, ZeroShotData]:
    """System and data of one split; the initial weights depend on the seed alone."""
    config: Config = run.config
    data, vectors = ZeroShotData(config, sets.parts(split), run.seed), Vectors.of(config, split, by_class)
    torch.manual_seed(run.seed)
    dim = None if data.training is None else data.training.shape[1]
    network = build_network(config, dim, vectors.train.shape[1])
    if data.training is not None and config.model.standardise:
        network.standardise_by(torch.from_numpy(data.training))
    return ZeroShotSystem(config, network, vectors.train, vectors.validation, data.parts.train.single), data


def train_run(run: Run, restart: bool = False) -> Mapping[str, Any]:
    """Train every class split of a run, each from where it was interrupted; prints what it took.

    Returns what was recorded of each split; an empty mapping in all processes but the first.
    """
    config: Config = run.config
    by_class, splits, sets = class_vectors(config), class_splits(config), DataSets(config)
    if is_first_process():
        stages = [closed_stage(of_split(run, split.name)).folder.relative_to(run.folder) for split in splits]
        record(run.folder, SPLITS, {"only": config.split.only, "trainings": [path.as_posix() for path in stages]})
    for split in splits:
        part = of_split(run, split.name)
        _train_split(part, split, by_class, sets, restart)
        if is_first_process():
            write_json(part.folder / CLASSES, _classes(config, split, by_class))
    if not is_first_process():
        return {}
    return _summary(run, splits)


def _classes(config: Config, split: ClassSplit, by_class: ByClass) -> dict[str, Any]:
    """What predictions and distances need of a split beside its network: classes, their texts, their distances."""
    train, test = (np.stack([by_class[name] for name in names]) for names in (split.train, split.test))
    edges = ontology_distances(config, split.train, split.test)
    return {
        "train": list(split.train),
        "val": list(split.val),
        "test": list(split.test),
        "semantic": dict(zip(split.test, semantic_distances(train, test).tolist(), strict=True)),
        "edges": None if edges is None else dict(zip(split.test, edges, strict=True)),
        "texts": plain(class_texts(config)),
    }


def _train_split(part: Run, split: ClassSplit, by_class: ByClass, sets: DataSets, restart: bool) -> None:
    config: Config = part.config
    closed, frozen = config.model.compatibility == "eszsl", not config.encoder.by_gradient
    stage = closed_stage(part)
    if finished(stage) and finished(part) and not restart:
        if is_first_process():
            claim(part)  # says so when the folder holds other settings
        return
    system, data = build(part, split, by_class, sets)
    if not (closed and frozen):
        _fit(part, system, data, restart)
    if closed and is_first_process():
        if not frozen:
            system.network = load_network(config, *checkpoint_of(part.folder))
        _solve(stage, system, data, restart)


def _notes(config: Config, data: ZeroShotData) -> dict[str, Any]:
    return {
        "data": made_of(root_of(config.data)),
        "claim": config.encoder.claim,
        "clips": len(data.parts.train),
        "barred": dict(data.parts.barred),
        "classes": len(data.parts.train.classes),
    }


def _fit(part: Run, system: ZeroShotSystem, data: ZeroShotData, restart: bool) -> None:
    config: Config = part.config
    chosen = data.parts.validation is not None
    if not chosen and config.trainer.check_val_every_n_epoch != 1:
        raise UserError("trainer.check_val_every_n_epoch: without validation classes leave it at 1")
    fit(
        part,
        system,
        data,
        monitor=UNSEEN if chosen else TRAIN_LOSS,
        mode="max" if chosen else "min",
        batch_size=min(config.data.batch, len(data.parts.train)),
        restart=restart,
        notes=_notes(config, data),
        model=config.checkpoint if chosen else "last",
    )


def _solve(stage: Run, system: ZeroShotSystem, data: ZeroShotData, restart: bool) -> None:
    """The closed form on the training clips' embeddings; its network lies where a training would put it."""
    config, network, clips, start = stage.config, system.network, data.parts.train, time.monotonic()
    with locked(stage.folder):
        claim(stage, restart)
        if isinstance(network.encoder, Dictionary):
            mel = torch.cat([network.encoder.mel(batch.audio) for batch in eval_loader(clips, config)])
            network.encoder.learn(mel, stage.seed)
        embeddings = embeddings_of(network, clips, config) if data.training is None else torch.from_numpy(data.training)
        if config.model.standardise:
            network.standardise_by(embeddings)
        signs = torch.from_numpy((2.0 * clips.labels - 1.0) * clips.judged)
        audio, classes = network.standardised(embeddings), system.train_classes
        gamma, lam, chosen = config.model.gamma, config.model.lambda_, None
        if config.model.choose_left_out:
            targets = torch.from_numpy(clips.targets)
            gamma, lam, chosen = choose_constants(audio, targets, classes, config.model.choose_left_out)
        weight = eszsl(audio, signs, classes, gamma, lam)
        network.compatibility.weight.data = weight.float()
        state = {f"network.{name}": value for name, value in network.state_dict().items()}
        path = stage.folder / BEST
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_then_rename(path) as partial:
            torch.save({"state_dict": state}, partial)
        record(stage.folder, "checkpoint", {"file": BEST, "sha256": sha256(path)})
        done = {"seed": stage.seed, "epochs": 0, "steps": 0, "kwh": None, "best": {}, "gamma": gamma, "lambda": lam}
        done["left out training classes"] = chosen
        record(stage.folder, "train", done | {"seconds": time.monotonic() - start} | _notes(config, data))


@torch.inference_mode()
def embeddings_of(network: ZeroShotNetwork, clips: Clips, config: Config) -> Tensor:
    """Raw embeddings (clips, d_a) by the encoder that the recipe trained."""
    assert network.encoder is not None
    device = torch.device(working_device())
    encoder = network.encoder.to(device).eval()
    with progress("embed", len(clips)) as advance:
        found = []
        for batch in eval_loader(clips, config):
            found.append(encoder(batch.audio.to(device)).clip.float().cpu())
            advance(len(batch.row))
    return torch.cat(found).clone()


def _summary(run: Run, splits: Sequence[ClassSplit]) -> Mapping[str, Any]:
    done, rows = {}, []
    for split in splits:
        part = of_split(run, split.name)
        values, gradient = (read_results(of.folder)["train"]["values"] for of in (closed_stage(part), part))
        kept = {key: values[key] for key in ("clips", "classes", "epochs", "steps", "claim")}
        done[split.name] = kept | {"kwh": gradient["kwh"]}  # the closed form itself takes seconds: not measured
    for name, of in list(done.items())[:MOST_SHOWN]:
        energy = NOT_AVAILABLE if of["kwh"] is None or not run.config.energy.enabled else energy_text(of["kwh"])
        rows.append([name, *(f"{of[key]:,}" for key in ("classes", "clips", "epochs", "steps")), energy])
    known = [of["kwh"] for of in done.values() if of["kwh"] is not None]
    more = f"{len(done) - MOST_SHOWN} more splits alike" if len(done) > MOST_SHOWN else ""
    cost = cost_text(sum(known), run.config.energy) if known else ""
    note = "; ".join(filter(None, (more, f"{run.config.encoder.name}: {run.config.encoder.claim}", cost)))
    print_table(f"{run.folder}: trained", ["split", "classes", "clips", "epochs", "steps", "energy"], rows, note)
    return {"run": run.number, "seed": run.seed, "splits": done, "kwh": sum(known)}
