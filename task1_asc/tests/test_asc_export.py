"""ONNX files: the same outputs as the network in PyTorch, or none; and what they cost."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.encoders.matrix_mel import MatrixLogMel
from common.frontends import LogMel, MelSetting
from common.run import latency
from common.run.errors import UserError
from common.run.latency import latency_table
from task1_asc.config import ModelConfig
from task1_asc.deployment.export import export, float_twin
from task1_asc.deployment.quantize import prepare_network
from task1_asc.model.networks import build_network

CONFIG = ModelConfig(kind="cp_mobile", base_channels=8, blocks=(1, 1, 1), strides={"b1": (2, 2)}, num_classes=4)
EARS = MelSetting(8000, 384, 512, 160, 32, 0.0, 4000.0, resample_from=11025)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network whose batch norms know its front end, in training mode."""
    torch.manual_seed(0)
    network = build_network(CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() == 1:  # of the global response norm
                parameter.fill_(0.3)
        for _ in range(30):
            network(LogMel(EARS)(clips(32))[:, None])
    return network


def clips(count: int) -> Tensor:
    """One second at 11025 Hz: noise of several levels with a tone."""
    time = torch.arange(11025) / 11025
    tones = torch.sin(2 * torch.pi * torch.rand(count, 1) * 3000 * time)
    return torch.rand(count, 1) * 0.5 * (tones + 0.3 * torch.randn(count, 11025))


def run(path: Path, given: Tensor) -> np.ndarray:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: given.numpy()})[0]


@pytest.mark.parametrize("setting", ["asc_2024", "asc_2022_student", "task4_crnn", "m2d", "task2_workshop_zero_pad"])
def test_fourier_transform_as_matrix_products(setting: str) -> None:
    torch.manual_seed(0)
    ears = LogMel(setting)
    waveform = torch.tensor([[0.1], [0.01]]) * torch.randn(2, round(0.7 * ears.sample_rate))
    error = (MatrixLogMel(ears)(waveform) - ears(waveform)).abs()
    assert ears(waveform).shape == error.shape
    assert error.max() < 1e-3
    assert error.mean() < 2e-6


def test_matrix_products_on_the_published_vector() -> None:
    n = torch.arange(44100, dtype=torch.float64)
    wave = 0.5 * torch.sin(2 * torch.pi * 440 * n / 44100) + 0.25 * torch.sin(2 * torch.pi * 3000 * n / 44100)
    mel = MatrixLogMel(LogMel("asc_2024"))(wave.float()[None])[0]
    assert mel.shape == (256, 65)
    cells = {(0, 0): 5.1427, (31, 32): -4.6806, (40, 32): 8.7606, (131, 32): -5.5032, (255, 64): -1.5306}
    for cell, value in cells.items():
        assert mel[cell].item() == pytest.approx(value, abs=2e-3), cell
    assert mel.mean().item() == pytest.approx(-8.79333, abs=2e-4)


@pytest.fixture(scope="module")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One file of each precision, with the front end inside or outside."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(1)
    calibration = clips(40)
    kinds = {"float32": False, "float16": False, "int8": True}
    before = copy.deepcopy(network.state_dict())
    found = {
        precision: export(network, LogMel(EARS), folder / f"{precision}.onnx", precision, inside, calibration)
        for precision, inside in kinds.items()
    }
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    return found


def test_files_answer_like_the_network(network: nn.Module, exported: dict[str, Any]) -> None:
    torch.manual_seed(2)
    waveform = clips(5)
    with torch.inference_mode():
        mel = LogMel(EARS)(waveform)[:, None]
        expected = copy.deepcopy(network).eval()(mel).numpy()
    scale = np.sqrt((expected**2).mean())
    for precision, about in exported.items():
        given = waveform if about["front_end_inside"] else mel
        found = run(Path(about["path"]), given)
        allowed = 2 * about["tolerance"] if precision == "int8" else about["tolerance"]
        assert np.abs(found - expected).max() / scale < allowed, precision
        assert np.allclose(run(Path(about["path"]), given[1:2]), found[1:2], atol=1e-4)
        assert about["bytes"] == Path(about["path"]).stat().st_size
        assert about["difference"] < about["tolerance"]
    assert exported["float32"]["difference"] < exported["float16"]["difference"] < exported["int8"]["difference"]


