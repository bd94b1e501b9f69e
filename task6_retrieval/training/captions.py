"""Augmentation of captions: easy data augmentation, and variants that were made before (Primus & Widmer 2022)."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator

from common.run.errors import UserError
from common.run.files import existing_file, read_json
from task6_retrieval.config import AugmentConfig
from task6_retrieval.model.text import normalised

Synonyms = Mapping[str, Sequence[str]]
NEAREST, CLOSENESS = 5, 0.6  # at most so many words of such a cosine stand in for a word
Operation = Callable[[list[str], Generator], list[str]]


class CaptionChange:
    """Captions of a batch -> captions, changed at random; draws come from `random`, by default from torch's generator.

    variants: {caption: others of the same meaning}.
    """

    def __init__(self, config: AugmentConfig, synonyms: Synonyms, variants: Synonyms) -> None:
        self.config, self.synonyms, self.variants = config, synonyms, variants
        self.operations: tuple[Operation, ...] = (self.replaced, self.deleted, self.swapped, self.inserted)

    def __call__(self, captions: Sequence[str], random: Generator | None = None) -> list[str]:
        random = random or np.random.default_rng(int(torch.randint(2**62, ())))
        return [self.changed(caption, random) for caption in captions]

    def changed(self, caption: str, random: Generator) -> str:
        """A variant, then with the probability `eda` one of four operations on the normalised caption."""
        others = self.variants.get(caption, ())
        if others and random.random() < self.config.variant_probability:
            caption = others[int(random.integers(len(others)))]
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
    needed = config.eda > 0 and max(config.replaced, config.inserted) > 0
    variants = read_variants(config.variants) if config.variants and config.variant_probability else {}
    if not config.eda and not variants:
        return None
    synonyms: Synonyms = {}
    if needed:
        synonyms = read_synonyms(config.synonyms) if config.synonyms else nearest_words(captions, cache)
    return CaptionChange(config, synonyms, variants)


def read_synonyms(path: str | Path) -> Synonyms:
    """A json file {word: [synonyms]}. Raises UserError for other content."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(_is_texts(value) for value in content.values()):
        raise UserError(f"{path}: expected a mapping of words to lists of synonyms")
    return content


def read_variants(path: str | Path) -> Synonyms:
    """json lines {caption, variants: [...], ...} -> {caption: variants}. Raises UserError with the line."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(existing_file(path, "variants").read_text(encoding="utf-8").splitlines(), start=1):
        try:
            of = json.loads(line)
            caption, variants = of["caption"], of["variants"]
        except (json.JSONDecodeError, TypeError, KeyError):
            raise UserError(f"{path}:{number}: expected a json mapping with caption and variants") from None
        if not isinstance(caption, str) or not _is_texts(variants):
            raise UserError(f"{path}:{number}: expected a caption and a list of its variants")
        found.setdefault(caption, []).extend(variants)
    return found


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
