"""Writing the inference package of 2025: an installable Python package with the network in it.

    <team>/pyproject.toml
    <team>/<team>/<team>_<n>.py          predict, load_model, load_inputs, get_model_for_device
    <team>/<team>/models/inference.py    front end and network: generated, needs torch, torchaudio, torchvision only
    <team>/<team>/models/<team>_<n>.py   the module of an own network, as it was trained
    <team>/<team>/ckpts/<team>_<n>.pt    state dict of the general network and those of the devices
    <team>/<team>/ckpts/<team>_<n>.json  their settings
    <team>/<team>/resources/dummy.wav    one second, for counting MACs
    <team>/<team>/resources/test.csv     the development test list
    <team>/predictions/<team>_<n>/       complexity.json, output.csv, test_accuracy.json, model_state_dict.pt

`<team>` is `<Lastname>_<Institute>_task1`.
"""

import dataclasses
import io
import json
import struct
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.frontends import MelSetting
from common.run.complexity import count
from common.run.errors import UserError
from common.run.imports import Own, imported_names, load
from common.run.submission.archive import Content, build_zip
from common.run.submission.package import check_name, team_of
from task1_asc.config import ModelConfig
from task1_asc.data.classes import CLIP_SAMPLES, SAMPLE_RATE
from task1_asc.deployment.complexity import verdict
from task1_asc.submission.inference import SceneClassifier
from task1_asc.submission.rules import label_problem
from task1_asc.submission.standalone import OWN_PACKAGES, standalone_source
from task1_asc.submission.tables import EVALUATION_FILES, passing_output
from task1_asc.submission.validate_2025 import TEST_DEVICES

KINDS = ("baseline", "cp_mobile")
INFERENCE = "task1_asc.submission.inference"
API = ("SceneClassifier", "load_classifier", "log_mels", "classify")

MODULE = '''"""{label}: acoustic scenes from recordings of one second. The four functions of the challenge."""

from pathlib import Path

from {team}.models.inference import classify, load_classifier, log_mels
{imported}
_FOLDER = Path(__file__).parent / "ckpts"


def load_model(model_file_path=None):
    """The classifier; model_file_path: another state dict than the package's own."""
    return load_classifier(_FOLDER / "{label}.json", model_file_path or _FOLDER / "{label}.pt", {own})


def load_inputs(file_paths, device_ids, model):
    """One network input (1, 1, mel, frames) for each file."""
    return log_mels(file_paths, model)


def get_model_for_device(model, device_id):
    """The network for recordings of a device: its own, else the general one."""
    return model.networks.for_device(device_id)


def predict(file_paths, device_ids, model_file_path=None, use_cuda=False):
    """Logits (10,) of each file in order, and the scenes in the order of the logits."""
    return classify(file_paths, device_ids, load_model(model_file_path), use_cuda)
'''

PYPROJECT = """[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0.0"
requires-python = ">=3.10"
dependencies = {dependencies}

[tool.setuptools]
packages = ["{team}", "{team}.models"]

[tool.setuptools.package-data]
"{team}" = ["ckpts/*", "resources/*"]
"""


@dataclass(frozen=True)
class Package2025:
    """One system of the inference package.

    label: `<Lastname>_<Institute>_task1_<n>`; mel, config: of front end and network; state: of `MultiDevice`, in the
    precision of deployment; devices: those that have an own network in it; test_list: (file name, scene) of the
    development test set; outputs: output file over the evaluation set as `write_outputs` makes it (the package has the
    names with their folder); accuracy: results on the test list.
    """

    label: str
    mel: MelSetting
    config: ModelConfig
    state: Mapping[str, Tensor]
    devices: Sequence[str] = ()
    test_list: Sequence[tuple[str, str]] = ()
    outputs: Path | None = None
    accuracy: Mapping[str, Any] | None = None


def package_2025(
    out: Path, systems: Sequence[Package2025], evaluation_files: int | Collection[str] = EVALUATION_FILES
) -> Path:
    """Write the inference package of one team as a .zip, whole or not at all; returns its path.

    evaluation_files: as `files` of `validate`. Raises UserError for a label that is none, systems of different teams, a
    network that the package cannot carry, a state dict that does not fit it, one over the challenge's limits, or an
    output that the challenge would not take.
    """
    check_name(out)
    for system in systems:
        if wrong := label_problem(system.label):
            raise UserError(f"submission.label {wrong}")
    team = team_of(out, [system.label for system in systems])
    files: dict[str, Content] = {
        "pyproject.toml": PYPROJECT.format(
            team=team, name=team.replace("_", "-").lower(), dependencies=json.dumps(_dependencies(systems))
        ),
        f"{team}/__init__.py": f'"""Inference of {team} for DCASE 2025 Task 1."""\n',
        f"{team}/models/__init__.py": '"""Front end and network."""\n',
        f"{team}/models/inference.py": inference_source(),
        f"{team}/resources/dummy.wav": dummy_wav(),
        f"{team}/resources/test.csv": _test_list(systems[0].test_list),
    }
    for system in systems:
        files |= _system_files(system, team, evaluation_files)
    return build_zip(out, {f"{team}/{name}": content for name, content in files.items()})


