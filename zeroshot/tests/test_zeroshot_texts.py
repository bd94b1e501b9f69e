"""Class descriptions and vectors: files, names on the command line, attributes, TF-IDF, random ones; what is wrong."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from common.run.errors import UserError
from common.run.files import read_rows, write_rows
from zeroshot.config import Config, TextsConfig
from zeroshot.data.classes import CARRIED, carried
from zeroshot.data.texts import ClassText, class_texts, read_texts, texts_of_names
from zeroshot.data.vectors import (
    ESC10_ATTRIBUTES,
    ClassEncoder,
    centred,
    class_encoder,
    class_vectors,
    of_plain,
    plain,
    semantic_distances,
)

Configure = Callable[..., Config]
YAML = """
dog bark: [a dog barks, short rough barks]
rain: steady noise of drops
sneeze:
"""


def saved(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def test_the_forms_of_a_file_of_classes(tmp_path: Path) -> None:
    texts = read_texts(saved(tmp_path, "a.yaml", YAML))
    assert texts == {
        "dog bark": ClassText("dog bark", ("a dog barks", "short rough barks")),
        "rain": ClassText("rain", ("steady noise of drops",)),
        "sneeze": ClassText("sneeze"),
    }
    assert list(read_texts(saved(tmp_path, "b.yaml", "- dog\n- rain\n"))) == ["dog", "rain"]
    csv = saved(tmp_path, "c.csv", "class,text\nclock_tick,a clock ticks\nrain,it rains\nclock_tick,quiet ticks\n")
    assert read_texts(csv)["clock_tick"] == ClassText("clock tick", ("a clock ticks", "quiet ticks"))
    assert list(texts_of_names("dog bark, rain,a person sneezing")) == ["dog bark", "rain", "a person sneezing"]
    assert of_plain(plain(texts)) == texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "dog: a dog barks\n", r"a\.yaml: one class \(dog\); expected two or more"),
        ("a.yaml", "", "expected a mapping of classes to texts"),
        (
            "a.yaml",
            "dog: a\nrain: [b, '  ']\n",
            r"a\.yaml:2: a description of 'rain' is '  ', expected a text that is not",
        ),
        ("a.yaml", "dog: a\nrain: 3\n", r"a\.yaml:2: a description of 'rain' is 3"),
        ("a.yaml", "dog: Loud barks.\nfox: loud  barks\n", r"a\.yaml: 'dog' and 'fox' have identical descriptions"),
        ("a.yaml", "dog: a\nrain: b\ndog: c\n", r"a\.yaml:3: class 'dog' is there twice \(first in line 1\)"),
        ("a.yaml", "dog: [a\n", r"a\.yaml:\d: not valid YAML"),
        ("a.yaml", "2: a\nrain: b\n", r"a\.yaml:?\d?: class 2, expected a text"),
        ("a.csv", "class,text\ndog,\nrain,b\n", r"a\.csv:2: text is empty"),
        ("a.csv", "class,text\ndog,a\n", r"a\.csv: one class \(dog\)"),
        ("a.csv", "class,texts\ndog,a\n", r"a\.csv:1: no column 'text'; did you mean 'texts'"),
        ("a.csv", 'class,text\ndog,"a\n', r"a\.csv"),
    ],
)
def test_broken_files_of_classes(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_texts(saved(tmp_path, name, content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog", "one class"),
        ("dog,,rain", "an empty class"),
        ("dog,rain,dog", "'dog' is there twice"),
        ("", "empty class"),
    ],
)
def test_broken_lists_of_names(text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"--classes: .*{message}"):
        texts_of_names(text)


@pytest.mark.parametrize(
    ("text", "script"),
    [("собака лает", "Cyrillic"), ("犬が吠えている", "Cjk"), ("123", "no")],
)
def test_a_description_in_another_script(text: str, script: str) -> None:
    texts = {"dog": ClassText("dog", (text,)), "rain": ClassText("rain", ("it rains",))}
    with pytest.raises(UserError, match=rf"class 'dog': .* is written in {script} letters, .*multilingual"):
        ClassEncoder(TextsConfig(), texts).vectors(texts)
    accented = {"dog": ClassText("dog", ("très aigu, à l'orée",)), "rain": texts["rain"]}
    assert ClassEncoder(TextsConfig(), accented).vectors(accented).shape[0] == 2


@pytest.mark.parametrize("layout", ["esc50", "openmic"])
def test_every_carried_class_is_described_in_words_of_its_own(layout: str) -> None:
    texts = read_texts(CARRIED / f"{layout}_texts.csv")
    assert set(texts) == {row["class"] for row in carried(layout)}  # type: ignore[arg-type]
    assert all(len(text.descriptions) > 1 for text in texts.values())
    vectors = ClassEncoder(TextsConfig(), texts).vectors(texts)
    likeness = vectors @ vectors.T - np.eye(len(vectors))
    assert likeness.max() < 0.9


def test_tfidf_puts_like_texts_near_each_other() -> None:
    texts = {
        "dog": ClassText("dog", ("a dog barks", "loud barking")),
        "puppy": ClassText("puppy", ("a small dog barks", "high barking")),
        "rain": ClassText("rain", ("water drops fall", "even noise")),
    }
    encoder = ClassEncoder(TextsConfig(dims=5), texts)
    vectors = encoder.vectors(texts)
    assert vectors.shape == (3, 5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert np.array_equal(encoder.vectors(texts), ClassEncoder(TextsConfig(dims=5), texts).vectors(texts))


def test_what_is_used_of_a_class_and_templates() -> None:
    texts = {"dog": ClassText("dog", ("barks",)), "rain": ClassText("rain", ("drops",)), "cat": ClassText("cat")}

    def vectors(**settings: object) -> np.ndarray:
        config = TextsConfig(**settings)  # type: ignore[arg-type]
        return ClassEncoder(config, texts).vectors(texts)

    renamed = {"dog": ClassText("hound", ("barks",)), "rain": ClassText("wet", ("drops",)), "cat": ClassText("cat")}
    config = TextsConfig(use="description")
    assert np.allclose(ClassEncoder(config, texts).vectors(renamed), vectors(use="description"), atol=1e-6)
    assert not np.allclose(vectors(use="name"), vectors(use="mean")[:, : vectors(use="name").shape[1]])
    assert not np.allclose(vectors(use="name", templates=["sound of {}"]), vectors(use="name"))
    assert vectors(use="name_description").shape[0] == 3


def test_a_text_encoder_of_common_with_its_vectors_kept(tmp_path: Path) -> None:
    texts = texts_of_names("dog,rain,wind")
    config = TextsConfig(encoder="small")
    first = ClassEncoder(config, texts, tmp_path).vectors(texts)
    assert len(list(tmp_path.glob("*.npy"))) == 3
    assert np.array_equal(first, ClassEncoder(config, texts, tmp_path).vectors(texts))
    with pytest.raises(UserError, match=r"unknown text encoder 'smal'.*did you mean 'small'"):
        ClassEncoder(TextsConfig(encoder="smal"), texts).vectors(texts)


def test_attributes_are_as_in_their_table(tmp_path: Path) -> None:
    table = {row["class"]: row for row in read_rows(ESC10_ATTRIBUTES, ("class",))}
    texts = texts_of_names(",".join(table))
    vectors = ClassEncoder(TextsConfig(encoder="attributes"), texts).vectors(texts)
    assert vectors.shape == (10, 13)
    for name, row in zip(texts, vectors, strict=True):
        assert row.tolist() == pytest.approx([float(v) for k, v in table[name].items() if k != "class"])
    with pytest.raises(UserError, match=r"texts\.attributes: no class 'dogs'; did you mean 'dog'"):
        ClassEncoder(TextsConfig(encoder="attributes"), texts).vectors(texts_of_names("dogs,rain"))
    for content, message in (
        ("class,loud\ndog,x\n", r"a\.csv:2: loud is 'x'"),
        ("class,loud\ndog,1\ndog,2\n", r"a\.csv:3: class 'dog' is there twice"),
        ("class\ndog\n", "a number for each attribute"),
        ("class,loud\ndog,1\nrain,1\n", "'dog' and 'rain' have the same vector"),
    ):
        config = TextsConfig(encoder="attributes", attributes=str(saved(tmp_path, "a.csv", content)))
        with pytest.raises(UserError, match=message):
            ClassEncoder(config, texts).vectors(texts_of_names("dog,rain"))


def test_random_vectors_are_the_same_for_a_name() -> None:
    one, other = texts_of_names("dog,rain"), texts_of_names("rain,cat")
    encoder = ClassEncoder(TextsConfig(encoder="random", dims=20), one)
    assert np.array_equal(encoder.vectors(one)[1], encoder.vectors(other)[0])
    assert not np.allclose(encoder.vectors(one)[0], encoder.vectors(one)[1])


def test_centring_takes_the_training_classes_mean_alone() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [4.0, 3.0]])
    found = centred(vectors, vectors[:2])
    assert found == pytest.approx(
        np.array([[1, -1], [-1, 1], [3.5, 2.5]]) / np.array([[2**0.5], [2**0.5], [18.5**0.5]])
    )
    assert centred(vectors, vectors[:2], centre=False)[2] == pytest.approx([0.8, 0.6])
    assert semantic_distances(vectors[:2], vectors[2:]) == pytest.approx([0.2])


def test_a_data_set_brings_its_own_texts_and_attributes(tiny_root: Path, tiny: Configure) -> None:
    config = tiny()
    rows = read_rows(tiny_root / "descriptions.csv", ("class", "text"))
    assert {name: list(text.descriptions) for name, text in class_texts(config).items()} == _grouped(rows)
    _, encoder = class_encoder(config)
    assert encoder.vectors(class_texts(config)).shape == (12, 15)
    assert list(class_vectors(config)) == list(class_texts(config))


def _grouped(rows: list[Mapping[str, str]]) -> dict[str, list[str]]:  # type: ignore[type-arg]
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["class"], []).append(row["text"])
    return found


def test_a_class_without_a_text(tiny_root: Path, tiny: Configure, tmp_path: Path) -> None:
    rows = read_rows(tiny_root / "descriptions.csv", ("class", "text"))
    gone = rows[0]["class"]
    kept = [(row["class"], row["text"]) for row in rows if row["class"] != gone]
    write_rows(tmp_path / "texts.csv", ("class", "text"), kept)
    with pytest.raises(UserError, match=rf"texts\.csv: no text for the class '{gone}'; or set texts.use=name"):
        class_texts(tiny(f"texts.file={tmp_path / 'texts.csv'}"))
    assert len(class_texts(tiny(f"texts.file={tmp_path / 'texts.csv'}", "texts.use=name"))) == 12
