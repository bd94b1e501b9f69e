"""Class vectors: texts, attributes, or random numbers as points; frozen, never trained.

Texts are no sounds: whatever is fitted here may be fitted on the texts of test classes too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.run.errors import UserError, did_you_mean
from common.run.files import read_rows
from common.toy import key
from zeroshot.config import Config, TextsConfig
from zeroshot.data.classes import CARRIED
from zeroshot.data.texts import ClassText, Texts, check_script, class_texts

if TYPE_CHECKING:
    from common.encoders.text import SentenceEncoder

Vectors = NDArray[np.float32]
ATTRIBUTES = "attributes.csv"  # of a data set that brings a table
ESC10_ATTRIBUTES = CARRIED / "esc10_attributes.csv"  # specification, section 8
ENGLISH = ("tfidf", "all-MiniLM-L6-v2", "small")  # encoders that other letters say nothing to


class ClassEncoder:
    """Texts -> vectors (classes, dims), uncentred; rows of length 1 but for attributes, which are as in their table.

    corpus: the texts of all classes that are known beforehand; tfidf is fitted on them. cache: folder in which
    sentence vectors are kept. attributes: the table, where `config.attributes` names none.
    """

    def __init__(
        self, config: TextsConfig, corpus: Texts, cache: Path | None = None, attributes: Path = ESC10_ATTRIBUTES
    ) -> None:
        self.config, self.cache = config, cache
        self._table = read_attributes(config.attributes or attributes) if config.encoder == "attributes" else {}
        self._tfidf = (
            _fit_tfidf(_sentences(corpus.values(), config), config.dims) if config.encoder == "tfidf" else None
        )
        self._model: SentenceEncoder | None = None

    def vectors(self, texts: Texts) -> Vectors:
        """(classes, dims) float32. Raises UserError for a class that the table of attributes lacks, texts in letters
        that the encoder does not know, and two classes with the same vector."""
        if self.config.encoder == "attributes":
            found = self._from_table(texts)
        elif self.config.encoder == "random":
            found = np.stack([_random(name, self.config.dims) for name in texts])
        else:
            if self.config.encoder in ENGLISH:
                check_script(texts, self.config.encoder)
            found = _unit(np.stack([self._of(text) for text in texts.values()]))
        _check_apart(list(texts), found)
        return found.astype(np.float32)

    def _from_table(self, texts: Texts) -> NDArray[np.float64]:
        for name in texts:
            if name not in self._table:
                raise UserError(f"texts.attributes: no class {name!r}{did_you_mean(name, self._table)}")
        return np.stack([self._table[name] for name in texts])

    def _of(self, text: ClassText) -> NDArray[np.float64]:
        """Mean over what is used of a class: vectors of its name and of its descriptions count equally."""
        parts = [np.mean(_unit(self._encode(of)), axis=0) for of in used(text, self.config)]
        return np.mean(_unit(np.stack(parts)), axis=0)

    def _encode(self, sentences: Sequence[str]) -> NDArray[Any]:
        if self._tfidf is not None:
            return np.asarray(self._tfidf.transform(list(sentences)))
        if self._model is None:
            from common.encoders import text

            self._model = text.create(self.config.encoder)
        return self._model.encode(list(sentences), cache=self.cache)


def used(text: ClassText, config: TextsConfig) -> list[list[str]]:
    """Groups of sentences of a class, by `texts.use`; a class without descriptions has its name."""
    names = [template.replace("{}", text.name) for template in config.templates]
    described = list(text.descriptions)
    if config.use == "name" or not described:
        return [names]
    if config.use == "name_description":
        return [[f"{text.name}: {sentence}" for sentence in described]]
    return [described] if config.use == "description" else [names, described]


def _sentences(texts: Iterable[ClassText], config: TextsConfig) -> list[str]:
    return [sentence for text in texts for group in used(text, config) for sentence in group]


def _fit_tfidf(sentences: list[str], dims: int) -> Any:
    """Words and, within words, character 3- to 5-grams; reduced by singular values, as many as texts at most."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union

    union = make_union(
        TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
    )
    rank = min(dims, len(set(sentences)))
    return make_pipeline(union, TruncatedSVD(rank, n_iter=10, random_state=0)).fit(sentences)


def _random(name: str, dims: int) -> NDArray[np.float64]:
    """The same for a name in every process."""
    values = np.random.default_rng(key("class", name)).standard_normal(dims)
    return values / np.linalg.norm(values)


def _unit(rows: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(rows, np.float64) / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _check_apart(names: list[str], vectors: NDArray[Any]) -> None:
    seen: dict[bytes, str] = {}
    for name, row in zip(names, np.round(vectors, 6) + 0.0, strict=True):
        other = seen.setdefault(row.tobytes(), name)
        if other != name:
            raise UserError(f"classes {other!r} and {name!r} have the same vector: nothing can tell them apart")


def read_attributes(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """{class: its numbers} of a csv with `class` and a column for each attribute.

    Raises UserError (file, line) for a class that stands twice, what is no number, and a table without attributes.
    """
    rows = read_rows(path, ("class",))
    columns = [column for column in (rows[0] if rows else ()) if column not in ("class", "category")]
    if not columns:
        raise UserError(f"{path}: expected a line for each class with a number for each attribute")
    found: dict[str, NDArray[np.float64]] = {}
    for row in rows:
        if row["class"] in found:
            raise UserError(f"{row.at}: class {row['class']!r} is there twice")
        found[row["class"]] = np.array([row.number(column) for column in columns])
    return found


def centred(vectors: NDArray[Any], training: NDArray[Any], centre: bool = True) -> Vectors:
    """Vectors (classes, dims) without the mean of the training classes' (k, dims), rows of length 1."""
    return _unit(vectors - (training.mean(axis=0) if centre else 0.0)).astype(np.float32)


def semantic_distances(training: NDArray[Any], test: NDArray[Any]) -> NDArray[np.float64]:
    """1 - the largest cosine to a training class (k, dims), of each test class (m, dims), uncentred: (m,)."""
    return 1.0 - (_unit(test) @ _unit(training).T).max(axis=1)


def plain(texts: Texts) -> dict[str, Any]:
    """Texts as plain mappings, for checkpoints and JSON."""
    return {name: asdict(text) for name, text in texts.items()}


def of_plain(stored: dict[str, Any]) -> dict[str, ClassText]:
    """The inverse of `plain`."""
    return {name: ClassText(of["name"], tuple(of["descriptions"])) for name, of in stored.items()}


def attributes_of(config: Config) -> Path:
    """The table of attributes: the recipe's, the data set's own, or that of ESC-10."""
    own = Path(config.data.root or "") / ATTRIBUTES
    return Path(config.texts.attributes) if config.texts.attributes else own if own.is_file() else ESC10_ATTRIBUTES


def class_encoder(config: Config) -> tuple[Texts, ClassEncoder]:
    """Texts of all classes of a recipe and what makes vectors of them."""
    texts = class_texts(config)
    return texts, ClassEncoder(config.texts, texts, attributes=attributes_of(config))


def class_vectors(config: Config) -> dict[str, Vectors]:
    """Every class's uncentred vector."""
    texts, encoder = class_encoder(config)
    return dict(zip(texts, encoder.vectors(texts), strict=True))
