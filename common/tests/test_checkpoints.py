"""Published checkpoints: catalogue, reading, names, strict loading."""

import logging
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from common import encoders
from common.encoders import checkpoints, packaged
from common.encoders.checkpoints import catalogue, read_state, strip_prefix
from common.run.checkpoints import network_state, read_checkpoint
from common.run.errors import UserError
from common.run.files import sha256

# What stands before the encoder's names in the published files, where anything does.
PREFIXES = {
    "atst-f-tiny": "model.atst.",
    "beats-tiny": "model.model.",
    "fpasst-tiny": "model.",
    "asit-tiny": "model.",
    "m2d-tiny": "model.backbone.",
    "frame_mn-tiny": "model.frame_mn.",
    "cp-resnet-tiny": "",
}
TINY = [name for name in encoders.names() if name.endswith("-tiny")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DCASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def published(name: str, num_classes: int | None = 5, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a tiny model under the names of a published file."""
    torch.manual_seed(seed)
    model = encoders.create(name, num_classes=num_classes) if name != "vggish-tiny" else encoders.create(name)
    prefix = PREFIXES.get(name, "")
    heads = ("strong_head.", "weak_head.")
    state = {n.removeprefix("network."): v for n, v in model.state_dict().items()}
    return {n if n.startswith(heads) else prefix + n: v + v.new_ones(()) for n, v in state.items()}


def save(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


# --------------------------------------------------------------------------------------------------------------- names


WRAPPERS = ["", "model.", "net.", "module.", "student.", "teacher.", "_orig_mod."]
WRAPPERS += ["module._orig_mod.", "model._orig_mod.", "model.module.", "_orig_mod.module.model.net.", "net.student."]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_strip_prefix_with_every_wrapper(wrapper: str) -> None:
    one = torch.ones(1)
    state = {f"{wrapper}model.atst.pos_embed": one, f"{wrapper}strong_head.bias": one, "other.x": one}
    assert set(strip_prefix(state, ("model.atst.", "model."), "pos_embed")) == {
        "pos_embed",
        "strong_head.bias",
        "other.x",
    }


def test_strip_prefix_takes_the_first_that_fits() -> None:
    one = torch.ones(1)
    assert set(strip_prefix({"model.a": one, "model.model.a": one}, ("model.model.", "model."), "a")) == {
        "model.a",
        "a",
    }
    assert set(strip_prefix({"model.x": one, "model.weak_head.w": one}, ("model.", ""), "x")) == {"x", "weak_head.w"}
    assert set(strip_prefix({"a.b": one}, ("c.",), "b")) == {"a.b"}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", TINY)
def test_create_loads_names_in_wrappers(tmp_path: Path, name: str, wrapper: str) -> None:
    state = published(name)
    wrapped = {wrapper + n: v for n, v in state.items()} | {"n_averaged": torch.tensor(3)}
    found = encoders.create(name, save(tmp_path / "wrapped.pt", {"state_dict": wrapped})).state_dict()
    expected = encoders.create(name, save(tmp_path / "plain.pt", state)).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_network_state_in_wrappers(wrapper: str) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3))
    own = network.state_dict()
    named = {f"network.{name}": value for name, value in own.items()}
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.ModuleDict({"network": network})).state_dict()
    inside = {f"network._orig_mod.{name}": value for name, value in own.items()}
    for state in (named, averaged, inside):
        wrapped = {wrapper + name: value for name, value in state.items()} | {"front_end.window": torch.ones(2)}
        assert_same(network_state({"state_dict": wrapped}, "network", Path("x.ckpt")), own)
    assert_same(network_state({wrapper + name: value for name, value in own.items()}, "network", Path("x")), own)


def test_student_and_teacher_side_by_side(tmp_path: Path) -> None:
    state = {f"module.{part}.{name}": v for part, of in (("student", 1), ("teacher", 2)) for name, v in scaled(of)}
    path = save(tmp_path / "x.ckpt", {"state_dict": state})
    assert_same(strip_prefix(read_state(path), ("",), "a"), dict(scaled(1)))
    assert_same(strip_prefix(read_state(path, "teacher"), ("",), "a"), dict(scaled(2)))
    assert_same(network_state({"state_dict": state}, "teacher", path), dict(scaled(2)))


def scaled(by: int) -> list[tuple[str, Tensor]]:
    return [(name, value * by) for name, value in STATE.items()]


# ------------------------------------------------------------------------------------------------------------- reading

STATE = {"a": torch.arange(4.0), "b.weight": torch.ones(2, 3, dtype=torch.float16)}
WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "flat": lambda s: s,
    "lightning": lambda s: {"epoch": 3, "global_step": torch.tensor(5), "state_dict": s},
    "model": lambda s: {"cfg": {"depth": 12}, "model": s},
    "student": lambda s: {"student": s, "teacher": {"a": torch.zeros(4)}},
    "sed_student": lambda s: {"sed_student": s, "sed_teacher": {"a": torch.zeros(4)}},
    "inside each other": lambda s: {"model": {"state_dict": s}},
    "beside numbers": lambda s: {**s, "version": 2},
}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("modern", [True, False])
def test_read_state_unwraps(tmp_path: Path, wrapping: str, modern: bool) -> None:
    path = save(tmp_path / "x.ckpt", WRAPPINGS[wrapping](STATE), _use_new_zipfile_serialization=modern)
    assert_same(read_state(path), STATE)


def test_read_state_of_the_teacher(tmp_path: Path) -> None:
    path = save(tmp_path / "x.ckpt", {"student": {"a": torch.zeros(4)}, "teacher": STATE})
    assert_same(read_state(path, "teacher"), STATE)


def test_read_state_of_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    assert_same(read_state(tmp_path / "x.safetensors"), STATE)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code was run",))


def wrong_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """what -> (file, what the message says)"""
    whole = save(folder / "whole.pt", STATE).read_bytes()
    old = save(folder / "old.pt", STATE, _use_new_zipfile_serialization=False).read_bytes()
    save_file(STATE, folder / "whole.safetensors")
    safe = (folder / "whole.safetensors").read_bytes()

    def written(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    itself: dict[str, Any] = {"epoch": 1}
    itself["state_dict"] = itself
    return {
        "in itself": (save(folder / "itself.pt", itself), "more than 8 dictionaries"),
        "arguments": (save(folder / "args.pt", {"args": Namespace(lr=1), **STATE}), r"code \(argparse\.Namespace\)"),
        "pointer": (written("lfs.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
        "missing": (folder / "none.pt", "checkpoint not found"),
        "folder": (folder, "is a folder"),
        "empty": (written("empty.pt", b""), "empty file"),
        "text": (written("text.pt", b"<!DOCTYPE html><html>404</html>"), "not a checkpoint"),
        "noise": (written("noise.pt", bytes(range(256)) * 9), "not a checkpoint"),
        "zip": (written("zip.pt", b"PK\5\6" + bytes(18)), "not a checkpoint, or damaged"),
        "two disks": (written("disks.pt", whole[:-26] + b"\2" + whole[-25:]), "damaged .*multiple disks"),
        "cut": (written("cut.pt", whole[: len(whole) // 2]), "the end is missing"),
        "cut at the end": (written("cut2.pt", whole[:-9]), "the end is missing"),
        "old, cut": (written("oldcut.pt", old[: len(old) - 20]), "not a checkpoint, or damaged"),
        "old, cut early": (written("oldcut2.pt", old[:40]), "not a checkpoint"),
        "safetensors, cut": (written("cut.safetensors", safe[:-5]), r"not a whole \.safetensors"),
        "safetensors, text": (written("text.safetensors", b"hello"), r"not a whole \.safetensors"),
        "code": (save(folder / "code.pt", {"model": STATE, "x": Code()}), r"holds Python code \(print\)"),
        "foreign": (save(folder / "foreign.pt", {"epoch": 1, "weights": STATE}), "found the keys epoch, weights"),
        "only a teacher": (save(folder / "teacher.pt", {"teacher": STATE}), "found the keys teacher"),
        "no tensors": (save(folder / "none2.pt", {}), "holds no tensors"),
        "a number": (save(folder / "number.pt", 7), "holds a int"),
        "a tensor": (save(folder / "tensor.pt", torch.ones(3)), "holds a Tensor"),
    }


def test_read_state_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what, (path, message) in wrong_files(tmp_path).items():
        with pytest.raises(UserError, match=message) as error:
            read_state(path)
        assert str(error.value).startswith(str(path)), what
        assert "\n" not in str(error.value), what
        if what not in ("in itself", "foreign", "only a teacher", "no tensors", "a tensor"):
            with pytest.raises(UserError, match=message):
                read_checkpoint(path)
    assert "code was run" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("name", TINY)
def test_create_loads_published_names(tmp_path: Path, name: str) -> None:
    state = published(name)
    path = save(tmp_path / "weights.pt", state)
    encoder = encoders.create(name, path)
    own = encoder.state_dict()
    for key, value in encoder.canonical(state).items():
        assert torch.equal(own[key], value), key
    assert not encoder.training
    assert encoder.name == name
    assert encoder.checkpoint == {"name": "weights", "file": "weights.pt", "sha256": sha256(path)}
    out = encoder(torch.zeros(1, encoder.sample_rate))
    assert out.logits is None if name == "vggish-tiny" else out.logits is not None and out.logits.shape == (1, 5)


@pytest.mark.parametrize("name", sorted(PREFIXES))
def test_create_loads_training_checkpoints(tmp_path: Path, name: str) -> None:
    """Those of Lightning have one word more in front."""
    state = published(name)
    path = save(tmp_path / "last.ckpt", {"state_dict": {f"model.{n}": v for n, v in state.items()}, "epoch": 1})
    direct = encoders.create(name, save(tmp_path / "plain.pt", state))
    found = encoders.create(name, path)
    assert all(
        torch.equal(a, b) for a, b in zip(direct.state_dict().values(), found.state_dict().values(), strict=True)
    )


def test_half_precision_is_converted(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in published("beats-tiny").items()}
    encoder = encoders.create("beats-tiny", save(tmp_path / "half.pt", state))
    assert {value.dtype for value in encoder.state_dict().values()} == {torch.float32}


def test_front_end_tables_are_ignored(tmp_path: Path) -> None:
    state = published("atst-f-tiny") | {"model.atst_mel.mel_transform.mel_scale.fb": torch.ones(513, 64)}
    encoders.create("atst-f-tiny", save(tmp_path / "tables.pt", state))


def test_counters_are_optional(tmp_path: Path) -> None:
    state = {n: v for n, v in published("mn-tiny").items() if not n.endswith("num_batches_tracked")}
    encoders.create("mn-tiny", save(tmp_path / "no_counters.pt", state))


@pytest.mark.parametrize("name", [name for name in TINY if name != "vggish-tiny"])
def test_head_of_other_classes(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "five.pt", published(name))
    encoder = encoders.create(name, path, num_classes=3)
    out = encoder(torch.zeros(1, 10 * encoder.sample_rate))
    assert out.logits is not None
    assert out.logits.shape == (1, 3)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "has a head of 5 classes" in caplog.text
    assert encoder.head_weight in caplog.text
    caplog.clear()
    encoder = encoders.create(name, path, num_classes=None)  # nothing is lost that was asked for
    assert encoder(torch.zeros(1, 10 * encoder.sample_rate)).logits is None
    assert not caplog.records


@pytest.mark.parametrize("name", [name for name in TINY if name != "vggish-tiny"])
def test_file_without_head(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "ssl.pt", published(name, num_classes=None))
    encoder = encoders.create(name, path)
    assert encoder(torch.zeros(1, 10 * encoder.sample_rate)).logits is None
    assert not caplog.records
    encoder = encoders.create(name, path, num_classes=4)
    logits = encoder(torch.zeros(1, 10 * encoder.sample_rate)).logits
    assert logits is not None
    assert logits.shape == (1, 4)
    assert "has no head" in caplog.text


def test_strict_comparison(tmp_path: Path) -> None:
    state = published("atst-f-tiny")

    def message(changed: dict[str, Tensor]) -> str:
        with pytest.raises(UserError) as error:
            encoders.create("atst-f-tiny", save(tmp_path / "x.pt", changed))
        assert "\n" not in str(error.value)
        return str(error.value)

    p = "model.atst."
    without = {n: v for n, v in state.items() if ".attn.proj." not in n}
    assert "4 missing (blocks.0.attn.proj.bias, blocks.0.attn.proj.weight, blocks.1.attn.proj.bias, ...)" in message(
        without
    )
    assert "1 unexpected (spare.weight)" in message(state | {"spare.weight": torch.ones(2)})
    shape = f"1 of another shape (pos_embed (1, 9, 48), not {tuple(state[p + 'pos_embed'].shape)})"
    assert shape in message(state | {p + "pos_embed": torch.ones(1, 9, 48)})
    assert "does not fit atst-f-tiny" in message(published("beats-tiny"))
    # Heads on embeddings of another size are not a matter of classes.
    assert "strong_head.weight (5, 7), not (5, 48)" in message(state | {"strong_head.weight": torch.ones(5, 7)})


def test_failed_load_changes_nothing(tmp_path: Path) -> None:
    encoder = encoders.create("mn-tiny")
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    state.pop("features.0.0.weight")
    with pytest.raises(UserError):
        checkpoints.load(encoder, state, "x.pt")
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


# ----------------------------------------------------------------------------------------------------------- catalogue


def test_catalogue_is_sound() -> None:
    entries = list(catalogue().values())
    assert len({entry.name.casefold() for entry in entries}) == len(entries)
    assert len({entry.file for entry in entries}) == len(entries)  # they share a folder
    for entry in entries:
        assert set(entry.models) <= set(encoders.names()), entry.name
        assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256), entry.name
        carried = entry.address.startswith(packaged.SCHEME)
        assert re.fullmatch(r"(https://\S+|package:[\w-]+==[\d.]+/\S+)?", entry.address), entry.name
        assert not entry.address or checkpoints.cached(entry.address.replace(":", "://", carried)).name == entry.file
        assert entry.source.startswith("package " if carried else "https://"), entry.name
        assert entry.sha256 or not carried, entry.name
    assert catalogue()["ATST-F_strong_1"].classes == 447


def test_find_prefers_names_in_any_case(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue()["M2D_ssl"]
    cache.mkdir(parents=True)
    save(cache / entry.file, STATE)
    path, digest, found = checkpoints.find("m2d_SSL", "m2d")
    assert (path, digest, found) == (cache / entry.file, sha256(cache / entry.file), entry)
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "mine", STATE)
    assert checkpoints.find("mine", "m2d") == (Path("mine"), sha256(tmp_path / "mine"), None)


def test_find_says_what_is_wrong(cache: Path, tmp_path: Path) -> None:
    for checkpoint, message in (
        ("ATST-F_strong_2", "unknown checkpoint 'ATST-F_strong_2', and no such file; did you mean 'atst-f_strong_1'"),
        ("ATST-F_strong_1", "checkpoint ATST-F_strong_1 is for atst-f, not for beats"),
        ("atst_stage1", "checkpoint atst_stage1 is for none of these models: it is a whole system, not for beats"),
        (str(tmp_path / "none.pt"), "none.pt: checkpoint not found"),
        (tmp_path / "none", "none: checkpoint not found"),
        ("https://example.org/", "an address that names no file"),
        ("BEATs_iter3_plus_AS2M", f"put it at {cache / 'BEATs_iter3_plus_AS2M.pt'}"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            encoders.create("beats", checkpoint)
    with pytest.raises(UserError, match="unknown encoder 'atst'; did you mean 'atst-f'"):
        encoders.create("atst")


def test_damaged_file_in_the_cache(cache: Path) -> None:
    entry = catalogue()["ATST-F_strong_1"]
    cache.mkdir(parents=True)
    save(cache / entry.file, STATE)
    with pytest.raises(UserError, match=rf"SHA-256 is \w+, expected {entry.sha256}: remove the file"):
        encoders.create("atst-f", entry.name)
