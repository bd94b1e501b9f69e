"""What the tests of several folders need: data sets, fixtures on disk, examples of READMEs."""

import csv
import ctypes
import gc
import hashlib
import json
import os
import re
import resource
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from common.run.config import load_config
from common.run.errors import UserError
from common.run.verbs import Task, main

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]


def tiny_fixtures(task: str, places: Callable[[Path], Sequence[str]] = lambda root: []) -> tuple[Any, Any]:
    """The fixtures `tiny_root` and `tiny` of a task, for its conftest; places: overrides that name more data sets."""

    def configured(root: Path, *overrides: str) -> Any:
        config, folder = import_module(f"{task}.config").Config, ROOT / task
        given = [f"data.root={root}", *places(root), *overrides]
        return load_config(config, folder / "recipes", str(folder / "tests" / "tiny.yaml"), given)

    @pytest.fixture(scope="session")
    def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The tiny data set with its packs, in the official layout; read only."""
        root = tmp_path_factory.mktemp("tiny") / "data"
        import_module(f"{task}.data.toy.write").write_toy(root, size="tiny")
        import_module(f"{task}.data.prepare").prepare(configured(root), workers=1)
        return root

    @pytest.fixture(scope="session")
    def tiny(tiny_root: Path) -> Callable[..., Any]:
        """The tiny recipe on that data set, with overrides: tiny("trainer.max_epochs=3")."""
        return lambda *overrides: configured(tiny_root, *overrides)

    return tiny_root, tiny


def fingerprint(root: Path) -> dict[str, str]:
    """{path below `root`: SHA-256} of every file."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def give_memory_back() -> None:
    """Against `keep_memory`: what nothing needs any more goes back to the system."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk does, but "File too large"."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def partial_name(stem: str, pid: int, suffix: str = "", place: str = "", process: str = "1" * 8) -> str:
    """The temporary name that a process of a number has for a file; place: another container or host than this."""
    from common.run.files import _place

    return f".{stem}.{place or _place()}-{pid}-{process}-01234567.partial{suffix}"


def linked_copy(root: Path, target: Path) -> Path:
    """A copy of a data set without its packs; audio is linked, so change a file only by replacing it."""
    for source in root.rglob("*"):
        place = target / source.relative_to(root)
        if "packed" in source.relative_to(root).parts:
            continue
        if source.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".wav":
            os.link(source, place)
        else:
            place.write_bytes(source.read_bytes())
    return target


@cache
def seeded(golden: Path) -> dict[str, Any]:
    """What seeded.py of the golden fixtures defines."""
    return runpy.run_path(str(golden / "seeded.py"))


def seeded_state(folder: Path) -> "dict[str, Tensor]":
    """The state dict that the manifest of a golden fixture describes."""
    import numpy as np
    import torch

    state = seeded(folder.parent)["state_from_manifest"](folder)
    return {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}


# Runs the command lines of standard input (JSON) one after another in one process; prints what is loaded after each.
PROBE = """
import contextlib, importlib, io, json, sys
from common.run.verbs import main
task, names, commands = json.load(sys.stdin)
found = []
for command in commands:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(importlib.import_module(f"{task}.__main__").TASK, command)
        except SystemExit as end:  # argparse ends after `VERB --help`
            code = end.code
    found.append([code, [name for name in names if name in sys.modules]])
print(json.dumps(found))
"""
HEAVY = ("torch", "lightning", "torchmetrics", "torchinfo", "pandas", "scipy", "matplotlib", "sklearn", "librosa")


def loaded_by(task: str, commands: Sequence[Sequence[str]]) -> list[tuple[int, set[str]]]:
    """(exit code, which of HEAVY are loaded by then) of verbs that one process runs in this folder, in order."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        input=json.dumps([task, HEAVY, commands]),
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout, done.stderr
    return [(code, set(names)) for code, names in json.loads(done.stdout)]


def run_examples(readme: Path, call: str) -> None:
    """Execute every Python block of a README that has `call`; there is one or more."""
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.S)
    examples = [block for block in blocks if call in block]
    assert examples
    for example in examples:
        exec(compile(example, readme.name, "exec"), {})


def readme_file(readme: Path, name: str) -> str:
    """The file that a README shows in a block whose first line is `# NAME`."""
    found = re.search(rf"```(?:python|yaml)\n# {re.escape(name)}\n(.*?)```", readme.read_text(encoding="utf-8"), re.S)
    assert found, f"{readme}: no {name}"
    return found[1]


