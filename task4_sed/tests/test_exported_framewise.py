"""Frame-wise networks as folders for others: weights, a card, and MobileNets as a graph from waveform to logits."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession

from common.encoders import create, export
from common.encoders.__main__ import main as encoders
from common.encoders.exported import GRAPH, GRAPH_TOLERANCE
from common.run.errors import UserError
from common.run.onnx_graphs import write_graph
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.config import SequenceConfig
from task4_sed.data.audioset import output_classes
from task4_sed.inference.detectors import load_detector
from task4_sed.model.sequence import sequence_model
from task4_sed.tests.test_detectors import framewise, noise, sequence_file
from task4_sed.tests.test_exported_task4 import leave_run

RUN = ["--recipe", "toy_pretrain_student", "--run-dir", "runs"]


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return float(np.abs(found - expected).max()) <= GRAPH_TOLERANCE * float(np.sqrt(np.mean(expected**2)))


@pytest.mark.parametrize("sequence", [False, True])
def test_a_graph_hears_what_its_run_hears(sequence: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    best = leave_run(tmp_path, framewise(sequence=sequence))
    assert main(TASK, ["export", "--out", "small", *RUN]) == 0
    assert sorted(path.name for path in Path("small").iterdir()) == [
        *("README.md", "config.json", GRAPH, "model.safetensors")
    ]
    assert "logits (batch, 250, classes)" in Path("small/README.md").read_text()
    expected = load_detector([best], "cpu")
    session = InferenceSession(f"small/{GRAPH}")
    for windows in (noise(3), torch.zeros(1, 160_000)):
        (logits,) = session.run(["logits"], {"waveform": windows.numpy()})
        assert close(logits, expected.logits(windows).numpy())
    detector = load_detector([Path("small")], "cpu")
    assert (detector.classes, detector.mids, detector.note) == (expected.classes, expected.mids, expected.note)
    assert np.array_equal(detector.logits(noise(3)).numpy(), session.run(None, {"waveform": noise(3).numpy()})[0])
    (Path("small") / GRAPH).unlink()
    assert torch.equal(load_detector(["small"], "cpu").logits(noise()), expected.logits(noise()))
    (Path("small") / GRAPH).write_bytes(b"none")
    with pytest.raises(UserError, match="onnxruntime cannot run it"):
        load_detector(["small"], "cpu")


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("attn", "tf", "tcn")]


@pytest.mark.parametrize("kind", ["gru", "hybrid", "mamba", *SLOW])
def test_graphs_of_sequence_models(kind: str, tmp_path: Path) -> None:
    """Whole, of any batch, and not step by step: 250 of them would be thousands of nodes."""
    torch.manual_seed(0)
    model = sequence_model(SequenceConfig(kind, dim=32, layers=2 if kind == "gru" else 1), 24)[0].eval()  # type: ignore[arg-type]
    given = torch.randn(3, 250, 24)
    with torch.no_grad():
        expected = model(given).numpy()
    write_graph(model, given, expected, tmp_path / GRAPH, ("x", "y"), GRAPH_TOLERANCE)
    assert len(onnx.load(tmp_path / GRAPH).graph.node) < 450


@pytest.mark.parametrize("sequence", [False, True])
def test_other_networks_have_no_graph(sequence: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    best = leave_run(tmp_path, framewise("atst-f-tiny", sequence=sequence))
    assert main(TASK, ["export", "--out", "big", *RUN]) == 0
    assert not (Path("big") / GRAPH).exists()
    found = load_detector(["big"], "cpu").logits(noise())
    assert torch.equal(found, load_detector([best], "cpu").logits(noise()))


@pytest.mark.parametrize("model", ["frame_mn-tiny", pytest.param("frame_mn06", marks=pytest.mark.slow)])
def test_a_named_checkpoint_as_a_graph(model: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, path = create(model, "random"), tmp_path / "frame_mn06_strong_1.pt"
    torch.save(encoder.state_dict(), path)
    words = ["--checkpoint", str(path), "--out", str(tmp_path / "small")]
    assert encoders(["export", "--model", model, *words]) == 0
    detector = load_detector([tmp_path / "small"], "cpu")
    logits = encoder(noise()).frame_logits
    assert logits is not None
    assert close(detector.logits(noise()).numpy(), logits.detach().numpy())
    assert detector.classes == output_classes()
    assert create(tmp_path / "small").name == model


@pytest.mark.parametrize("of_own", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_network_by_its_name(of_own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCASE_CACHE", str(tmp_path))
    name, path = "fmn10+hybrid-128_strong", tmp_path / "checkpoints" / "fmn10+hybrid-128_strong.pt"
    path.parent.mkdir()
    if of_own:
        name = str(leave_run(tmp_path, framewise(sequence=True)))
    else:
        sequence_file(path, SequenceConfig("hybrid", 128))
    assert main(TASK, ["export", "--model", name, "--out", "small"]) == 0
    assert (Path("small") / GRAPH).is_file()
    found, expected = (load_detector([of], "cpu").logits(noise()).numpy() for of in ("small", name))
    assert close(found, expected)
    (Path("small") / GRAPH).unlink()
    np.testing.assert_allclose(load_detector(["small"], "cpu").logits(noise()).numpy(), expected, atol=1e-6)


def test_networks_that_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--model", "frame_mn06_strong_1"], "export: --model goes with --out"),
        (["--model", "no-such", "--out", str(tmp_path / "o")], "unknown checkpoint 'no-such'"),
        (["--model", "gone.ckpt", "--out", str(tmp_path / "o")], "gone.ckpt: checkpoint not found"),
    ):
        assert main(TASK, ["export", *words]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_graph_that_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.encoders.exported.GRAPH_TOLERANCE", 0.0)
    with pytest.raises(UserError, match="differs from the network by"):
        export(create("frame_mn-tiny"), tmp_path / "small")
    assert not (tmp_path / "small").exists()