def _system_files(system: Package2025, team: str, evaluation_files: int | Collection[str]) -> dict[str, Content]:
    label = system.label
    classifier = _classifier(system)
    counted = complexity_of(classifier, label)
    settings = {
        "mel": dataclasses.asdict(system.mel),
        "model": dataclasses.asdict(system.config),
        "devices": list(system.devices),
    }
    state = _state_bytes(system.state)
    predictions = f"predictions/{label}"
    imported, own = "", "None"
    if isinstance(system.config.kind, Own):
        own = system.config.kind.partition(":")[2]
        imported = f"from {team}.models.{label} import {own}\n"
    files: dict[str, Content] = {
        f"{team}/{label}.py": MODULE.format(label=label, team=team, imported=imported, own=own),
        f"{team}/ckpts/{label}.pt": state,
        f"{team}/ckpts/{label}.json": json.dumps(settings, indent=2) + "\n",
        f"{predictions}/model_state_dict.pt": state,
        f"{predictions}/complexity.json": json.dumps(counted, indent=2) + "\n",
    }
    if isinstance(system.config.kind, Own):
        files[f"{team}/models/{label}.py"] = system.config.kind.text or ""
    if system.outputs is not None:
        lines = passing_output(system.outputs, evaluation_files).read_text(encoding="utf-8").splitlines()
        files[f"{predictions}/output.csv"] = "\n".join([lines[0], *(f"audio/{line}" for line in lines[1:]), ""])
    if system.accuracy is not None:
        files[f"{predictions}/test_accuracy.json"] = json.dumps(dict(system.accuracy), indent=2) + "\n"
    return files


def _dependencies(systems: Sequence[Package2025]) -> list[str]:
    """Packages of the inference package: what the own networks import, beside torch.

    Raises UserError for a module that this cannot carry: a part of an installed package, or one that imports this
    project.
    """
    needed = ["torch", "torchaudio", "torchvision"]
    for own in (system.config.kind for system in systems if isinstance(system.config.kind, Own)):
        if own.text is None:
            raise UserError(f"model.kind: {own} is part of an installed package, expected a file that can be packed")
        for name, line in imported_names(own):
            if name in OWN_PACKAGES:
                raise UserError(f"{own.file}:{line}: imports {name}, but an inference package needs nothing of it")
            if name not in sys.stdlib_module_names and name not in needed:
                needed.append(name)
    return needed


def inference_source() -> str:
    """`models/inference.py`: front end, network and the functions over them, without this project."""
    return standalone_source(
        [(INFERENCE, name) for name in API], "Front end, network and inference. Generated: one file that stands alone."
    )


def _classifier(system: Package2025) -> SceneClassifier:
    own = load(system.config.kind) if isinstance(system.config.kind, Own) else None
    if own is None and system.config.kind not in KINDS:
        raise UserError(f"model.kind: {system.config.kind!r} cannot be packaged, expected {' or '.join(KINDS)}")
    dtypes = {value.dtype for value in system.state.values() if value.is_floating_point()}
    if len(dtypes) != 1:
        raise UserError(f"{system.label}: weights of {len(dtypes)} precisions in one state dict, expected one")
    classifier = SceneClassifier(system.mel, system.config, system.devices, own)
    classifier.networks.to(dtypes.pop())
    try:
        classifier.networks.load_state_dict(dict(system.state))
    except RuntimeError as error:
        raise UserError(f"{system.label}: the weights do not fit the network: {' '.join(str(error).split())}") from None
    return classifier.eval()


def complexity_of(classifier: SceneClassifier, label: str) -> dict[str, Any]:
    """MACs, and bytes of the parameters, of the network of every device; UserError over the limits."""
    front_end = classifier.front_end
    shape = (1, 1, front_end.num_mels, front_end.num_frames(front_end.sample_rate))  # clips of one second
    per_device: dict[str, dict[str, int]] = {}
    done: dict[int, dict[str, int]] = {}
    for device in TEST_DEVICES:
        network = classifier.networks.for_device(device)
        if id(network) not in done:
            counted = count(network, shape)
            if wrong := verdict(counted):
                raise UserError(f"{label}, device {device}: {wrong[0]}")
            done[id(network)] = {"MACs": counted.macs, "Params": counted.bytes}
        per_device[device] = done[id(network)]
    most = {f"max_{name}": max(of[name] for of in per_device.values()) for name in ("MACs", "Params")}
    return {"per_device": per_device, **most}


def _state_bytes(state: Mapping[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: value.detach().cpu().clone() for name, value in state.items()}, buffer)
    return buffer.getvalue()


def dummy_wav() -> bytes:
    """One second of quiet noise, 16 bit mono at 44.1 kHz; always the same."""
    samples = (np.random.default_rng(0).standard_normal(CLIP_SAMPLES) * 1000).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _test_list(clips: Sequence[tuple[str, str]]) -> str:
    return "filename\tscene_label\n" + "".join(f"{name}\t{scene}\n" for name, scene in clips)
