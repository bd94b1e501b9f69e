"""Augmentation of captions: easy data augmentation, EDA (Wei & Zou 2019; Primus & Widmer 2022)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator

from common.run.errors import UserError
from common.run.files import read_json
from task6_retrieval.config import AugmentConfig
from task6_retrieval.model.text import normalised

Synonyms = Mapping[str, Sequence[str]]
NEAREST, CLOSENESS = 5, 0.6  # at most so many words of such a cosine stand in for a word
Operation = Callable[[list[str], Generator], list[str]]


class CaptionChange:
    """Captions of a batch -> captions, changed at random; draws: from `random`, by default from torch's generator."""

    def __init__(self, config: AugmentConfig, synonyms: Synonyms) -> None:
        self.config, self.synonyms = config, synonyms
        self.operations: tuple[Operation, ...] = (self.replaced, self.deleted, self.swapped, self.inserted)

    def __call__(self, captions: Sequence[str], random: Generator | None = None) -> list[str]:
        random = random or np.random.default_rng(int(torch.randint(2**62, ())))
        return [self.changed(caption, random) for caption in captions]

    def changed(self, caption: str, random: Generator) -> str:
        """With the probability `eda` one of four operations on the normalised caption."""
        words = normalised(caption).split()
        if not words or random.random() >= self.config.eda:
            return caption
        return " ".join(self.operations[random.integers(len(self.operations))](words, random))

    def replaced(self, words: list[str], random: Generator) -> list[str]:
        """n ~ Binomial(words, share) words by a synonym, where they have one."""
        words = list(words)
        for place in random.permutation(len(words))[: random.binomial(len(words), self.config.replaced)]:
            words[place] = self._synonym(words[place], random) or words[place]
        return words

    def deleted(self, words: list[str], random: Generator) -> list[str]:
        """Each word left out with the given probability; one stays."""
        kept = [word for word in words if random.random() >= self.config.deleted]
        return kept or [words[random.integers(len(words))]]

    def swapped(self, words: list[str], random: Generator) -> list[str]:
        """n ~ Binomial(words, share) pairs of words change places."""
        words = list(words)
        for _ in range(random.binomial(len(words), self.config.swapped)):
            one, other = random.integers(len(words), size=2)
            words[one], words[other] = words[other], words[one]
        return words

    def inserted(self, words: list[str], random: Generator) -> list[str]:
        """Synonyms of n ~ Binomial(words, share) words at any places."""
        found = list(words)
        for _ in range(random.binomial(len(words), self.config.inserted)):
            synonym = self._synonym(words[random.integers(len(words))], random)
            if synonym:
                found.insert(int(random.integers(len(found) + 1)), synonym)
        return found

    def _synonym(self, word: str, random: Generator) -> str | None:
        known = self.synonyms.get(word, ())
        return known[int(random.integers(len(known)))] if known else None


def caption_change(config: AugmentConfig, captions: Sequence[str], cache: Path) -> CaptionChange | None:
    """The augmentation of a recipe; None where it changes nothing. captions: of the training; cache: a folder."""
    if not config.eda:
        return None
    if not max(config.replaced, config.inserted):
        return CaptionChange(config, {})
    return CaptionChange(config, read_synonyms(config.synonyms) if config.synonyms else nearest_words(captions, cache))


def read_synonyms(path: str | Path) -> Synonyms:
    """A json file {word: [synonyms]}. Raises UserError for other content."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(_is_texts(value) for value in content.values()):
        raise UserError(f"{path}: expected a mapping of words to lists of synonyms")
    return content


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(of, str) for of in value)


def nearest_words(captions: Sequence[str], cache: Path, name: str = "all-MiniLM-L6-v2") -> Synonyms:
    """For every word of the captions those of them nearest to it, by a sentence encoder. Computed once."""
    from common.encoders.text import create

    words = sorted({word for caption in captions for word in normalised(caption).split()})
    vectors = create(name).encode(words, cache=cache)
    found = {}
    for word, vector in zip(words, vectors, strict=True):
        cosine = vectors @ vector
        order = np.argsort(-cosine, kind="stable")[: NEAREST + 1]
        found[word] = [words[at] for at in order if cosine[at] >= CLOSENESS and words[at] != word][:NEAREST]
    return found