def test_types_inside_the_files(exported: dict[str, Any]) -> None:
    import onnx

    models = {precision: onnx.load(about["path"]) for precision, about in exported.items()}
    kinds = {precision: [node.op_type for node in model.graph.node] for precision, model in models.items()}
    assert "STFT" not in kinds["int8"]
    assert kinds["int8"].count("QuantizeLinear") > 5
    half = [tensor for tensor in models["float16"].graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16]
    assert sum(np.prod(tensor.dims) for tensor in half) > 1000
    for model in models.values():
        onnx.checker.check_model(model, full_check=True)
        assert [entry.name for entry in model.graph.output] == ["logits"]
    assert models["float16"].graph.input[0].name == "mel"
    assert models["int8"].graph.input[0].name == "waveform"


def test_no_unsigned_activation_meets_a_signed_weight(exported: dict[str, Any]) -> None:
    """Processors without VNNI add two such products in int16, where they saturate."""
    import onnx

    graph = onnx.load(exported["int8"]["path"]).graph
    initial = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv" and not node.name.startswith("ears/")]
    assert len(convolutions) == 12
    for node in convolutions:
        activation, weight = (made_by[name].input for name in node.input[:2])  # tensor, scale, zero point
        assert initial[activation[2]].dtype == initial[weight[0]].dtype == initial[weight[2]].dtype == np.uint8
        assert initial[weight[2]].shape == (len(initial[weight[0]]),)  # per channel


def test_latency_table(exported: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    rows = latency_table([exported["int8"]["path"], exported["float16"]["path"]], runs=5)
    assert [row["input"] for row in rows] == [["waveform", 1, 11025], ["mel", 1, 1, 32, 51]]
    for row in rows:
        assert 0 < row["ms"] < 1000
        assert 20e6 < row["runtime_bytes"] <= row["peak_bytes"] < 500e6
    assert "float16.onnx" in capsys.readouterr().out


def test_other_outputs_are_not_kept(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"the file of before")
    with pytest.raises(UserError, match=r"network.onnx: not written, its logits differ .* allowed 1e-09") as error:
        export(network, LogMel(EARS), path, "float32", False, clips(1), tolerance=1e-9)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == b"the file of before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("network.onnx", "int8", "precision int8 needs calibration"),
        ("network.onnx", "float61", "unknown 'float61'; did you mean 'float16'"),
        ("network.pt", "float32", "expected a name that ends in .onnx"),
    ],
)
def test_wrong_input(network: nn.Module, tmp_path: Path, name: str, precision: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export(network, LogMel(EARS), tmp_path / name, precision)
    assert list(tmp_path.iterdir()) == []


def test_no_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"network\.onnx: onnxruntime cannot run this file") as error:
        latency_table([path])
    assert "\n" not in str(error.value)


def test_a_measurement_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"")
    monkeypatch.setattr(latency, "LONGEST_SECONDS", 0.01)
    with pytest.raises(UserError, match=r"network\.onnx: not measured within 0\.01 seconds, given up"):
        latency.latency_table([path])


@torch.no_grad()
def test_float_twin_of_a_quantised_training(network: nn.Module) -> None:
    torch.manual_seed(3)
    mel = LogMel(EARS)(clips(8))[:, None]
    prepared = prepare_network(network, mel[:1])
    for parameter in prepared.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    prepared(mel)  # batch norms move
    twin = float_twin(prepared, build_network(CONFIG)).eval()
    prepared.eval().apply(torch.ao.quantization.disable_fake_quant)
    assert torch.allclose(twin(mel), prepared(mel), atol=1e-4)
    assert not torch.allclose(twin(mel), copy.deepcopy(network).eval()(mel), atol=1e-2)
    with pytest.raises(UserError, match="quantised network: no "):
        float_twin(prepared, build_network(ModelConfig()))
