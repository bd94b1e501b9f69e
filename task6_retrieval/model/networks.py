"""The dual encoder: clips and captions in one space, where the cosine says how well they fit."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor, nn

from common.encoders import checkpoints
from common.encoders.text import FolderEncoder
from common.run.checkpoints import fill, network_state, read_checkpoint
from common.run.errors import UserError
from task6_retrieval.config import Config, ModelConfig
from task6_retrieval.model.audio import AudioTower, Features, Tokens, mean_of
from task6_retrieval.model.sequence import SequenceModel
from task6_retrieval.model.text import TextTower, keyword_text

# Names of the published systems -> those here. What takes part in no forward pass there is left out.
PUBLISHED = {
    "audio_projection.": "project_audio.0.",
    "text_projection.": "project_sentence.0.",
    "audio_token": "sequence.audio_token",
    "audio_output_projection.": "sequence.audio_output_projection.",
    "audio_sequence.": "sequence.audio_sequence.",
    "posencode.w": "sequence.position_scale",
}
IDLE = ("timing_tau", "posencode.pe")
IDLE_WITHOUT_SEQUENCE = ("audio_token", "audio_output_projection.", "posencode.w")
PARTS = ("audio_encoder", "text_encoder", "audio_head", "text_head")
ENCODERS = ("audio_embedding_model.", "sentence_embedding_model.", "metadata_embedding_model.")


def head(inputs: int, hidden: int | None, outputs: int) -> nn.Sequential:
    """One linear layer, or two with ReLU between them."""
    if hidden is None:
        return nn.Sequential(nn.Linear(inputs, outputs))
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class DualEncoder(nn.Module):
    """`clips` and `sentences` give raw projections (n, config.dim); their cosine is the similarity.

    tau: the temperature of the training, whose size counts; it stands here because it may be trained.
    """

    def __init__(self, config: ModelConfig, audio: AudioTower, sentence: TextTower, metadata: TextTower | None) -> None:
        super().__init__()
        self.config, sequence = config, config.sequence
        self.audio_encoder, self.sentence_encoder, self.metadata_encoder = audio, sentence, metadata
        self.sequence = SequenceModel(sequence, audio.dim) if sequence else None
        self.project_audio = head(sequence.dim if sequence else audio.dim, config.hidden, config.dim)
        self.project_sentence = head(sentence.dim, config.hidden, config.dim)
        separate = metadata is not None and config.late == "separate"
        self.project_metadata = head(metadata.dim, config.hidden, config.dim) if metadata and separate else None
        self.tokens_in: nn.Module = nn.Identity()  # metadata tokens at the width of the sequence model
        if sequence and sequence.metadata and sentence.dim != sequence.dim:
            self.tokens_in = nn.Linear(sentence.dim, sequence.dim)
        self.tau = nn.Parameter(torch.tensor([config.tau]), requires_grad=config.tau_trained)

    def sentences(self, captions: Sequence[str]) -> Tensor:
        """Captions -> (captions, dim)."""
        return self.project_sentence(self.sentence_encoder(captions))

    def clips(
        self, audio: Tensor, seconds: Tensor, metadata: Sequence[str] | None = None, features: Features | None = None
    ) -> Tensor:
        """Clips as `AudioTower` takes them, and their metadata where the model has a use for it, -> (clips, dim).

        Raises UserError for a model of fusion and clips without metadata.
        """
        if not self.config.uses_metadata:
            texts = None
        elif metadata is None:
            raise UserError("a model with fusion embeds clips with their metadata, but these have none")
        else:
            texts = [keyword_text(of) for of in metadata] if self.config.metadata == "keywords" else list(metadata)
        late = self._late(texts) if texts is not None and self.config.late != "none" else None
        if not self.config.hear:
            assert late is not None
            return late
        vectors = self.project_audio(self.pooled(self.audio_encoder(audio, seconds, features), self._tokens(texts)))
        return vectors if late is None else vectors + late

    def pooled(self, audio: Tokens, metadata: Tokens | None = None) -> Tensor:
        """Audio tokens, and those of metadata in mid-level fusion, -> what the head projects, (clips, width)."""
        return mean_of(*audio) if self.sequence is None else self.sequence(audio, metadata)

    def _late(self, texts: Sequence[str]) -> Tensor:
        if self.metadata_encoder is None or self.project_metadata is None:
            vectors = self.sentences(texts)
        else:
            vectors = self.project_metadata(self.metadata_encoder(texts))
        if self.config.no_metadata == "encoded":
            return vectors
        return vectors * torch.tensor([[bool(text.strip())] for text in texts], device=vectors.device)

    def _tokens(self, texts: Sequence[str] | None) -> Tokens | None:
        """Metadata tokens of mid-level fusion; none of a clip without metadata."""
        if texts is None or self.config.sequence is None or not self.config.sequence.metadata:
            return None
        values, valid = (self.metadata_encoder or self.sentence_encoder).tokens(texts)
        if self.config.no_metadata == "nothing":
            valid = valid & torch.tensor([[bool(text.strip())] for text in texts], device=valid.device)
        return Tokens(self.tokens_in(values), valid)

    def borrowed(self) -> tuple[str, ...]:
        """Beginnings of the names of frozen weights that lie elsewhere, and need not be in a checkpoint."""
        audio, found = self.audio_encoder.encoder, []
        if audio.frozen and audio.checkpoint is not None:
            found.append("audio_encoder.encoder.")
        for name in ("sentence_encoder", "metadata_encoder"):
            tower = getattr(self, name)
            if tower is not None and tower.config.frozen and isinstance(tower.encoder, FolderEncoder):
                found.append(f"{name}.")
        return tuple(found)

    def groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Names and parameters by part, as published: audio_encoder, text_encoder, audio_head, text_head."""
        found: dict[str, list[tuple[str, nn.Parameter]]] = {part: [] for part in PARTS}
        for name, parameter in self.named_parameters():
            found[_part(name)].append((name, parameter))
        return found


