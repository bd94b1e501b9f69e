"""A network as a folder for others: written, read strictly, and uploaded only when asked."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open

from common import encoders
from common.encoders.__main__ import main
from common.run.errors import UserError
from common.run.export import CARD, README, WEIGHTS, check_export, read_card
from common.tests.helpers import largest_file

TINY = [name for name in encoders.names() if name.endswith("-tiny")]
TOKEN = "huggingface_hub.get_token"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    encoder = encoders.create("mn-tiny", num_classes=6)
    metrics = {"devtest/accuracy": 0.5}
    encoders.export(encoder, tmp_path / "mine", data="toy", metrics=metrics, licence="cc-by-4.0", config={"lr": 0.1})
    return tmp_path / "mine"


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("head", ["published", None])
def test_an_encoder_comes_back(name: str, head: Any, tmp_path: Path) -> None:
    encoder = encoders.create(name, num_classes=head)
    encoders.export(encoder, tmp_path / "mine")
    again = encoders.create(tmp_path / "mine")
    assert again.name == name
    assert again.checkpoint is not None
    assert again.checkpoint["name"] == "mine"
    own, other = encoder.state_dict(), again.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[key], other[key]) for key in own)


def test_options_and_heads(tmp_path: Path) -> None:
    encoder = encoders.create("beats-tiny", num_classes=7, depth=1, head="predictor")
    encoders.export(encoder, str(tmp_path / "mine"))
    again = encoders.create(str(tmp_path / "mine"))
    given = 0.1 * torch.randn(1, 16_000)
    logits = again(given).logits
    assert logits is not None
    assert torch.equal(logits, encoder(given).logits)
    fresh = encoders.create(tmp_path / "mine", num_classes=3)(given).logits
    assert fresh is not None
    assert fresh.shape == (1, 3)
    encoder.options = {"patchout": object()}
    with pytest.raises(UserError, match="an option that cannot be written"):
        encoders.export(encoder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_lies_in_the_folder(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD, README, WEIGHTS])
    card = json.loads((folder / CARD).read_text())
    assert card["data"] == "toy"
    assert card["licence"] == "cc-by-4.0"
    assert card["config"] == {"lr": 0.1}
    assert card["metrics"] == {"devtest/accuracy": 0.5}
    assert card["made_with"]["packages"]["torch"]
    text = (folder / README).read_text()
    assert text.startswith("---\nlicense: cc-by-4.0\n")
    assert "**Trained on toy sounds: says nothing about real recordings.**" in text
    assert "| devtest/accuracy | 0.5000 |" in text
    with safe_open(folder / WEIGHTS, "pt") as file:  # tensors alone: nothing that is run
        assert set(file.keys()) == set(encoders.create(folder).state_dict())


def change(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / CARD).read_text()) | changes
    (folder / CARD).write_text(json.dumps({key: value for key, value in card.items() if value != "gone"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "dcase-systems/2"}, "not the card of a folder"),
        ({"format": "gone"}, "not the card of a folder"),
        ({"system": "task4_sed"}, "a network of task4_sed, expected one of encoder"),
        ({"sytem": "encoder"}, "sytem: unknown setting; did you mean 'system'"),
        ({"metrics": "gone"}, "'metrics' is missing"),
        ({"run": "1"}, "run: is '1', expected int or null"),
        ({"network": {"model": "mn-tiny"}}, "is missing"),
        ({"network": {"model": "mn-tinny", "options": {}, "source": None}}, "did you mean 'mn-tiny'"),
        ({"network": {"model": "frame_mn-tiny", "options": {}, "source": None}}, "does not fit frame_mn-tiny"),
        ({"sha256": "0" * 64}, "SHA-256 is not that of config.json"),
    ],
)
def test_a_card_is_read_strictly(changes: dict[str, Any], message: str, folder: Path) -> None:
    change(folder, **changes)
    with pytest.raises(UserError, match=message) as error:
        encoders.create(folder)
    assert "\n" not in str(error.value)


def test_folders_that_are_none(folder: Path, tmp_path: Path) -> None:
    (folder / CARD).write_text("{")
    for path, message in ((folder, "not valid JSON"), (tmp_path, "card of an exported folder not found")):
        with pytest.raises(UserError, match=message):
            encoders.create(path)
    change_back = tmp_path / "again"
    encoders.export(encoders.create("mn-tiny"), change_back)
    (change_back / WEIGHTS).unlink()
    with pytest.raises(UserError, match="weights not found"):
        read_card(change_back, "encoder")


def test_only_own_folders_are_replaced(folder: Path, tmp_path: Path) -> None:
    encoders.export(encoders.create("panns-tiny"), folder)
    assert encoders.create(folder).name == "panns-tiny"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="no earlier export"):
        encoders.export(encoders.create("panns-tiny"), tmp_path / "theirs")
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "words", ["export --model beats-tiny --out x", "embed x.wav --frames --model m2d-tiny --out x.h5"]
)
def test_a_disk_that_is_full(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and nothing half written; the limit on file sizes stands for the disk."""
    soundfile.write(tmp_path / "x.wav", np.zeros(4 * 8_000), 8_000, subtype="PCM_U8")
    monkeypatch.chdir(tmp_path)
    with largest_file(20_480):
        assert main(words.split()) == 1
    errors = capsys.readouterr().err
    assert errors.splitlines()[-1].startswith("error: ")
    assert "File too large" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / words.split()[-1]).exists()


