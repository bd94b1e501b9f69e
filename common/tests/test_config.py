"""Recipes: merging, overrides, and errors that name file, line and key."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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

    def __post_init__(self) -> None:
        if self.width == 13:
            raise UserError("model.width: 13 brings bad luck")


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
    other: Model = field(default_factory=lambda: Model(shape=(5,)))
    edition: Literal[2024, 2025] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    folder: Path = Path("x")
    devices: int | str = "auto"


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
        ("extends: [base, [base]]\n", "own.yaml:1: extends: expected the name of a recipe, or a list of names"),
        ("extends: [base, bas]\n", "no recipe 'bas'; did you mean 'base'?"),
        ("extends: nowhere/gone.yaml\n", "gone.yaml: recipe not found"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_key(recipes: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(recipes, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BIG = "9" * 5000
NESTED = {
    "seed: 2001-99-99": "own.yaml:2: not valid YAML (month must be in 1..12)",
    "seed: !!int x": "own.yaml:2: not valid YAML (invalid literal for int",
    f"seed: {BIG}": "own.yaml:2: not valid YAML (",
    f"seed: 0x{BIG}": "own.yaml:2: seed: is 'a number of thousands of digits', expected int",
    f"optimizer: {{lr: 0x{BIG[:400]}}}": "own.yaml:2: optimizer.lr: is '",
    f"seed: {BIG[:25]}": f"own.yaml:2: seed: is '{BIG[:25]}', expected int",
    f"seed: {'[' * 9999}{']' * 9999}": "own.yaml:2: not valid YAML (",
    f"seed: {'[' * 900}{']' * 900}": "own.yaml:2: seed: is '[[",
    f"model: {{width: {'{a: ' * 900}{'}' * 900}}}": "own.yaml:2: model.width: is \"{'a': {'a'",
    "seed: &a [*a]": "own.yaml:2: seed: is '[[",
    "model: &a {width: *a}": "own.yaml:2: model.width: is \"{'width': {'width'",
    "model: &a {shape: [1, *a]}": "own.yaml:2: model.shape: is \"[1, {'shape'",
    "seed: &a [*a, *b]": "own.yaml:2: not valid YAML (found undefined alias",
    "seed: [&a0 [x, x]" + "".join(f", &a{n + 1} [*a{n}, *a{n}]" for n in range(60)) + "]": "own.yaml:2: seed: is",
    "optimizer: &o {lr: 0.5}\nmodel: *o": "own.yaml:3: model: model.lr: unknown setting",
    "about: {authors: [{name: A, name: B}]}": "own.yaml:2: about.authors[0].name: is there twice",
    "root: a\nextends: " + "x" * 300: "no recipe 'xxx",
}


@pytest.mark.parametrize("text", NESTED)
def test_monstrous_yaml_is_one_line_of_error(recipes: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        load(recipes, f"# \n{text}\n")
    assert NESTED[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_endless_groups_are_not_merged(recipes: Path) -> None:
    (recipes / "base.yaml").write_text("model: &a {width: *a}\n")
    with pytest.raises(UserError, match=r"own\.yaml: a group of settings contains itself"):
        load(recipes, "extends: base\nmodel: &a {width: *a}\n")


def test_long_chains_of_recipes(recipes: Path) -> None:
    for n in range(1500):
        (recipes / f"link{n}.yaml").write_text(f"extends: link{n + 1}\nmodel: {{width: {n + 1}}}\n")
    (recipes / "link1500.yaml").write_text("seed: 8\n")
    config = load_config(Settings, recipes, "link0")
    assert (config.seed, config.model.width) == (8, 1)
    (recipes / "link1500.yaml").write_text("extends: link0\n")
    with pytest.raises(UserError, match=r"link0\.yaml: extends itself"):
        load_config(Settings, recipes, "link0")


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1e-4", "adam"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("awx", max_size=2) | st.integers(), inner),
    max_leaves=6,
)
KEYS = ["seed", "optimizer", "optimizer.lr", "optimizer.name", "optimizer.clip", "layers", "pooling", "fast", "root"]


@settings(deadline=None, max_examples=100)
@given(key=st.sampled_from([*KEYS, "about", "about.authors", "model", "model.shape"]), value=YAML_VALUES)
def test_any_value_is_taken_with_its_type_or_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    recipes = tmp_path_factory.mktemp("recipes")
    (recipes / "base.yaml").write_text(BASE)
    *group, last = key.split(".")
    plain: dict[str, Any] = {"layers": [1]} | ({group[0]: {last: value}} if group else {last: value})
    try:
        config = load(recipes, dump(plain))
    except UserError as error:
        message = str(error)
        assert message.startswith(str(recipes / "own.yaml:")), message
        assert "\n" not in message
        return
    assert load(recipes, dump(config_dict(config))) == config or "nan" in repr(config)
    given_type = {"seed": int, "optimizer.lr": (int, float, str), "fast": bool, "root": str | None, "layers": list}
    assert isinstance(value, given_type.get(key, object))
    assert key != "seed" or type(config.seed) is int
    assert type(config.optimizer.lr) is float


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed='3'", "is '3', expected int"),
        ("seed=true", "is 'True', expected int"),
        ("fast=1", "is '1', expected bool"),
        ("fast='true'", "is 'true', expected bool"),
        ("optimizer.lr='3'", "is '3', expected float"),
        ("optimizer.lr=inf", "is 'inf', expected float"),
        ("optimizer.lr=true", "is 'True', expected float"),
        ("optimizer.name=adamw", "is 'adamw', expected 'adam' or 'sgd'"),
        ("edition=2024.0", "is '2024.0', expected 2024 or 2025 or null"),
        ("edition='2024'", "is '2024', expected 2024 or 2025 or null"),
        ("layers=[1, x]", "is \"[1, 'x']\", expected list[int]"),
        ("model.shape=null", "is empty, expected tuple[int, ...]"),
        ("pooling=[[1, 2, 3]]", "is '[[1, 2, 3]]', expected tuple[tuple[int, int], ...]"),
        ("sizes={1: 2}", "is '{1: 2}', expected dict[str, int]"),
        ("folder=3", "is '3', expected Path"),
        ("devices=1.5", "is '1.5', expected int or str"),
    ],
)
def test_types_are_strict(recipes: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(Settings, recipes, "base", [override])
    assert str(caught.value) == f"{override}: {message}"


def test_every_type_of_a_setting(recipes: Path) -> None:
    words = ["edition=2025", "sizes={a: 1}", "folder=x/y", "devices=2", "optimizer.clip=1e+3", "optimizer.lr=1"]
    config = load_config(Settings, recipes, "base", words)
    assert (config.edition, config.sizes, config.folder, config.devices) == (2025, {"a": 1}, Path("x/y"), 2)
    assert (config.optimizer.clip, config.optimizer.lr, type(config.optimizer.lr)) == (1000.0, 1.0, float)
    assert load_config(Settings, recipes, "base", ["devices='2'"]).devices == "2"
    with pytest.raises(UserError, match=r"optimizer\.clip=\.inf: is inf, expected a finite number, 0 or more"):
        load_config(Settings, recipes, "base", ["optimizer.clip=.inf"])


def test_an_own_check_is_named_where_the_value_stands(recipes: Path) -> None:
    with pytest.raises(UserError, match=r"own\.yaml:2: model\.width: 13 brings bad luck$"):
        load(recipes, "seed: 1\nmodel: {width: 13}\n")


def test_a_group_that_is_written_in_part_keeps_the_rest_of_its_default(recipes: Path) -> None:
    assert load(recipes, "other: {width: 2}\n").other == Model(2, (5,))
    assert load_config(Settings, recipes, "base", ["other={}"]).other == Model(8, (5,))


def test_an_override_leaves_aliases_of_its_group_alone(recipes: Path) -> None:
    config = load(recipes, "model: &m {width: 3}\nother: *m\n", "model.width=4")
    assert (config.model.width, config.other.width) == (4, 3)
    with pytest.raises(UserError, match=r"^model=\{width: x\}: model\.width: is 'x', expected int$"):
        load(recipes, "model: {width: 3}\n", "model={width: x}")


def test_the_library_that_checks_values_is_imported_only_to_check_them() -> None:
    code = "import sys, common.run.config, common.run.verbs; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
        ("seed=2001-99-99", "seed=2001-99-99: the value is not valid YAML"),
        ("seed=!!int x", "seed=!!int x: the value is not valid YAML"),
        (f"seed={BIG}", f"seed={BIG[:195]}...: the value is not valid YAML"),
        (f"seed={'[' * 9999}", f"seed={'[' * 195}...: the value is not valid YAML"),
        ("seed=1\n2: 3", "seed=1 2: 3: the value is not valid YAML"),
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
