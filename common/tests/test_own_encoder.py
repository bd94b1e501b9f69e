"""An own encoder by import path: the README's example, with weights of a file, and what is no encoder."""

from pathlib import Path

import pytest
import torch

from common import encoders
from common.run.errors import UserError
from common.tests.helpers import ROOT, readme_file

EARS = readme_file(ROOT / "common" / "encoders" / "README.md", "ears.py")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ears.py").write_text(EARS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_has_the_face_of_all_encoders(folder: Path) -> None:
    torch.manual_seed(4)
    encoder = encoders.create("ears:Ears", dim=6)
    assert (encoder.name, encoder.embedding_dim, encoder.training) == ("ears:Ears", 6, False)
    out = encoder(torch.randn(2, 20_000))
    assert out.frames.shape == (2, 20, 6)
    assert out.clip.shape == (2, 6)
    assert encoder(torch.randn(2, 20_000), frames=7).frames.shape == (2, 7, 6)
    with pytest.raises(UserError, match="ears:Ears: waveforms of shape"):
        encoder(torch.randn(20_000))
    torch.save(encoder.state_dict(), folder / "mine.pt")
    loaded = encoders.create("ears:Ears", folder / "mine.pt", num_classes=None, dim=6)
    assert loaded.checkpoint is not None
    assert loaded.checkpoint["file"] == "mine.pt"
    assert all(map(torch.equal, loaded.state_dict().values(), encoder.state_dict().values()))
    with pytest.raises(UserError, match=r"mine\.pt: does not fit ears:Ears: 2 of another shape"):
        encoders.create("ears:Ears", folder / "mine.pt", dim=7)
    with pytest.raises(UserError, match=r"other\.pt: checkpoint not found"):
        encoders.create("ears:Ears", "other.pt")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class Ears(Encoder)", "class Ears(nn.Module)", r"ears\.py: ears:Ears is no class of common.encoders.Encoder"),
        ("class Ears", "class Eras", r"ears\.py has no 'Ears'; did you mean 'Eras'"),
        ("step_rate", "rate", r"ears\.py: ears:Ears has no step_rate, which every encoder says of itself"),
        (
            "x.mean(dim=1), None",
            "x.mean(dim=1)[:, 1:], None",
            r"ears:Ears gives \(1, 31\), expected \(1, 32\): clip \(",
        ),
        ("Output(x, x", "Output(x[..., 1:], x", r"gives \(1, 16, 31\), expected \(1, 16, 32\): frames \(batch, fr"),
        (
            "x.mean(dim=1), None, None)",
            "x)",
            r"ears:Ears: fails for input \(1, 16000\), TypeError: .* \(\S+ears\.py:20\)",
        ),
        ("task4_crnn", "task4", r"ears:Ears: cannot be made, .*task4.* \(\S+ears\.py:\d+\)"),
    ],
)
def test_what_is_no_encoder(folder: Path, old: str, new: str, message: str) -> None:
    assert old in EARS
    (folder / "ears.py").write_text(EARS.replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        encoders.create("ears:Ears")
    assert "\n" not in str(error.value)
