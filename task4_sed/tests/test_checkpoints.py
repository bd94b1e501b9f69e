"""Checkpoints: own and published forms, and everything that is none."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.run.errors import UserError
from common.run.files import sha256
from task4_sed.config import ModelConfig
from task4_sed.data.classes import CLASSES
from task4_sed.inference.checkpoints import Which, load_network
from task4_sed.model.crnn import CRNN

SMALL = ModelConfig(
    num_mels=16, channels=(2, 3), pooling=((2, 4), (2, 4)), rnn_hidden=3, rnn_layers=1, embedding_dim=None
)  # fmt: skip


def network(seed: int, config: ModelConfig = SMALL) -> CRNN:
    torch.manual_seed(seed)
    return CRNN(config)


STUDENT, TEACHER = network(1), network(2)


def own(**changes: Any) -> dict[str, Any]:
    """What training writes."""
    state = {
        **{f"student.{key}": value for key, value in STUDENT.state_dict().items()},
        **{f"teacher.{key}": value for key, value in TEACHER.state_dict().items()},
        "front_end.window": torch.ones(4),
    }
    return {"epoch": 1, "state_dict": state, "sed": {"classes": list(CLASSES), "model": asdict(SMALL)}, **changes}


def saved(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "a.ckpt")
    return folder / "a.ckpt"


def same(first: CRNN, second: CRNN) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


@pytest.mark.parametrize(("which", "expected"), [("student", STUDENT), ("teacher", TEACHER)])
def test_an_own_checkpoint_needs_no_recipe(tmp_path: Path, which: Which, expected: CRNN) -> None:
    path = saved(tmp_path, own())
    loaded = load_network(path, which, expected_sha256=sha256(path))
    assert same(loaded.network, expected)
    assert loaded.classes == CLASSES
    assert loaded.network.config == SMALL
    assert not loaded.network.training


def test_its_own_settings_count_and_not_those_of_the_recipe(tmp_path: Path) -> None:
    loaded = load_network(saved(tmp_path, own()), "student", ModelConfig())
    assert loaded.network.config == SMALL


def test_own_classes(tmp_path: Path) -> None:
    config = replace(SMALL, num_classes=2)
    content = own(sed={"classes": ["Gong", "Kazoo"], "model": asdict(config)})
    content["state_dict"] = {f"student.{k}": v for k, v in network(3, config).state_dict().items()}
    assert load_network(saved(tmp_path, content), "student").classes == ("Gong", "Kazoo")


def test_keys_of_compiled_networks(tmp_path: Path) -> None:
    content = own()
    content["state_dict"] = {k.replace("student.", "student._orig_mod."): v for k, v in content["state_dict"].items()}
    assert same(load_network(saved(tmp_path, content), "student").network, STUDENT)


@pytest.mark.parametrize("wrapper", ["module.", "model.module.", "_orig_mod.net."])
def test_keys_in_wrappers(tmp_path: Path, wrapper: str) -> None:
    content = own()
    content["state_dict"] = {wrapper + key: value for key, value in content["state_dict"].items()}
    path = saved(tmp_path, content)
    assert same(load_network(path, "student").network, STUDENT)
    assert same(load_network(path, "teacher").network, TEACHER)
    alone = saved(tmp_path, {wrapper + key: value for key, value in STUDENT.state_dict().items()})
    assert same(load_network(alone, "student", SMALL).network, STUDENT)


def test_a_checkpoint_that_holds_itself_or_code(tmp_path: Path) -> None:
    content = own()
    content["sed"]["model"]["channels"] = loop = [1]
    loop.append(loop)
    with pytest.raises(UserError, match="made by another version of this code"):
        load_network(saved(tmp_path, content), "student")
    arguments = saved(tmp_path, own(args=Namespace(lr=0.1)))
    with pytest.raises(UserError, match=r"holds Python code \(argparse\.Namespace\) beside weights; if you trust it"):
        load_network(arguments, "student")


PUBLISHED: dict[str, Mapping[str, Any]] = {
    "student and teacher apart": {"sed_student": STUDENT.state_dict(), "sed_teacher": TEACHER.state_dict()},
    "in Lightning's state dict": {
        "state_dict": {
            **{f"sed_student.{key}": value for key, value in STUDENT.state_dict().items()},
            **{f"sed_teacher.{key}": value for key, value in TEACHER.state_dict().items()},
        }
    },
}


@pytest.mark.parametrize("form", PUBLISHED)
@pytest.mark.parametrize(("which", "expected"), [("student", STUDENT), ("teacher", TEACHER)])
def test_published_checkpoints_take_the_settings_of_the_recipe(
    tmp_path: Path, form: str, which: Which, expected: CRNN
) -> None:
    path = saved(tmp_path, PUBLISHED[form])
    loaded = load_network(path, which, SMALL)
    assert same(loaded.network, expected)
    assert loaded.classes == CLASSES
    with pytest.raises(UserError, match=r"a\.ckpt: carries no model settings; give the recipe"):
        load_network(path, which)


def test_another_model_is_named_by_its_keys(tmp_path: Path) -> None:
    path = saved(tmp_path, PUBLISHED["student and teacher apart"])
    deeper = replace(SMALL, channels=(2, 3, 3), pooling=((2, 4), (2, 2), (1, 2)))
    for config, message in (
        (
            replace(SMALL, rnn_hidden=4),
            r"misshapen \(dense\.bias|misshapen \(dense\.weight is \(27, 6\), expected \(27, 8\)",
        ),
        (deeper, r"keys missing \(cnn\.cnn\.batchnorm2\.bias, .*, \.\.\.\)"),
        (
            replace(SMALL, activation="cg"),
            r"2 \w+ missing .*cg0|keys missing \(cnn\.cnn\.cg0.*keys unexpected \(cnn\.cnn\.glu0",
        ),
    ):
        with pytest.raises(UserError, match=r"a\.ckpt: checkpoint of another model: .*(" + message + ")") as caught:
            load_network(path, "student", config)
        assert "\n" not in str(caught.value)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [cut, flipped, lambda _: b"", lambda _: b"hello\n" * 50], ids=["cut", "flipped bit", "empty", "text"]
)
def test_a_damaged_file_is_found_by_its_hash(tmp_path: Path, damage: Any) -> None:
    path = saved(tmp_path, own())
    expected = sha256(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.ckpt: SHA-256 differs from the one recorded after training"):
        load_network(path, "student", expected_sha256=expected)


@pytest.mark.parametrize("damage", [cut, lambda _: b"", lambda _: b"hello\n" * 50], ids=["cut", "empty", "text"])
def test_a_damaged_file_without_a_known_hash(tmp_path: Path, damage: Any) -> None:
    path = saved(tmp_path, own())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.ckpt: not a readable checkpoint \(.+\)$") as caught:
        load_network(path, "student")
    assert "\n" not in str(caught.value)


class Danger:
    """A pickle that would run code."""

    def __reduce__(self) -> Any:
        return print, ("never",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not a checkpoint, holds a list"),
        ({"weights": {}}, "not a checkpoint of this task: neither state_dict nor sed_student in it"),
        (
            {"state_dict": {"encoder.w": torch.ones(1), "head.b": torch.ones(1)}},
            "no student in it; its keys start with encoder, head",
        ),
        ({"state_dict": {}}, "no student in it"),
        (own(sed={"classes": ["a"], "model": {"layers": 3}}), "made by another version of this code"),
        (own(sed={"classes": ["a"]}), "made by another version of this code"),
        (Danger(), "not a readable checkpoint"),
    ],
)
def test_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_network(saved(tmp_path, content), "student", SMALL)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "never" not in capsys.readouterr().out


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.ckpt: checkpoint not found"):
        load_network(tmp_path / "b.ckpt", "student")
    with pytest.raises(UserError, match="is a folder, expected a checkpoint"):
        load_network(tmp_path, "student")
