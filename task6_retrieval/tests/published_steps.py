"""`task6_step_stage1`, `task6_step_stage2`, `task6_fusion`: training steps of the published systems.

The encoders of the files are tables: everything behind them is the system's own. A waveform says at its beginning which
row of the table its segment is.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.encoders.text import SentenceEncoder
from common.encoders.text import Tokens as TextTokens
from common.run.config import load_config
from common.tests.helpers import seeded
from task6_retrieval.config import SAMPLE_RATE, Config, SequenceConfig
from task6_retrieval.data.batches import Batch
from task6_retrieval.model.audio import AudioTower, Tokens
from task6_retrieval.model.networks import PUBLISHED, DualEncoder, own_names
from task6_retrieval.model.text import TextTower
from task6_retrieval.training.losses import Teachers, similarities_of
from task6_retrieval.training.system import Bank, RetrievalSystem, learning_rate

RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE_OF = {"d24": "stage1", "b23": "dcase2023", "e25": "dcase2025"}
SEGMENT = 32 / SAMPLE_RATE  # seconds
LOSS, RATE, STEPS, HALF = ({"max": 0.0, "rel": rel} for rel in (1e-5, 1e-6, 1e-4, 1e-3))
EXACT: dict[str, float] = {}


class AudioTable(AudioTower):
    """The real tower; its encoder returns rows (items, segments, [frequency,] [tokens,] dim) of a table."""

    def __init__(self, config: Any, table: np.ndarray) -> None:
        nn.Module.__init__(self)
        self.config, self.segment_seconds = config, SEGMENT
        self.table = nn.Parameter(torch.from_numpy(table).float())
        self.dim = table.shape[-1]

    def encode(self, segments: Tensor, features: Any = None) -> Tensor:
        rows = self.table.flatten(0, 1)[segments[:, 0].long()]
        return rows[:, None] if rows.dim() == 2 else rows.mean(dim=1)

    def waveforms(self) -> Tensor:
        items, segments = self.table.shape[:2]
        return torch.arange(items * segments).repeat_interleave(32).reshape(items, -1).float()


class TextTable(SentenceEncoder):
    """Known texts, and the states of a table (texts, tokens, dim)."""

    name = "table"

    def __init__(self, table: np.ndarray, texts: list[str], length: np.ndarray) -> None:
        super().__init__()
        self.table, self.dim = nn.Parameter(torch.from_numpy(table).float()), table.shape[-1]
        self.rows, self.length = {text: row for row, text in enumerate(texts)}, torch.from_numpy(length)

    def tokens(self, sentences: Any) -> TextTokens:
        rows = torch.tensor([self.rows[text] for text in sentences])
        mask = torch.arange(self.table.shape[1]) < self.length[rows, None]
        return TextTokens(rows[:, None].expand(mask.shape), mask.long())

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.table[ids[:, 0]]


def tower(config: Any, *table: Any) -> TextTower:
    made = TextTower.__new__(TextTower)
    nn.Module.__init__(made)
    made.config, made.encoder, made.known = config, TextTable(*table), {}
    made.table = torch.empty(0, made.encoder.dim)
    made.dim = made.encoder.dim
    return made


class Given(DualEncoder):
    """Metadata tokens of mid-level fusion come from the file, at the width of the sequence model."""

    given: Tokens | None = None

    def _tokens(self, texts: Any) -> Tokens | None:
        return self.given


def state_of(folder: Path, which: str) -> dict[str, Tensor]:
    manifest = json.loads((folder / "manifest.json").read_text())
    make = seeded(folder.parent)["seeded_array"]
    return {name: torch.from_numpy(make(name, e, manifest["seed"])) for name, e in manifest[which].items()}


def loaded(network: DualEncoder, state: Mapping[str, Tensor]) -> None:
    """Strict, but for the heads that the state of all cases together has too many of."""
    found = own_names(state, network.sequence is not None)
    own = network.state_dict()
    extra = found.keys() - own.keys()
    assert all(name.startswith("project_metadata.") for name in extra), extra
    missing, _ = network.load_state_dict({n: v for n, v in found.items() if n in own}, strict=False)
    assert all(name == "tau" or name.startswith("tokens_in.") or ".table" in name for name in missing), missing


def of_tau(config: Config, case: str) -> Config:
    learned = config.model.tau_trained or "tau_" in case
    return replace(config, model=replace(config.model, tau_trained=learned))


def step_config(case: str, state: Mapping[str, Tensor], recipe: str) -> Config:
    config = of_tau(load_config(Config, RECIPES, recipe), case)
    last = [state[name] for name in state if name.startswith("project_audio.") and name.endswith("weight")]
    hidden = len(last[0]) if len(last) > 1 else None
    return replace(config, model=replace(config.model, hidden=hidden, dim=len(last[-1])))


def step_batch(io: Any, network: DualEncoder, length: np.ndarray) -> Batch:
    items, segments = network.audio_encoder.table.shape[:2]
    seconds = torch.from_numpy(length.astype(np.float64)) * segments * SEGMENT
    captions = [str(item) for item in range(items)]
    return Batch(network.audio_encoder.waveforms(), seconds, captions, torch.from_numpy(io["clip"]), [""] * items)


def make_step(folder: Path, io: Any, case: str, recipe: str, bank: Bank | None = None) -> tuple[RetrievalSystem, Batch]:
    state = state_of(folder, "state_hidden_layer" if "hidden_layer" in case else "state")
    config = step_config(case, state, recipe)
    table, items = io["text_tokens"], len(io["clip"])
    text = tower(config.model.text, table, [str(n) for n in range(items)], np.full(items, table.shape[1]))
    network = DualEncoder(config.model, AudioTable(config.model.audio, io["audio_embeddings"]), text, None)
    loaded(network, state)
    if "negative" in case:
        network.tau.data.neg_()
    system = RetrievalSystem(config, network, 1, bank=bank).train()
    system._log = lambda values: system.__dict__.setdefault("logged", {}).update(values)  # type: ignore
    own = f"{case}/audio_length"
    return system, step_batch(io, network, io[own if own in io.files else "audio_length"])


def of_largest(expected: np.ndarray) -> dict[str, float]:
    return {"max": 2e-4 * float(np.abs(expected).max())}


def cut(gradient: Tensor, like: np.ndarray) -> np.ndarray:
    return gradient[tuple(slice(0, size) for size in like.shape)].numpy()


def published_name(own: str) -> str:
    found = next((old for old, new in PUBLISHED.items() if new.startswith("sequence.") and own.startswith(new)), None)
    return own if found is None else found + own.removeprefix(PUBLISHED[found])


def gradient_of(value: Tensor) -> Tensor:
    return torch.zeros_like(value) if value.grad is None else value.grad


def input_gradients(network: DualEncoder) -> dict[str, Tensor]:
    """By the names of the files; `..._first`: of the first tokens."""
    found = {"audio_embeddings": network.audio_encoder.table, "audio_tokens": network.audio_encoder.table}
    found |= {"text_tokens": network.sentence_encoder.encoder.table}
    if network.metadata_encoder is not None:
        found["metadata_tokens"] = network.metadata_encoder.encoder.table
    if isinstance(network, Given) and network.given is not None:
        found["mid_metadata_tokens"] = network.given.values
    zero = {name: gradient_of(value) for name, value in found.items()}
    first = {f"{name}_first": value[:, 0] for name, value in zero.items() if name.endswith("t_tokens")}
    first |= {f"{name}_first": value[:, 0] for name, value in zero.items() if name == "metadata_tokens"}
    return zero | first


def gradients(group: str, io: Any, network: DualEncoder) -> Iterator[tuple]:
    """Those of the file, and the norm over all of them but the metadata tokens of mid-level fusion."""
    inputs = input_gradients(network)
    for key in (name for name in io.files if name.startswith((f"{group}/grad_of/", f"{group}/grad_norm_of/"))):
        kind, name = key.removeprefix(f"{group}/").split("/")
        own = next(iter(own_names({name: torch.empty(0)}, True)))
        gradient = inputs[name] if name in inputs else gradient_of(network.get_parameter(own))
        expected = io[key]
        if kind == "grad_norm_of":
            value = gradient.flatten(expected.ndim).norm(dim=-1).numpy()
        else:
            short = name == "text_tokens" and expected.ndim == 2
            value = cut(gradient[:, 0] if short else gradient, expected)
        yield key, value, expected, of_largest(expected)
    used = [p.grad for p in network.parameters() if p.grad is not None]
    norm = float(torch.stack([of.norm() for of in used]).norm())
    total = io[f"{group}/grad_norm_heads_and_inputs"]
    yield "norm of all gradients", norm, total, of_largest(total)


def step(group: str, io: Any, system: RetrievalSystem, batch: Batch, tolerance: dict[str, float]) -> Iterator[tuple]:
    loss = system.training_step(batch, 0)
    loss.backward()
    yield "loss", loss.item(), io[f"{group}/loss"], tolerance
    if tolerance is HALF:
        return
    with torch.no_grad():
        audio, sentence = system.vectors(batch)
    cosine = (F.normalize(audio, dim=-1) @ F.normalize(sentence, dim=-1).T).numpy()
    for what, value in (("cosine", cosine), ("audio_vector", audio.numpy()), ("text_vector", sentence.numpy())):
        if (key := f"{group}/{what}") in io.files:
            yield what, cut(torch.from_numpy(value), io[key]), io[key], of_largest(io[key])
    yield from gradients(group, io, system.network)


# --- stage 1


def groups_of_steps(io: Any) -> list[str]:
    cases = [name.removesuffix("/loss") for name in io.files if re.fullmatch(r"\w+/loss", name)]
    rates = sorted({name.removesuffix("/value") for name in io.files if re.fullmatch(r"lr/\w+/value", name)})
    return cases + [f"{case}/steps" for case in cases if f"{case}/steps/loss" in io.files] + rates


def check_stage1(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    case, _, part = group.partition("/")
    if case == "lr":
        yield from rates(part, io)
        return
    system, batch = make_step(folder, io, case, RECIPE_OF[case.partition("_")[0]])
    if part == "steps":
        yield from four_steps(folder, group, io, system, batch)
        return
    if (key := f"{case}/segments") in io.files:
        longest = float((batch.seconds / SEGMENT).ceil().max())
        yield "segments of the longest clip", int(longest), io[key], EXACT
    yield from step(group, io, system, batch, LOSS)
    if case == "d24":
        yield from groups_of_parameters(folder, "param_groups_d24", system.network)


def groups_of_parameters(folder: Path, key: str, network: DualEncoder, case: str = "") -> Iterator[tuple]:
    """Every parameter here stands in the group that it has there."""
    stored = json.loads((folder / "manifest.json").read_text())[key]
    there = {name: at for at, names in enumerate(stored[case] if case else stored) for name in names}
    for at, named in enumerate(network.groups().values()):
        for name, _ in named:
            if "encoder" not in name and not name.startswith("tokens_in."):
                yield f"group of {name}", at, there[published_name(name)], EXACT


def batches_per_epoch(io: Any, config: Config) -> int:
    """Out of a rate of the warm-up from zero."""
    epoch, batch, value = (io[f"lr/d24/{name}"] for name in ("epoch", "batch", "value"))
    warm = int(np.flatnonzero((epoch == 0) & (batch > 0))[0])
    return round(config.optimizer.lr * batch[warm] / value[warm])


def rates(of: str, io: Any) -> Iterator[tuple]:
    config = load_config(Config, RECIPES, RECIPE_OF[of])
    position = io["lr/d24/epoch"] + io["lr/d24/batch"] / batches_per_epoch(io, load_config(Config, RECIPES, "stage1"))
    own = [learning_rate(config.optimizer, float(epoch)) for epoch in position]
    yield "learning rates", own, io[f"lr/{of}/value"], {"max": 1e-15, "rel": 1e-6}


def four_steps(folder: Path, group: str, io: Any, system: RetrievalSystem, batch: Batch) -> Iterator[tuple]:
    system.steps_per_epoch = batches_per_epoch(io, load_config(Config, RECIPES, "stage1"))
    words = re.search(r"\(epoch, batch of \d+\) = ([(\d,) ]+)", (folder / "README.md").read_text())
    assert words is not None
    places = [tuple(map(int, pair)) for pair in re.findall(r"\((\d+),(\d+)\)", words[1])]
    made = system.configure_optimizers()
    optimizer, factor = made["optimizer"], made["lr_scheduler"]["scheduler"].lr_lambdas[0]
    losses, used, taus = [], [], []
    for epoch, number in places:
        for of in optimizer.param_groups:
            of["lr"] = of["initial_lr"] * factor(epoch * system.steps_per_epoch + number)
        optimizer.zero_grad()
        loss = system.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        used.append([of["lr"] for of in optimizer.param_groups])
        taus.append(system.network.tau.item())
    yield "losses", losses, io[f"{group}/loss"], STEPS
    expected = io[f"{group}/lr"]
    yield (
        "rates",
        np.array(used)[:, : expected.shape[1]] if expected.ndim == 2 else np.array(used)[:, 0],
        expected,
        RATE,
    )
    if f"{group}/tau_after" in io.files:
        yield "temperatures", taus, io[f"{group}/tau_after"], STEPS
    for name in io.files:
        if name.startswith(f"{group}/") and name.endswith("weight_after"):
            of = name.removeprefix(f"{group}/").removesuffix("_after")
            yield name, cut(system.network.get_parameter(of).detach(), io[name]), io[name], of_largest(io[name])


# --- stage 2


def check_stage2(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    wanted, tolerance = (1, LOSS) if group == "one_teacher" else (len(io["teacher_audio"]), LOSS)
    numbers = np.unique(io["clip"])
    vectors = [torch.from_numpy(io[name][:wanted]).transpose(0, 1) for name in ("teacher_audio", "teacher_text")]
    audio = vectors[0].new_zeros(int(numbers.max()) + 1, *vectors[0].shape[1:])
    audio[torch.from_numpy(numbers)] = vectors[0]
    items = len(io["clip"])
    bank = Bank(audio, vectors[1], {str(item): item for item in range(items)})
    system, batch = make_step(folder, io, group, "stage2", bank)
    supervised, distilled = io[f"{group}/weights"].tolist()
    half = "half_precision" in group
    system.config.distill = replace(
        system.config.distill, weight=distilled, supervised_weight=supervised, half_precision=half
    )
    system.network.tau.data.fill_(float(io[f"{group}/tau"]))
    if half:
        tolerance = HALF
    yield from step(group, io, system, batch, tolerance)
    terms = {"term_supervised": "train/supervised", "term_distilled": "train/distilled"}
    for there, here in terms.items():
        if f"{group}/{there}" in io.files:
            yield there, float(system.logged[here]), io[f"{group}/{there}"], tolerance
    if group == "distill_only" and "check/teacher_cosine" in io.files:
        own = similarities_of(Teachers(audio[batch.clip], vectors[1])).numpy()
        yield "teachers' cosine", own, io["check/teacher_cosine"], {"max": 1e-5}


# --- fusion


def fusion_config(folder: Path, io: Any, case: str, state: Mapping[str, Tensor]) -> Config:
    late = "separate" if "separate" in case or "mid_and_late" in case else "shared" if "late" in case else "none"
    every = "all_tokens" in case or case == "mid_and_late"
    model = load_config(Config, RECIPES, "fusion").model
    sequence = None
    if "audio_sequence.0.linear1.weight" in state:
        feed_forward, dim = state["audio_sequence.0.linear1.weight"].shape
        words = (folder / "README.md").read_text()
        heads, positions = (re.search(of, words) for of in (r"(\d+) heads", r"positions up to (\d+)"))
        assert heads is not None
        assert positions is not None
        sequence = SequenceConfig(
            layers=len({name.split(".")[1] for name in state if name.startswith("audio_sequence.")}),
            dim=dim,
            heads=int(heads[1]),
            feed_forward=feed_forward,
            max_length=int(positions[1]),
            dropout=0.0,
            position_dropout=0.0,
            positions="no_positions" not in case,
            group=state["audio_output_projection.weight"].shape[1] // io["audio_tokens"].shape[-1],
            metadata=case.startswith("mid_"),
            readout="mean" if every else "first" if case.startswith("mid_") else "learned",
            mean="none" if "no_mean" in case else "padded",
        )
    model = replace(
        model,
        audio=replace(model.audio, tokens="frames"),
        text=replace(model.text, pooling="mean" if every and sequence is None else "first"),
        dim=len(state["project_audio.0.weight"]),
        late=late,
        sequence=sequence,
        hear="metadata_only" not in case,
        metadata="description" if "description" in case else "keywords",
    )
    return replace(load_config(Config, RECIPES, "fusion"), model=model)


def check_fusion(folder: Path, group: str, io: Any) -> Iterator[tuple]:
    manifest = json.loads((folder / "manifest.json").read_text())
    which = "state" if group == "none" or group.startswith("late") else "state_sequence"
    state = state_of(folder, "state_sequence_grouped" if "grouped" in group else which)
    config = fusion_config(folder, io, group, state)
    texts, length = manifest["texts"], io["text_length"]
    text = tower(config.model.text, io["text_tokens"], texts, length)
    separate = config.model.late == "separate"
    metadata = tower(config.model.text, io["metadata_tokens"], texts, length) if separate else None
    network = Given(config.model, AudioTable(config.model.audio, io["audio_tokens"]), text, metadata)
    loaded(network, state)
    if group.startswith("mid_"):
        given = torch.from_numpy(io["mid_metadata_tokens"]).float().requires_grad_()
        network.given = Tokens(given, torch.from_numpy(io["mid_metadata_mask"]).bool())
    system = RetrievalSystem(config, network, 1).train()
    system.log_dict = lambda values, **_: None  # type: ignore[method-assign]
    seconds = torch.from_numpy(io["audio_length"]) * io["audio_tokens"].shape[1] * SEGMENT
    keywords = manifest["other_captions_raw" if config.model.metadata == "description" else "keywords_raw"]
    clip = torch.from_numpy(io["clip"])
    batch = Batch(network.audio_encoder.waveforms(), seconds, manifest["captions_raw"], clip, keywords)
    yield from step(group, io, system, batch, LOSS)
    yield from groups_of_parameters(folder, "param_groups", network, group)


CHECKERS = {
    "task6_step_stage1": (groups_of_steps, check_stage1),
    "task6_step_stage2": (groups_of_steps, check_stage2),
    "task6_fusion": (groups_of_steps, check_fusion),
}
