"""The inference package of 2025: it stands alone and gives the network's logits; every rule has what breaks it."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from common.frontends import SETTINGS, LogMel
from common.run.errors import UserError
from common.run.submission.violations import Violation
from common.tests.submission_case import Mutation, swap, unpack
from task1_asc.config import ModelConfig
from task1_asc.data.classes import DEVICES, SCENES
from task1_asc.inference.scores import write_outputs
from task1_asc.model.devices import MultiDevice
from task1_asc.model.networks import build_network
from task1_asc.submission.inference import read_wav
from task1_asc.submission.package_2025 import Package2025, dummy_wav, inference_source, package_2025
from task1_asc.submission.standalone import standalone_source
from task1_asc.submission.validate import validate

TEAM = "Muster_UniX_task1"
LABEL = f"{TEAM}_1"
FILES = 4
CONFIG = ModelConfig(base_channels=8)
OWN_DEVICES = ("a", "s1")


def network() -> MultiDevice:
    """A general network and two of devices, all different."""
    torch.manual_seed(3)
    container = MultiDevice(build_network(CONFIG), OWN_DEVICES, DEVICES)
    for device in OWN_DEVICES:
        for parameter in container.device_models[device].parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return container.eval()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Package2025:
    path = tmp_path_factory.mktemp("outputs") / "evaluation.csv"
    shares = np.random.default_rng(0).dirichlet(np.ones(10), size=FILES)
    write_outputs(path, [f"audio/{index}.wav" for index in range(FILES)], shares)
    state = {
        name: value.half() if value.is_floating_point() else value for name, value in network().state_dict().items()
    }
    clips = [("audio/bus-lyon-1-1-0-a.wav", "bus")]
    accuracy = {"macro_accuracy": 0.5, "devices": {"a": 0.6}}
    return Package2025(LABEL, SETTINGS["asc_2024"], CONFIG, state, OWN_DEVICES, clips, path, accuracy)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, system: Package2025) -> Path:
    return package_2025(tmp_path_factory.mktemp("zip") / "ours.zip", [system], FILES)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    return unpack(archive, tmp_path_factory.mktemp("package"))


@pytest.fixture
def root(tmp_path: Path, pristine: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "root"))


def check(root: Path) -> list[Violation]:
    return validate(root, 2025, FILES)


SCRIPT = f"""
import json, pathlib, sys
refused = ("common", "task1_asc", "soundfile", "lightning", "scipy", "timm", "librosa")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import {TEAM}.{LABEL} as module
folder = pathlib.Path(module.__file__).parent / "resources"
files = [str(folder / "dummy.wav"), *sys.argv[1:]]
devices = ["a", "s5", "s1", "unknown"]
logits, order = module.predict(files, devices, use_cuda=False)
again, _ = module.predict(files, devices, str(folder.parent / "ckpts" / "{LABEL}.pt"))
model = module.load_model()
inputs = module.load_inputs(files, devices, model)
single = [module.get_model_for_device(model, d)(x) for d, x in zip(devices, inputs)]
found = {{"logits": [of.tolist() for of in logits], "again": [of.tolist() for of in again], "order": order}}
found["single"] = [of[0].float().tolist() for of in single]
print(json.dumps(found | {{"shape": list(inputs[0].shape), "dtype": str(inputs[0].dtype)}}))
"""


def test_it_runs_on_its_own_and_gives_the_same_logits(pristine: Path, system: Package2025, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    waveforms = [np.round(rng.uniform(-0.5, 0.5, 44100) * 2**23) / 2**23 for _ in range(3)]
    for index, waveform in enumerate(waveforms):  # 24 bit, as in the data set
        soundfile.write(tmp_path / f"{index}.wav", waveform, 44100, subtype="PCM_24")
    files = [str(tmp_path / f"{index}.wav") for index in range(3)]
    path = {"PYTHONPATH": str(pristine / TEAM), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, *files]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    container = network().half()
    dummy = np.frombuffer(dummy_wav()[44:], "<i2") / 2**15
    batch = torch.tensor(np.stack([dummy, *waveforms]), dtype=torch.float32)
    with torch.inference_mode():
        mel = LogMel(system.mel)(batch)[:, None].half()
        expected = container(mel, torch.tensor([DEVICES.index("a"), DEVICES.index("s5"), DEVICES.index("s1"), -1]))
    assert found["order"] == list(SCENES)
    assert (found["shape"], found["dtype"]) == ([1, 1, 256, 65], "torch.float16")
    assert torch.allclose(torch.tensor(found["logits"]), expected.float(), atol=2e-3)
    assert torch.allclose(torch.tensor(found["single"]), expected.float(), atol=2e-3)
    assert found["again"] == found["logits"]


def test_what_is_packed_is_valid_and_the_same_again(archive: Path, system: Package2025, tmp_path: Path) -> None:
    assert check(archive) == []
    again = package_2025(tmp_path / "again.zip", [system], FILES)
    assert again.read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as zipped:
        counted = json.loads(zipped.read(f"{TEAM}/predictions/{LABEL}/complexity.json"))
        assert zipped.read(f"{TEAM}/predictions/{LABEL}/output.csv").split(b"\n")[1].startswith(b"audio/0.wav\t")
    assert counted["max_MACs"] == 2_487_240
    assert counted["max_Params"] == 2 * 5_722
    assert set(counted["per_device"]) == {"a", "b", "c", *(f"s{number}" for number in range(1, 11))}


def test_two_systems_of_a_team(system: Package2025, tmp_path: Path) -> None:
    archive = package_2025(tmp_path / "two.zip", [system, replace(system, label=f"{TEAM}_2")], FILES)
    assert check(archive) == []


def test_packaging_refuses_what_the_challenge_would(system: Package2025, tmp_path: Path) -> None:
    large = ModelConfig(base_channels=64)
    state = MultiDevice(build_network(large), (), DEVICES).state_dict()
    bad = [
        ([], "no system"),
        ([replace(system, label="Muster_task1_1")], "3 parts"),
        ([system, system], "two systems have this label"),
        ([system, replace(system, label="Other_Uni_task1_2")], "different teams"),
        ([replace(system, config=ModelConfig(kind="passt"))], "'passt' cannot be packaged"),
        ([replace(system, devices=("a",))], "do not fit the network"),
        ([replace(system, config=large, state=state, devices=())], "device a: .*128,000"),
    ]
    for systems, message in bad:
        with pytest.raises(UserError, match=message):
            package_2025(tmp_path / "out.zip", systems, FILES)
    with pytest.raises(UserError, match=r"no row for 4\.wav"):
        package_2025(tmp_path / "out.zip", [system], FILES + 1)
    assert list(tmp_path.iterdir()) == []


def test_the_generated_module_needs_no_project() -> None:
    tree = ast.parse(inference_source())
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    packages = {name.split(".")[0] for name in imported}
    assert packages - set(sys.stdlib_module_names) == {"torch", "torchaudio", "torchvision"}


def test_two_things_of_one_name_are_refused() -> None:
    roots = [("common.run.submission.rules", "PLACEHOLDER"), ("task1_asc.submission.validate", "TOP")]
    assert "PLACEHOLDER =" in standalone_source(roots, "Text.")
    both = [("task1_asc.submission.validate", "_Check"), ("task1_asc.submission.validate_2025", "_Check")]
    with pytest.raises(ValueError, match="_Check is defined in"):
        standalone_source(both, "Text.")


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_wav_files_are_read_as_soundfile_reads_them(tmp_path: Path, subtype: str, form: str) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (501, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", samples, 22050, subtype=subtype, format=form)
    expected = soundfile.read(tmp_path / "x.wav", dtype="float32")[0].mean(axis=1)
    assert np.allclose(read_wav(tmp_path / "x.wav", 22050).numpy(), expected, atol=1e-7)
    resampled = torchaudio.functional.resample(torch.from_numpy(expected), 22050, 44100)
    assert torch.allclose(read_wav(tmp_path / "x.wav", 44100), resampled, atol=1e-6)


def test_what_is_no_wav_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(100), 8000, subtype="PCM_U8")
    with pytest.raises(ValueError, match="8 bits"):
        read_wav(tmp_path / "x.wav", 8000)
    for content, message in ((b"nothing", "not a wav"), (b"RIFF\0\0\0\0WAVE", "without format")):
        (tmp_path / "y.wav").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_wav(tmp_path / "y.wav", 8000)


# --------------------------------------------------------------------------------------------------------------- rules


def inside(*parts: str) -> Callable[[Path], Path]:
    return lambda root: root.joinpath(TEAM, *parts)


def move(path: Path) -> Path:
    """A place whose folder is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def edit(parts: tuple[str, ...], old: str, new: str) -> Mutation:
    return swap("/".join((TEAM, *parts)), old, new)


