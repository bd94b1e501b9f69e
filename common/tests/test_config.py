"""Recipes: merging, overrides, and errors that name file, line and key."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.run.config import config_dict, differences, dump, find_recipe, in_range, load_config
from common.run.errors import UserError

BASE = """\
seed: 3
optimizer:
  lr: 1.0e-3
  name: adam
layers: [4, 8]
pooling: [[2, 2], [1, 2]]
"""


@dataclass
class Optimizer:
    lr: float = in_range(1e-3, 0, 1)
    name: Literal["adam", "sgd"] = "adam"
    clip: float | None = in_range(None, 0)


@dataclass
class Author:
    name: str
    email: str | None = None


@dataclass
class About:
    label: str
    authors: list[Author]


@dataclass(frozen=True)
class Model:
    width: int = 8
    shape: tuple[int, ...] = (1, 2)


@dataclass
class Settings:
    seed: int = in_range(0, 0)
    optimizer: Optimizer = field(default_factory=Optimizer)
    model: Model = field(default_factory=Model)
    layers: list[int] = in_range(None, 1, 64)  # noqa: RUF009
    pooling: tuple[tuple[int, int], ...] = ()
    fast: bool = False
    root: str | None = None
    about: About | None = None


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "child.yaml").write_text("extends: base\noptimizer:\n  lr: 0.5\nlayers: [1]\n")
    return tmp_path


def load(recipes: Path, text: str, *overrides: str) -> Settings:
    (recipes / "own.yaml").write_text(text)
    return load_config(Settings, recipes, "own", overrides)


def test_types_of_a_recipe(recipes: Path) -> None:
    config = load_config(Settings, recipes, "base")
    assert config == Settings(3, Optimizer(1e-3, "adam"), Model(), [4, 8], ((2, 2), (1, 2)))
    assert isinstance(config.pooling, tuple)
    assert isinstance(config.pooling[0], tuple)


def test_extends_merges_groups_and_replaces_lists(recipes: Path) -> None:
    config = load_config(Settings, recipes, "child")
    assert (config.seed, config.optimizer.lr, config.optimizer.name, config.layers) == (3, 0.5, "adam", [1])
    (recipes / "deep").mkdir()
    (recipes / "deep" / "grandchild.yaml").write_text("extends: ../child.yaml\nseed: 9\n")
    config = load_config(Settings, recipes, str(recipes / "deep" / "grandchild.yaml"))
    assert (config.seed, config.optimizer.lr, config.layers) == (9, 0.5, [1])


def test_overrides_win_and_take_yaml_values(recipes: Path) -> None:
    words = ["optimizer.lr=0.25", "layers=[2, 3]", "fast=true", "root=a=b", "model.shape=[7]", "optimizer.clip=null"]
    config = load_config(Settings, recipes, "child", words)
    assert (config.optimizer.lr, config.layers, config.fast, config.root) == (0.25, [2, 3], True, "a=b")
    assert (config.model.shape, config.model.width, config.optimizer.clip) == ((7,), 8, None)


def test_an_override_opens_a_group_that_the_recipe_leaves_empty(recipes: Path) -> None:
    config = load(recipes, "about: null\n", "about.label=x", "about.authors=[{name: A}]")
    assert config.about == About("x", [Author("A")])


@settings(deadline=None, max_examples=15)
@given(value=st.floats(0, 1, allow_subnormal=False))
def test_a_float_is_read_as_python_writes_it(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    recipes = tmp_path_factory.mktemp("recipes")
    (recipes / "base.yaml").write_text(BASE)
    # YAML 1.1 takes 1e-05 for a text; here it is a number
    assert load_config(Settings, recipes, "base", [f"optimizer.lr={value!r}"]).optimizer.lr == value
    (recipes / "own.yaml").write_text(f"optimizer: {{lr: {value!r}}}\n")
    assert load_config(Settings, recipes, "own").optimizer.lr == value


def test_dump_and_load_give_the_same_config(recipes: Path) -> None:
    config = load_config(Settings, recipes, "child", ["about.label=x", "about.authors=[{name: A, email: b}]"])
    assert load(recipes, dump(config_dict(config))) == config
    assert config_dict(config)["pooling"] == [[2, 2], [1, 2]]


def test_differences_name_every_key_that_changed() -> None:
    old = {"a": 1, "b": {"c": [1], "d": 2, "gone": 0}}
    new = {"a": 1, "b": {"c": [1, 2], "d": 2}, "new": None}
    assert differences(old, old) == []
    assert differences(old, new) == ["b.c: [1] there, [1, 2] now", "b.gone: 0 there, None now"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\noptimiser: {}\n", "own.yaml:2: optimiser: unknown setting; did you mean 'optimizer'?"),
        ("optimizer:\n  rate: 1\n", "own.yaml:2: optimizer.rate: unknown setting; known: clip, lr, name"),
        ("optimizer:\n  lr: fast\n", "own.yaml:2: optimizer.lr: is 'fast', expected float"),
        ("seed: 1.5\n", "own.yaml:1: seed: is '1.5', expected int"),
        ("fast: 2\n", "own.yaml:1: fast: is '2', expected bool"),
        ("optimizer: {name: adamw}\n", "own.yaml:1: optimizer.name: "),
        ("optimizer:\n  lr: 2\n", "own.yaml:2: optimizer.lr: is 2, expected 0 to 1"),
        ("optimizer: {lr: .nan}\n", "own.yaml:1: optimizer.lr: is nan, expected 0 to 1"),
        ("optimizer: {clip: -1}\n", "own.yaml:1: optimizer.clip: is -1, expected 0 or more"),
        ("layers: [1,\n 65]\n", "own.yaml:1: layers: is 65, expected 1 to 64"),
        ("seed: -1\n", "own.yaml:1: seed: is -1, expected 0 or more"),
        ("seed:\n", "own.yaml:1: seed: is empty, expected int"),
        ("optimizer: adam\n", "own.yaml:1: optimizer: is 'adam', expected a group of settings"),
        ("about:\n  label: x\n", "own.yaml:1: about: setting 'authors' is missing"),
        (
            "about:\n  label: x\n  authors: [{nam: A}]\n",
            "own.yaml:3: about.authors: about.authors.nam: unknown setting",
        ),
        ("about:\n  label: x\n  authors: [{email: A}]\n", "own.yaml:3: about.authors: setting 'name' is missing"),
        ("about: {label: x, authors: {name: A}}\n", "own.yaml:1: about.authors: is \"{'name': 'A'}\", expected list"),
        ("seed: 1\nroot: 3\n", "own.yaml:2: root: is '3', expected str or null"),
        ("optimizer: {clip: much}\n", "own.yaml:1: optimizer.clip: is 'much', expected float or null"),
        ("- 1\n", "own.yaml:1: expected a mapping of settings"),
        ("seed: [1\n", "own.yaml:2: not valid YAML"),
        ("seed: 1\nseed: 2\n", "own.yaml:2: seed: is there twice"),
        ("optimizer:\n  lr: 0.1\n  lr: 0.2\n", "own.yaml:3: optimizer.lr: is there twice"),
        ("extends: own\n", "own.yaml: extends itself"),
        ("extends: bas\n", "no recipe 'bas'; did you mean 'base'?"),
        ("extends: [base]\n", "own.yaml:1: extends: expected the name of a recipe"),
        ("extends: nowhere/gone.yaml\n", "gone.yaml: recipe not found"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_key(recipes: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(recipes, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_an_inherited_value_is_named_where_it_stands(recipes: Path) -> None:
    (recipes / "base.yaml").write_text(BASE.replace("lr: 1.0e-3", "lr: 7"))
    (recipes / "child.yaml").write_text("extends: base\nseed: 1\n")
    with pytest.raises(UserError, match=r"base\.yaml:3: optimizer\.lr: is 7"):
        load_config(Settings, recipes, "child")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=2", "optimizer.lr=2: is 2, expected 0 to 1"),
        ("optimizer.nam=1", "optimizer.nam=1: unknown setting; did you mean 'name'?"),
        ("seed.x=1", "seed.x=1: seed is not a group of settings"),
        ("optimizer.lr=fast", "optimizer.lr=fast: is 'fast', expected float"),
        ("layers=[1", "layers=[1: the value is not valid YAML"),
        ("model=3", "model=3: is 3, expected a group of settings"),
    ],
)
def test_a_mistake_in_an_override_is_named_by_it(recipes: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(Settings, recipes, "base", [override])
    assert str(caught.value) == message


def test_recipes_by_name_and_by_path(recipes: Path) -> None:
    assert find_recipe(recipes, "base").resolve() == (recipes / "base.yaml").resolve()
    assert find_recipe(recipes, str(recipes / "child.yaml")) == recipes / "child.yaml"
    with pytest.raises(UserError, match="no recipe 'chidl'; did you mean 'child'"):
        find_recipe(recipes, "chidl")
    with pytest.raises(UserError, match=r"gone\.yaml: recipe not found"):
        find_recipe(recipes, "gone.yaml")


def test_a_recipe_that_is_no_text(recipes: Path) -> None:
    (recipes / "own.yaml").write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(UserError, match=r"own\.yaml: not valid YAML"):
        load_config(Settings, recipes, "own")
