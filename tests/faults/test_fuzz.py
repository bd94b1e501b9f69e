"""Every parser, given what chance and a mutating hand write: a right value, or one line that says what is wrong."""

import os
import random
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.run.config import config_dict, load_config
from common.run.submission.violations import Violation
from tests.faults.faults import Tally, limited, one_line
from tests.faults.test_readers import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("task1_asc", "task2_anomaly", "task4_sed", "task6_retrieval", "zeroshot")
# Of submissions.
LABELS = {
    f"task{number}_{of}": f"A_B_task{number}_1"
    for number, of in ((1, "asc"), (2, "anomaly"), (4, "sed"), (6, "retrieval"))
}
EDITION = {"task6_retrieval": (2025,)}  # of tasks whose forms differ
DEEP = bool(os.environ.get("DCASE_FAULTS"))  # set by `make test-faults`
EXAMPLES = 400 if DEEP else 25
MUTATIONS = 60 if DEEP else 4  # of every file that a reader reads
CHECKED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=not DEEP,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["2001-99-99", "!!int x", "0x" + "f" * 5000, "9" * 5000, "1e999", "&a [*a]", "1_0", "٣", "*x", "~"]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def keys_of(plain: Any, prefix: str = "") -> list[str]:
    found = []
    for key, value in plain.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += keys_of(value, f"{prefix}{key}.")
    return found


def configured(task: str, *overrides: str, recipe: str = "toy") -> Any:
    return load_config(import_module(f"{task}.config").Config, ROOT / task / "recipes", recipe, overrides)


KEYS = {task: keys_of(config_dict(configured(task))) for task in TASKS}


def survives(work: Callable[[], object]) -> bool:
    """Whether a parser ends well or with one line."""
    try:
        with limited(20):
            work()
    except Exception as error:
        if not one_line(error) or "\n" in str(error):
            raise AssertionError(f"{type(error).__name__}: {str(error)[:500]}") from error
    return True


@pytest.mark.parametrize("task", TASKS)
def test_overrides(task: str, tally: Tally) -> None:
    done = 0

    @CHECKED
    @given(key=st.sampled_from(KEYS[task]), value=VALUES)
    def check(key: str, value: Any) -> None:
        nonlocal done
        done += survives(lambda: configured(task, f"{key}={value}"))

    check()
    tally("fuzzing: overrides", done, done)


@pytest.mark.parametrize("task", TASKS)
def test_recipes(task: str, tmp_path: Path, tally: Tally) -> None:
    import yaml

    done = 0

    @CHECKED
    @given(key=st.sampled_from(KEYS[task]), value=VALUES, raw=st.text(max_size=30), with_raw=st.booleans())
    def check(key: str, value: Any, raw: str, with_raw: bool) -> None:
        nonlocal done
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        written = raw if with_raw else yaml.safe_dump({"extends": "toy", **nested}, allow_unicode=True)
        path = tmp_path / "r.yaml"
        path.write_text(written, encoding="utf-8", errors="surrogatepass")
        done += survives(lambda: configured(task, recipe=str(path)))

    check()
    tally("fuzzing: recipes", done, done)


@pytest.mark.parametrize("task", LABELS)
def test_meta_files(task: str, tally: Tally) -> None:
    """The meta file of a submission: violations, each in one line, never an exception."""
    check_meta: Callable[..., list[Violation]] = import_module(f"{task}.submission.rules").check_meta
    label, done = LABELS[task], 0

    @CHECKED
    @given(text=st.one_of(st.text(max_size=60), VALUES.map(lambda v: f"submission:\n  label: {v}\nsystem: {v}\n")))
    def check(text: str) -> None:
        nonlocal done
        with limited(20):
            found = check_meta(text, label, "meta.yaml", *EDITION.get(task, ()))
        assert all("\n" not in violation.message for violation in found)
        done += 1

    check()
    tally("fuzzing: meta files", done, done)


def mutated(right: bytes, chance: random.Random) -> bytes:
    """A few bytes, lines or numbers of a file in other places or with other values."""
    data = bytearray(right)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at:at] = chance.choice([b"\t", b"\n", b",", b'"', b"-", b"nan", b"1_0", b"\xff", b"\0", b"1e999"])
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case 2:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 200)]
            case 4:
                lines = bytes(data).split(b"\n")
                chance.shuffle(lines)
                data = bytearray(b"\n".join(lines))
    return bytes(data)


@pytest.mark.parametrize("family", FAMILIES)
def test_mutated_files(family: str, tmp_path: Path, tally: Tally) -> None:
    """Tables, JSON, HDF5, archives, audio, checkpoints: right files, a little wrong."""
    chance, tried, lost = random.Random(None if DEEP else 0), 0, []
    for number, reader in enumerate(FAMILIES[family]()):
        place = tmp_path / str(number) / reader.name
        place.parent.mkdir(parents=True)
        reader.make(place)
        reader.read(place)  # it is right; and what is imported for it takes none of the time that a wrong one has
        right = place.read_bytes()
        for _ in range(MUTATIONS):
            content = mutated(right, chance)
            place.write_bytes(content)
            tried += 1
            try:
                survives(lambda: reader.read(place))  # noqa: B023 (called at once)
            except AssertionError as error:
                lost.append(f"{reader.name}: {error}: {content[:300]!r}")
    tally(f"fuzzing: files, {family}", tried, tried - len(lost))
    assert not lost, "\n".join(lost)