def mixed_folder(folder: Path) -> set[str]:
    """A folder as people have them: audio of several kinds, clutter, broken files; returns the names that can be heard.

    Two others are named as audio: `broken.wav` and `gone.flac`.
    """
    import numpy as np
    import soundfile

    tone = (0.1 * np.sin(np.arange(24_000) / 9)).astype(np.float32)
    (folder / "x.wav").mkdir(parents=True)
    kinds = {"a.aif": "AIFF", "b.au": "AU", "c.caf": "CAF", "d.w64": "W64", "e.MP3": "MP3", "x.wav/f.FLAC": "FLAC"}
    for name, form in kinds.items():
        soundfile.write(folder / name, tone, 16_000, format=form)
    soundfile.write(folder / "o.opus", tone, 16_000, format="OGG", subtype="OPUS")
    soundfile.write(os.fsencode(folder) + b"/caf\xe9.wav", tone, 16_000, format="WAV")
    (folder / "._a.wav").write_bytes(b"\0\5\x16\7")
    (folder / "broken.wav").write_bytes(b"no audio")
    (folder / "gone.flac").symlink_to("nowhere")
    return {*(Path(name).name for name in kinds), "o.opus", r"caf\xe9.wav"}


def shown_table(folder: Path, table: list[str], language: str, lines: list[str]) -> list[str]:
    """The lines of a README's block that is a table; `table`, of the block before, is written.

    Its name is that of the next command, `--groups NAME` or `--from-table NAME`: there with a beep for each row.
    """
    import numpy as np
    import soundfile

    named = re.search(r"--(from-table|groups) (\S+)", "\n".join(lines)) if language == "sh" and table else None
    if named:
        (folder / named[2]).write_text("\n".join([*table, ""]))
        for number, row in enumerate(csv.DictReader(table) if named[1] == "from-table" else ()):
            path = folder / row["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.3 * np.sin((0.2 + 0.02 * number) * np.arange(32_000)), 16_000)
    return lines if language == "csv" else []


def shown_tables(readme: Path, folder: Path) -> list[str]:
    """Write the tables of own recordings that a README shows into `folder`; their names."""
    table: list[str] = []
    before = set(folder.glob("*.csv"))
    for language, text in re.findall(r"```(\w+)\n(.*?)```", readme.read_text(encoding="utf-8"), re.S):
        table = shown_table(folder, table, language, text.splitlines())
    return sorted(path.name for path in set(folder.glob("*.csv")) - before)


def tones_fixture(*names: str) -> Any:
    """The fixture `desk`: a working directory with recordings <name>.wav of 2.5 s."""

    @pytest.fixture
    def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        import numpy as np
        import soundfile

        monkeypatch.chdir(tmp_path)
        for number, name in enumerate(names, 1):
            soundfile.write(tmp_path / f"{name}.wav", 0.2 * np.sin(0.1 * number * np.arange(20_000)), 8000)
        return tmp_path

    return desk


def table_of(folder: Path, header: str, *rows: str) -> Path:
    """A table of own recordings, my.csv."""
    (folder / "my.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return folder / "my.csv"


def check_refused(from_table: Callable[[Path, Path], object], table: Path, message: str) -> None:
    """A table is refused in one line, and nothing is written."""
    with pytest.raises(UserError, match=message) as error:
        from_table(table, table.parent / "out")
    assert "\n" not in str(error.value)
    assert not list(table.parent.glob("out*"))


def train_own(task: Task, capsys: pytest.CaptureFixture[str], *settings: str) -> list[str]:
    """The README's table in the working directory: prints what the README says, is trained and evaluated as own data.

    Returns the words of the run, in runs/own.
    """
    folder = ROOT / task.name
    (name,) = shown_tables(folder / "README.md", Path())
    out = f"data/{Path(name).stem.replace('my_', 'own_')}"
    assert main(task, ["prepare", "--from-table", name, "--out", out]) == 0
    said = capsys.readouterr().out.splitlines()
    assert all(line in (folder / "README.md").read_text() for line in said)
    words = ["--recipe", str(folder / "tests" / "tiny.yaml"), "--run-dir", "runs/own"]
    words += [f"data.root={out}", "data.toy=null", *settings]
    for verb in ("prepare", "train", "predict", "evaluate"):
        assert main(task, [verb, *words]) == 0
    assert "own data set, not comparable" in capsys.readouterr().out
    return words