# -------------------------------------------------------------------------------------------------------------- upload


class Hub:
    """HfApi as far as it is used; keeps what it was asked for."""

    calls: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012
    error: Exception | None = None

    def create_repo(self, repo_id: str, **options: Any) -> None:
        if Hub.error is not None:
            raise Hub.error
        Hub.calls.append((repo_id, options))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
        Hub.calls.append((repo_id, {"files": sorted(path.name for path in Path(folder_path).iterdir())}))
        return "done"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(TOKEN, lambda: "hf_x")
    Hub.calls, Hub.error = [], None
    return Hub


def words(folder: Path, *more: str) -> list[str]:
    return ["export", "--model", "mn-tiny", "--out", str(folder), *more]


def test_nothing_is_uploaded_unasked(hub: type[Hub], tmp_path: Path) -> None:
    assert main(words(tmp_path / "x")) == 0
    assert not hub.calls


@pytest.mark.parametrize("public", [False, True])
def test_upload(public: bool, hub: type[Hub], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--push", "me/mn-tiny", "--json", *(["--public"] if public else [])]
    assert main(words(tmp_path / "x", *more)) == 0
    files = sorted([CARD, README, WEIGHTS])
    assert hub.calls == [("me/mn-tiny", {"private": not public, "exist_ok": True}), ("me/mn-tiny", {"files": files})]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["address"] == "https://huggingface.co/me/mn-tiny"


def test_upload_that_fails(hub: type[Hub], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.error = ConnectionError("[Errno -2] Name or service not known\nmore")
    assert main(words(tmp_path / "x", "--push", "me/x")) == 1
    expected = f"error: me/x: not uploaded ([Errno -2] Name or service not known); the folder is at {tmp_path / 'x'}\n"
    assert capsys.readouterr().err == expected
    assert encoders.create(tmp_path / "x").name == "mn-tiny"


def test_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(TOKEN, lambda: None)
    for push, public, message in (
        ("me/x", False, "no token"),
        ("me", False, "expected OWNER/NAME"),
        ("me/x/y", False, "expected OWNER/NAME"),
        (None, True, "--public goes with --push"),
    ):
        with pytest.raises(UserError, match=message):
            check_export(tmp_path / "x", push, public)
    shutil.copy(__file__, tmp_path / "file")
    with pytest.raises(UserError, match="is a file"):
        check_export(tmp_path / "file", None)
