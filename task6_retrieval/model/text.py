"""The text side: captions, keywords and descriptions through a text encoder."""

import string
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from common.encoders.text import SentenceEncoder, create
from common.run.progress import progress
from task6_retrieval.config import TextConfig
from task6_retrieval.model.audio import Tokens, mean_of

PUNCTUATION = str.maketrans("", "", string.punctuation)
AT_ONCE = 64  # texts of a frozen encoder


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation; blanks stay."""
    return text.lower().translate(PUNCTUATION)


def keyword_text(keywords: str) -> str:
    """Keywords of a clip, as the data sets write them ("dog;rain"), as a text."""
    return " ".join(keywords.split(";"))


class TextTower(nn.Module):
    """Texts -> vectors (texts, dim). A frozen encoder embeds every text once, in evaluation mode."""

    encoder: SentenceEncoder

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = create(config.encoder, config.max_tokens, config.seed, config.dropout)
        for name, parameter in self.encoder.named_parameters():  # poolers take part in nothing
            parameter.requires_grad_(not config.frozen and ".pooler." not in name)
        self.dim = self.encoder.dim
        self.known: dict[str, int] = {}  # rows of `table`, the vectors that a frozen encoder has given
        self.table = torch.empty(0, self.dim)

    def train(self, mode: bool = True) -> "TextTower":
        super().train(mode and not self.config.frozen)
        return self

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """The last layer's states (texts, tokens, dim)."""
        device = next(self.encoder.parameters()).device
        texts = [normalised(text) for text in texts] if self.config.normalise else texts
        ids, mask = (of.to(device) for of in self.encoder.tokens(texts))
        return Tokens(self.encoder.states(ids, mask), mask.bool())

    def forward(self, texts: Sequence[str]) -> Tensor:
        if not self.config.frozen:
            return self._pooled(texts)
        self.remember(texts)
        return self.table[[self.known[text] for text in texts]]

    def remember(self, texts: Sequence[str], title: str | None = None) -> None:
        """Embed what a frozen encoder has not read yet; under `title` with progress."""
        self.table = self.table.to(next(self.encoder.parameters()).device)  # once: it stays there
        new = sorted({text for text in texts if text not in self.known}, key=lambda text: (len(text), text))
        parts = []
        with torch.no_grad(), progress(title, len(new), "captions") if title and new else nullcontext() as advance:
            for start in range(0, len(new), AT_ONCE):  # of like length, so that little is padding
                parts.append(self._pooled(new[start : start + AT_ONCE]).float())
                if advance:
                    advance(len(parts[-1]))
        if new:
            self.table = torch.cat([self.table, *parts])
            self.known |= {text: len(self.known) + row for row, text in enumerate(new)}

    def _pooled(self, texts: Sequence[str]) -> Tensor:
        values, valid = self.tokens(texts)
        return values[:, 0] if self.config.pooling == "first" else mean_of(values, valid)