def counts(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def mutate(root: Path) -> None:
        path = inside(*COMPLEXITY)(root)
        counted = json.loads(path.read_text())
        change(counted)
        path.write_text(json.dumps(counted))

    return mutate


MODULE = (TEAM, f"{LABEL}.py")
DUMMY = (TEAM, "resources", "dummy.wav")
TEST_LIST = (TEAM, "resources", "test.csv")
CKPTS = (TEAM, "ckpts")
COMPLEXITY = ("predictions", LABEL, "complexity.json")
OUTPUT = ("predictions", LABEL, "output.csv")
ACCURACY = ("predictions", LABEL, "test_accuracy.json")


def of(rule: str, *parts: str, line: int | None = None) -> set:
    return {("/".join((TEAM, *parts)), rule, line)}


def parameters(line: int) -> set:
    return of("function-parameters", *MODULE, line=line)


def over(name: str, value: int) -> Callable[[dict], object]:
    return lambda counted: (counted["per_device"]["b"].update({name: value}), counted.update({f"max_{name}": value}))


RULES = [
    (lambda root: inside("pyproject.toml")(root).unlink(), {(".", "layout", None)}),
    (lambda root: inside("pyproject.toml")(root).rename(inside("setup.py")(root)), set()),
    (lambda root: inside(TEAM)(root).rename(inside("Muster_task1")(root)), of("layout")),
    (
        lambda root: [inside("pyproject.toml")(root).unlink(), inside(*ACCURACY)(root).unlink()],
        {(".", "layout", None)} | of("prediction-missing", *ACCURACY),
    ),
    (
        lambda root: [inside(TEAM)(root).rename(inside("Muster_task1")(root)), inside(*ACCURACY)(root).unlink()],
        of("layout") | of("prediction-missing", *ACCURACY),
    ),
    (lambda root: inside(TEAM)(root).rename(move(inside("src", TEAM)(root))), set()),
    (lambda root: inside(TEAM, "__init__.py")(root).unlink(), of("layout", TEAM, "__init__.py")),
    (lambda root: shutil.rmtree(inside(TEAM)(root)), of("layout")),
    (lambda root: shutil.rmtree(inside(TEAM, "models")(root)), of("folder-missing", TEAM, "models")),
    (lambda root: inside(*DUMMY)(root).unlink(), of("resource-missing", *DUMMY)),
    (lambda root: inside(*DUMMY)(root).write_bytes(b"RIFF"), of("dummy", *DUMMY)),
    (
        lambda root: soundfile.write(inside(*DUMMY)(root), np.zeros(32000), 32000),
        of("dummy", *DUMMY),
    ),
    (lambda root: soundfile.write(inside(*DUMMY)(root), np.zeros(44100), 44100, subtype="FLOAT"), set()),
    (lambda root: inside(*TEST_LIST)(root).unlink(), of("resource-missing", *TEST_LIST)),
    (edit(TEST_LIST, "filename", "name"), of("test-list", *TEST_LIST, line=1)),
    (lambda root: inside(*MODULE)(root).unlink(), of("module-missing", TEAM)),
    (lambda root: inside(*MODULE)(root).write_text("def predict(:\n"), of("module-syntax", *MODULE, line=1)),
    (lambda root: inside(*MODULE)(root).write_text("x = " + "-" * 20_000 + "1\n"), of("module-syntax", *MODULE)),
    (lambda root: inside(*MODULE)(root).write_text("from .models.inference import *\n"), set()),
    (edit(MODULE, "def load_inputs", "load_inputs = make()\ndef inputs"), set()),
    (edit(MODULE, "def load_inputs", "def inputs"), of("function-missing", *MODULE)),
    (edit(MODULE, "load_inputs(file_paths, device_ids, model)", "load_inputs(files, model)"), parameters(15)),
    (edit(MODULE, ", use_cuda=False", ""), parameters(25)),
    (edit(MODULE, "model_file_path=None, use_cuda=False", "model_file_path=None, **others"), set()),
    (edit(MODULE, "load_model(model_file_path=None)", "load_model(model_file_path)"), parameters(10)),
    (lambda root: [path.unlink() for path in inside(*CKPTS)(root).iterdir()], of("checkpoint-missing", *CKPTS)),
    (lambda root: inside(*OUTPUT)(root).unlink(), of("prediction-missing", *OUTPUT)),
    (lambda root: inside(*ACCURACY)(root).unlink(), of("prediction-missing", *ACCURACY)),
    (edit(OUTPUT, "audio/1.wav", "1.wav"), of("filename", *OUTPUT, line=3) | of("filename-missing", *OUTPUT)),
    (lambda root: inside(*COMPLEXITY)(root).write_text("{"), of("json", *COMPLEXITY, line=1)),
    (lambda root: inside(*COMPLEXITY)(root).write_text("[" * 100_000), of("json", *COMPLEXITY)),
    (lambda root: inside(*COMPLEXITY)(root).write_text("[]"), of("complexity", *COMPLEXITY)),
    (lambda root: inside(*ACCURACY)(root).write_text('"high"'), of("accuracy", *ACCURACY)),
    (counts(lambda counted: counted["per_device"].pop("s9")), of("complexity", *COMPLEXITY)),
    (counts(lambda counted: counted["per_device"]["s9"].update(MACs="many")), of("complexity", *COMPLEXITY)),
    (counts(lambda counted: counted.update(max_MACs=1)), of("complexity", *COMPLEXITY)),
    (counts(over("MACs", 30_000_001)), of("limit", *COMPLEXITY)),
    (counts(over("Params", 128_001)), of("limit", *COMPLEXITY)),
]  # fmt: skip


@pytest.mark.parametrize(("mutate", "expected"), RULES)
def test_rules(root: Path, mutate: Callable[[Path], object], expected: set) -> None:
    mutate(root)
    assert {(violation.file, violation.rule, violation.line) for violation in check(root)} == expected


def test_at_most_four_systems(root: Path) -> None:
    inside(*MODULE)(root).rename(inside(TEAM, f"{TEAM}_5.py")(root))
    inside("predictions", LABEL)(root).rename(inside("predictions", f"{TEAM}_5")(root))
    assert [violation.rule for violation in check(root)] == ["label-index"]


def test_an_institute_with_underscores_is_accepted_and_checked(root: Path) -> None:
    """A real submission has one; nothing else of it goes unchecked."""
    team = "Muster_INST_LAB_task1"
    inside(TEAM)(root).rename(inside(team)(root))
    for folder in (inside(team)(root), inside(team, "ckpts")(root), inside("predictions")(root)):
        for path in sorted(folder.glob(f"{LABEL}*")):
            path.rename(path.with_name(path.name.replace(TEAM, team)))
    assert {(violation.rule, violation.severity) for violation in check(root)} == {("label", "warning")}
    inside(team, "resources", "dummy.wav")(root).unlink()
    assert {violation.rule for violation in check(root)} == {"label", "resource-missing"}


def test_the_packages_that_were_found_are_named(root: Path) -> None:
    shutil.copytree(inside(TEAM)(root), inside("Other_INST_task1")(root))
    found = [violation for violation in check(root) if violation.rule == "layout"]
    assert f"Python packages found: {TEAM}, Other_INST_task1; expected one named" in sorted(found, key=str)[0].message
