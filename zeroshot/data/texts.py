"""What is said of classes: names and descriptions, from tables, AudioSet's ontology, or a person's own list."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.run.errors import UserError, brief
from common.run.files import existing_file, read_rows
from common.run.yaml_lines import NotYamlError, read_yaml
from zeroshot.config import Config, DataConfig, TextsConfig, TrainingDataConfig
from zeroshot.data.classes import CARRIED, words
from zeroshot.data.layout import read_classes
from zeroshot.data.ontology import needed_ontology

OWN_FILE = "descriptions.csv"  # of a data set that brings its texts


@dataclass(frozen=True)
class ClassText:
    """A class in words; descriptions: none, or sentences that mean the same class."""

    name: str
    descriptions: tuple[str, ...] = ()


Texts = Mapping[str, ClassText]  # by class, in order


def class_texts(config: Config) -> dict[str, ClassText]:
    """Those of all classes of the recipe's data set, and of the one that it trains on.

    Raises UserError for a class that no text is given for where descriptions are used.
    """
    places = [place for place in (config.data.training, config.data) if place is not None]
    found: dict[str, ClassText] = {}
    for place in places:
        classes = _classes(place)
        given = _given(config, place)
        for name in classes:
            text = given.get(name, ClassText(words(name)))
            if config.texts.use != "name" and name not in given:
                raise UserError(
                    f"{_source(config.texts, place)}: no text for the class {name!r}; or set texts.use=name"
                )
            if name in found:
                raise UserError(f"data.training: both data sets have a class {name!r}: it would be seen and unseen")
            found[name] = text
    check_texts(found, "texts")
    return found


def _classes(place: DataConfig | TrainingDataConfig) -> tuple[str, ...]:
    from common.audio.coverage import root_of

    return read_classes(root_of(place), place.layout)


def _source(config: TextsConfig, place: DataConfig | TrainingDataConfig) -> Path:
    """The table that speaks of a data set's classes."""
    own = Path(place.root or "") / OWN_FILE
    return Path(config.file) if config.file else own if own.is_file() else CARRIED / f"{place.layout}_texts.csv"


def _given(config: Config, place: DataConfig | TrainingDataConfig) -> Mapping[str, ClassText]:
    if config.texts.use == "name" and not config.texts.file:
        return {}
    path = _source(config.texts, place)
    if place.layout == "audioset" and not config.texts.file and not path.is_file():
        nodes = needed_ontology(config.data, "texts.use").descriptions
        return {name: ClassText(name, (text,) if text.strip() else ()) for name, text in nodes.items()}
    return read_texts(path)


def texts_of_names(text: str) -> dict[str, ClassText]:
    """`dog bark, rain` -> those classes, without descriptions. Raises UserError for one class, or two alike."""
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise UserError(f"--classes: {text!r} has an empty class between two commas")
    return _checked([(f"--classes: class {number}", name, name) for number, name in enumerate(names, 1)], "--classes")


def texts_of(classes: Sequence[str] | Mapping[str, str | Sequence[str]]) -> dict[str, ClassText]:
    """Names, or {name: description or descriptions}. Raises UserError for an empty one, one class, two alike."""
    given = classes if isinstance(classes, Mapping) else dict.fromkeys(classes, "")
    if len(given) < len(classes):
        raise UserError("classes: a name is there twice")
    entries = []
    for name, texts in given.items():
        for text in [texts] if isinstance(texts, str) else texts or [""]:
            entries.append(("classes", name, text if isinstance(classes, Mapping) else name))
    if empty := [name for _, name, text in entries if not name.strip() or not text.strip()]:
        raise UserError(f"classes: {empty[0]!r} has an empty name or description")
    return _checked(entries, "classes")


