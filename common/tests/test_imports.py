"""Own modules by import path: found beside the recipe, checked when it is read, kept with the run."""

import copy
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from common.run.config import config_dict, dump, load_config
from common.run.errors import UserError
from common.run.imports import (
    Own,
    apply_own,
    as_stored,
    check_class,
    check_functions,
    check_shape,
    load,
    make,
    tried,
    try_own,
)

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        if width < 0:
            raise ValueError("no width")
        self.layer = nn.LazyLinear(num_classes)
        self.width = width

    def forward(self, x):
        torch.rand(())
        return self.layer(x)

class Open(nn.Module):
    def __init__(self, **anything):
        super().__init__()

def louder(x):
    return x + torch.rand(())

def shorter(x):
    return x[..., 1:]

def wider(x):
    return x.double()

def failing(x):
    raise RuntimeError("cannot\\nhear")

def nothing(x):
    pass

number = 3
"""


@dataclass
class Model:
    kind: Literal["small"] | Own = "small"
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class Settings:
    seed: int = 1
    model: Model = field(default_factory=Model)
    own: Own | list[Own] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_class("model", "kind", self.model.kind, self.model.arguments, ("num_classes",))
        check_functions("own", self.own)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules, which is not the working directory."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("x = 1\nclass Net(:\n")
    (tmp_path / "raising.py").write_text("x = 1\ny = x / 0\n")
    (tmp_path / "missing.py").write_text("import no_such_library\n")
    (tmp_path / "two_files.py").write_text("import torch\nfrom mine import Net\n")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    return tmp_path


def read(folder: Path, text: str, overrides: Sequence[str] = ()) -> Settings:
    (folder / "r.yaml").write_text(text)
    return load_config(Settings, folder, str(folder / "r.yaml"), overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: large", "2: model.kind: is 'large', expected 'small' or module:Name"),
        ("kind: 'mine:'", "2: model.kind: is 'mine:', expected module:Name, e.g. my_module:Net"),
        (f"kind: {'a' * 5000}:Net", "2: model.kind: no module 'aaa"),
        ("kind: my mine:Net", "2: model.kind: is 'my mine:Net', expected module:Name"),
        ("kind: nowhere:Net", "2: model.kind: no module 'nowhere' in {folder} or among the installed ones"),
        ("kind: mine:Nett", "2: model.kind: {folder}/mine.py has no 'Nett'; did you mean 'Net'?"),
        ("kind: mine:number", "2: model.kind: mine:number is a int, expected a class of torch.nn.Module"),
        ("kind: mine:louder", "2: model.kind: mine:louder is a function, expected a class of torch.nn.Module"),
        ("kind: pathlib:Path", "2: model.kind: pathlib:Path is a class Path, expected a class of torch.nn.Module"),
        (
            "kind: broken:Net",
            "2: model.kind: broken: cannot be imported, SyntaxError: invalid syntax ({folder}/broken.py:2)",
        ),
        (
            "kind: raising:Net",
            "2: model.kind: raising: cannot be imported, ZeroDivisionError: division by zero ({folder}/raising.py:2)",
        ),
        ("kind: missing:Net", "2: model.kind: missing: imports 'no_such_library', which is not installed"),
        ("kind: latin:Net", "2: model.kind: {folder}/latin.py: cannot be imported, it is not UTF-8"),
        (
            "kind: two_files:Net",
            "2: model.kind: {folder}/two_files.py:2: imports mine, a file beside it; an own module is one file",
        ),
        (
            "kind: mine:Net\n  arguments: {widht: 3}",
            "3: model.arguments.widht: unknown argument; did you mean 'width'?; mine:Net takes (num_classes, width=4)",
        ),
        ("arguments: {width: 3}", "2: model.arguments: are those of an own network, kind: my_module:Net, not of small"),
    ],
)
def test_what_is_wrong_stands_in_one_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(folder, f"model:\n  {text}\n")
    expected = f"{folder}/r.yaml:{message.format(folder=folder)}"
    assert str(error.value).startswith(expected), f"{error.value}\n{expected}"
    assert "\n" not in str(error.value)


def test_an_argument_that_is_missing(folder: Path) -> None:
    read(folder, "model: {kind: mine:Net}")  # num_classes is given by the task
    with pytest.raises(UserError) as error:
        check_class("model", "kind", read(folder, "model: {kind: mine:Net}").model.kind, {}, ())
    said = "model.kind: model.arguments has no 'num_classes'; mine:Net takes (num_classes, width=4)"
    assert str(error.value) == said
    assert read(folder, "model: {kind: mine:Open, arguments: {what: ever}}").model.arguments == {"what": "ever"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("own: louder", "own: is 'louder', expected module:Name or list[module:Name]"),
        ("own: mine:number", "own: mine:number is a int, expected a function"),
        ("own: [mine:louder, mine:Net]", "own: mine:Net is a type, expected a function"),
        ("own: [mine:louder, 3]", "own: is '3', expected module:Name"),
        ("own: [mine:loud]", "own: {folder}/mine.py has no 'loud'"),
    ],
)
def test_functions_that_are_none(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(folder, text)
    assert message.format(folder=folder) in str(error.value)


def test_the_module_lies_beside_the_recipe_that_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "base.yaml").write_text("model: {kind: mine:Net}\nown: mine:louder\n")
    other = folder / "other"
    other.mkdir()
    (other / "mine.py").write_text("def louder(x):\n    return 2 * x\n")
    (other / "r.yaml").write_text("extends: ../base.yaml\nmodel: {arguments: {width: 3}}\n")
    config = load_config(Settings, folder, str(other / "r.yaml"))
    assert [Path(own.file).resolve() for own in (config.model.kind, config.own)] == [folder / "mine.py"] * 2
    monkeypatch.chdir(other)  # an override is the current folder's
    named = load_config(Settings, folder, str(folder / "base.yaml"), ["own=[mine:louder]", "model.kind=small"])
    assert load(named.own[0])(2) == 4
    with pytest.raises(UserError, match=r"another file of that name"):
        config_dict(load_config(Settings, folder, str(folder / "base.yaml"), ["own=[mine:louder]"]))


def test_a_run_keeps_the_source_and_knows_its_hash(folder: Path, tmp_path: Path) -> None:
    config = read(folder, "model: {kind: mine:Net, arguments: {width: 7}}\nown: [mine:louder]\n")
    plain = config_dict(config)
    own = config.model.kind
    assert isinstance(own, Own)
    assert plain["model"] == {"kind": "mine:Net", "arguments": {"width": 7}}
    assert plain["own"] == ["mine:louder"]
    assert plain["sources"] == {"mine.py": own.digest}
    assert own.text == MODULE
    assert "sources" not in config_dict(Settings())
    run = tmp_path / "run"
    run.mkdir()
    (run / "mine.py").write_text(own.text)
    (run / "config.yaml").write_text(dump(plain))
    (folder / "mine.py").write_text(MODULE.replace("class Net", "class Other"))
    again = load_config(Settings, folder, str(run / "config.yaml"))
    assert again == config
    assert config_dict(again) == plain
    changed = read(folder, "model: {kind: mine:Other, arguments: {width: 7}}\n")
    assert config_dict(changed)["sources"] != plain["sources"]
    assert as_stored(changed, folder / "nowhere") is changed

    (run / "mine.py").write_text(MODULE + "\n")
    with pytest.raises(UserError, match=rf"{run}/mine\.py: its hash is \w+, training recorded {own.digest}"):
        load_config(Settings, folder, str(run / "config.yaml"))


def test_the_source_that_a_run_keeps_counts(folder: Path, tmp_path: Path) -> None:
    config = read(folder, "own: mine:louder")
    run = tmp_path / "run"
    run.mkdir()
    (run / "mine.py").write_text(MODULE)
    (run / "config.yaml").write_text(dump(config_dict(config)))
    (folder / "mine.py").write_text("def louder(x):\n    return -x\n")
    now = read(folder, "own: mine:louder")
    assert load(now.own)(1) == -1
    stored = as_stored(now, run)
    assert load(stored.own)(torch.tensor(1.0)) >= 1
    assert stored == now  # by name


def test_an_import_path_travels(folder: Path) -> None:
    own = read(folder, "own: mine:louder").own
    for other in (pickle.loads(pickle.dumps(own)), copy.deepcopy(own)):
        assert isinstance(other, Own)
        assert (other, other.text, other.digest, other.file) == (own, own.text, own.digest, own.file)  # type: ignore[union-attr]


def test_a_network_is_made_and_tried(folder: Path) -> None:
    kind = read(folder, "model: {kind: mine:Net}").model.kind
    torch.manual_seed(3)
    network = make(kind, {"width": 2}, {"num_classes": 5, "num_mels": 9})
    assert network.width == 2
    before = torch.random.get_rng_state()
    assert tried(kind, network, torch.zeros(2, 6)).shape == (2, 5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert network.training
    with pytest.raises(UserError, match=r"mine:Net: fails for input \(2, 7\), RuntimeError: .* \(\S+mine\.py:15\)"):
        tried(kind, network, torch.zeros(2, 7))
    with pytest.raises(UserError, match=r"mine:Net: cannot be made, ValueError: no width \(\S+mine\.py:9\)"):
        make(kind, {"width": -1}, {"num_classes": 5})
    with pytest.raises(
        UserError, match=r"mine\.py: mine:Net gives \(2, 4\), expected \(2, 5\): logits \(batch, classes\)"
    ):
        check_shape(kind, torch.zeros(2, 4), (2, 5), "logits (batch, classes)")
    with pytest.raises(UserError, match=r"mine:Net gives a dict, expected \(2, 5\)"):
        check_shape(kind, {}, (2, 5), "logits")


def test_own_augmentations(folder: Path) -> None:
    def named(*names: str) -> Any:
        return read(folder, f"own: [{', '.join(f'mine:{name}' for name in names)}]").own

    torch.manual_seed(1)
    first = apply_own(named("louder", "louder"), torch.zeros(2, 3, 4))
    torch.manual_seed(1)
    assert torch.equal(apply_own(named("louder", "louder"), torch.zeros(2, 3, 4)), first)
    assert torch.equal(first, torch.full((2, 3, 4), float(first[0, 0, 0])))
    assert apply_own([], first) is first
    before = torch.random.get_rng_state()
    try_own(read(folder, "own: mine:louder").own, 3, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, message in (
        ("shorter", r"mine:shorter gives \(2, 3, 3\), expected \(2, 3, 4\): \(batch, mel, frames\) as it got"),
        ("wider", r"mine:wider gives torch.float64, expected torch.float32"),
        ("nothing", r"mine:nothing gives a NoneType, expected \(2, 3, 4\)"),
        ("failing", r"mine:failing: fails, RuntimeError: cannot hear \(\S+mine\.py:31\)"),
    ):
        with pytest.raises(UserError, match=message) as error:
            try_own(named(name), 3, 4)
        assert "\n" not in str(error.value)


def test_a_class_of_an_installed_package(folder: Path) -> None:
    config = read(folder, "model: {kind: torch.nn:Linear, arguments: {in_features: 3, out_features: 2}}")
    kind = config.model.kind
    assert isinstance(kind, Own)
    assert kind.text is None
    assert config_dict(config)["sources"] == {"torch.nn": kind.digest}
    assert isinstance(make(kind, config.model.arguments, {}), nn.Linear)