def _part(name: str) -> str:
    if name.startswith("audio_encoder."):
        return "audio_encoder"
    if name.startswith(("sentence_encoder.", "metadata_encoder.")):
        return "text_encoder"
    return "text_head" if name.startswith(("project_sentence.", "project_metadata.", "tokens_in.")) else "audio_head"


def build_network(config: Config) -> DualEncoder:
    """The network of a recipe; encoders have the weights of their checkpoints, the rest depends on torch's seed."""
    model = config.model
    audio = AudioTower(model.audio, config.data.segment_seconds)
    metadata = TextTower(model.text) if model.late == "separate" else None
    return DualEncoder(model, audio, TextTower(model.text), metadata)


def load_weights(network: DualEncoder, path: str | Path, expected_sha256: str | None = None) -> DualEncoder:
    """`network` with the weights of a training's checkpoint, in evaluation mode; frozen ones are those it has.

    Raises UserError for a file that is none, is damaged or is of another model.
    """
    path = Path(path)
    return fill_network(network, network_state(read_checkpoint(path, expected_sha256), ("network",), path), path)


def fill_network(network: DualEncoder, state: Mapping[str, Tensor], path: Path) -> DualEncoder:
    """As `load_weights`, of weights that were read."""
    borrowed = network.borrowed()
    own = {name: value for name, value in network.state_dict().items() if borrowed and name.startswith(borrowed)}
    fill(network, {**own, **state}, path)
    return network


def own_names(state: Mapping[str, Tensor], with_sequence: bool) -> dict[str, Tensor]:
    """Heads, sequence model and temperature of a published system, under the names of `DualEncoder`."""
    idle = IDLE if with_sequence else IDLE + IDLE_WITHOUT_SEQUENCE
    found = {}
    for name, value in state.items():
        if not name.startswith((*idle, *ENCODERS)):
            start = next((old for old in PUBLISHED if name.startswith(old)), "")
            found[PUBLISHED.get(start, "") + name.removeprefix(start)] = value
    return found


def load_published(network: DualEncoder, path: str | Path) -> DualEncoder:
    """Load the file of a whole published system (2023 to 2025). Raises UserError for whatever does not fit."""
    state = checkpoints.read_state(path)
    parts = {prefix: {n: v for n, v in state.items() if n.startswith(prefix)} for prefix in ENCODERS}
    words = [name.split(".") for name in parts[ENCODERS[0]]]
    wrappers = len(list(takewhile(lambda of: len(set(of)) == 1, zip(*words, strict=False))))
    audio = dict(zip((".".join(of[wrappers:]) for of in words), parts[ENCODERS[0]].values(), strict=True))
    checkpoints.load(network.audio_encoder.encoder, audio, path)
    for prefix, tower in zip(ENCODERS[1:], (network.sentence_encoder, network.metadata_encoder), strict=True):
        if tower is not None:
            _load_text(tower, parts[prefix], path)
    heads = own_names(state, network.sequence is not None)
    heads.setdefault("tau", network.tau.data)
    heads["tau"] = heads["tau"].reshape(1)
    towers = ("audio_encoder.", "sentence_encoder.", "metadata_encoder.")
    own = {name: value for name, value in network.state_dict().items() if not name.startswith(towers)}
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    wrong = sorted(set(shapes.items()) ^ {(name, tuple(value.shape)) for name, value in heads.items()})
    if wrong:
        raise UserError(f"{path}: does not fit this recipe: {wrong[0][0]} {wrong[0][1]} is in one of them alone")
    network.load_state_dict(heads, strict=False)
    return network


def _load_text(tower: TextTower, state: Mapping[str, Tensor], path: str | Path) -> None:
    """A text encoder behind whatever wrappers; poolers, which no system uses, may be absent."""
    anchor = "embeddings.word_embeddings.weight"
    encoder = tower.encoder
    if not isinstance(encoder, FolderEncoder):
        raise UserError(f"{path}: a published system needs a text encoder that transformers reads")
    before = next((name.removesuffix(anchor) for name in state if name.endswith(anchor)), None)
    if before is None:
        raise UserError(f"{path}: no text encoder in it")
    found = {n.removeprefix(before): v for n, v in state.items() if not n.endswith("position_ids")}
    missing, unexpected = encoder.model.load_state_dict(found, strict=False)
    wrong = [name for name in (*missing, *unexpected) if not name.startswith("pooler.")]
    if wrong:
        raise UserError(f"{path}: does not fit {encoder.name}: {wrong[0]} is in one of them alone")