def read_texts(path: str | Path) -> dict[str, ClassText]:
    """A csv with class and text (a row for each text; `name` where a class is called otherwise), or a yaml file.

    yaml: a mapping of classes to a text, a list of texts, or nothing; or a list of classes. Raises UserError (file,
    line) for an empty text, one class alone, two classes with the same text.
    """
    path = Path(path)
    if path.suffix in (".yaml", ".yml"):
        return _checked(list(_yaml_entries(path)), str(path))
    rows = read_rows(path, ("class", "text"))
    for row in rows:
        for column in ("class", "text"):
            if not row[column].strip():
                raise UserError(f"{row.at}: {column} is empty")
    return _checked([(row.at, row["class"], row["text"]) for row in rows], str(path))


def _yaml_entries(path: Path) -> Iterable[tuple[str, str, str]]:
    """(file:line, class, text), with the class for its text where it has none."""
    try:
        content, keys = read_yaml(existing_file(path, "file of classes").read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except NotYamlError as error:
        raise UserError(f"{path}:{error.line or 1}: not valid YAML: {error.problem}") from None
    at = {key[0]: f"{path}:{line}" for key, line in reversed(keys)}
    doubled = [(key[0], line) for key, line in keys if len(key) == 1]
    names = [name for name, _ in doubled]
    for name, line in doubled:
        if names.count(name) > 1 and at[name] != f"{path}:{line}":
            raise UserError(
                f"{path}:{line}: class {name!r} is there twice (first in line {at[name].rpartition(':')[2]})"
            )
    if isinstance(content, list):
        content = {name if isinstance(name, str) else "": None for name in content}
    if not isinstance(content, dict):
        raise UserError(f"{path}:1: expected a mapping of classes to texts, or a list of classes")
    for name, texts in content.items():
        where = at.get(name, str(path))
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where}: class {brief(name)}, expected a text")
        for text in [name] if texts is None else texts if isinstance(texts, list) and texts else [texts]:
            if not isinstance(text, str) or not text.strip():
                raise UserError(
                    f"{where}: a description of {name!r} is {brief(text)}, expected a text that is not empty"
                )
            yield where, name, text


def _checked(entries: list[tuple[str, str, str]], source: str) -> dict[str, ClassText]:
    """(where, class, text) -> texts by class; a text that is the class itself is no description."""
    found: dict[str, list[str]] = {}
    for _, name, text in entries:
        found.setdefault(name.strip(), []).extend([] if text.strip() == name.strip() else [text.strip()])
    texts = {name: ClassText(words(name), tuple(dict.fromkeys(of))) for name, of in found.items()}
    if source == "--classes" and len(entries) > len(texts):
        twice = next(name for where, name, _ in entries if sum(n == name for _, n, _ in entries) > 1)
        raise UserError(f"--classes: {twice!r} is there twice")
    check_texts(texts, source)
    return texts


def check_texts(texts: Texts, source: str) -> None:
    """UserError for fewer than two classes, and for two that are described in the same words."""
    if len(texts) < 2:
        what = f"one class ({next(iter(texts))})" if texts else "no class"
        raise UserError(f"{source}: {what}; expected two or more, since one alone is always the most probable")
    said: dict[tuple[str, ...], str] = {}
    for name, text in texts.items():
        key = tuple(sorted(_plain(sentence) for sentence in text.descriptions or (text.name,)))
        if key in said:
            raise UserError(
                f"{source}: {said[key]!r} and {name!r} have identical descriptions: nothing can tell them apart"
            )
        said[key] = name


def _plain(sentence: str) -> str:
    return " ".join(sentence.casefold().split()).rstrip(".")


def check_script(texts: Texts, encoder: str) -> None:
    """UserError for texts most of whose letters are not Latin, which an encoder of English makes nothing of."""
    for name, text in texts.items():
        for sentence in (text.name, *text.descriptions):
            letters = [letter for letter in sentence if letter.isalpha()]
            other = [letter for letter in letters if not unicodedata.name(letter, "").startswith("LATIN")]
            if not letters or 2 * len(other) > len(letters):
                script = unicodedata.name(other[0], "unknown").split()[0].capitalize() if other else "no"
                raise UserError(
                    f"class {name!r}: {sentence!r} is written in {script} letters, of which the text encoder {encoder} "
                    "knows nothing; write it in English, or name a multilingual model's folder as texts.encoder"
                )
