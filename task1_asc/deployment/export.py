"""Networks as ONNX files, with the front end inside or outside, compared with the original before they are kept.

    export(model, front_end, path, precision, front_end_inside, calibration) -> dict

The front end stays in single precision.
"""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.encoders.matrix_mel import exportable
from common.frontends import LogMel
from common.run.errors import UserError, did_you_mean
from common.run.files import write_then_rename
from common.run.onnx_graphs import answers, graph_of, quiet
from common.run.results.tables import print_table
from task1_asc.deployment.precision import deployed

# Largest difference of a logit from the float32 network in PyTorch, as a share of the logits' root mean square.
TOLERANCES = {"float32": 1e-3, "float16": 3e-2, "int8": 0.3}
CHECKED_CLIPS = 64


class _Ears(nn.Module):
    """Waveform (batch, samples) -> log-mel as networks take it, (batch, 1, mel, frames)."""

    def __init__(self, front_end: LogMel) -> None:
        super().__init__()
        self.front_end = exportable(front_end)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.front_end(waveform)[:, None]


def export(
    model: nn.Module,
    front_end: LogMel,
    path: str | Path,
    precision: str = "float32",
    front_end_inside: bool = True,
    calibration: Tensor | None = None,
    tolerance: float | None = None,
) -> dict[str, Any]:
    """Write a network to `path` (.onnx), checked in onnxruntime; `model` is not changed.

    The file takes `waveform` (batch, samples) at `front_end.sample_rate`, or without the front end `mel` (batch, 1,
    mel, frames), and gives `logits` (batch, classes) in float32; any batch, clips of one length (that of the
    calibration, else one second). precision: "float32"; "float16"; "int8", weights per channel and activations from
    the ranges that `calibration`, waveforms (clips, samples), shows: static quantisation of onnxruntime, both unsigned,
    so that all processors answer alike. For networks that were trained with quantisation pass their `float_twin`.
    tolerance: instead of that of TOLERANCES.

    Returns path, precision, front_end_inside, bytes (on disk), clips (compared), difference (largest, as a share of
    the logits' root mean square), tolerance and same_scene (share of clips). Raises UserError, and leaves `path` as it
    was, where the outputs differ by more, and for a wrong precision or no calibration.
    """
    import onnx

    path = Path(path)
    if precision not in TOLERANCES:
        raise UserError(f"precision: unknown {precision!r}{did_you_mean(precision, TOLERANCES)}")
    if path.suffix != ".onnx":
        raise UserError(f"{path}: expected a name that ends in .onnx")
    if precision == "int8" and (calibration is None or len(calibration) == 0):
        raise UserError("precision int8 needs calibration: waveforms of the training set, some hundred clips")
    front_end = copy.deepcopy(front_end).cpu().eval()
    network = deployed(model, "float32").cpu()
    clips = _noise(front_end.sample_rate) if calibration is None else calibration.cpu()
    with torch.inference_mode():
        mel = front_end(clips)[:, None]
        expected = network(mel[:CHECKED_CLIPS]).numpy()
    stored = deployed(network, "float16") if precision == "float16" else network
    graph = graph_of(stored, mel[:1], "mel", "logits")
    if precision == "int8":
        graph = _quantised(graph, mel.numpy())
    given = mel
    if front_end_inside:
        ears = graph_of(_Ears(front_end), clips[:1], "waveform", "log_mel")
        ears = onnx.compose.add_prefix(ears, "ears/", rename_inputs=False, rename_outputs=False)
        graph = onnx.compose.merge_models(ears, graph, [("log_mel", "mel")])
        given = clips
    allowed = TOLERANCES[precision] if tolerance is None else tolerance
    with write_then_rename(path) as partial:
        onnx.save(graph, partial)
        found = answers(partial, given[:CHECKED_CLIPS].numpy())
        difference = float(np.abs(found - expected).max() / np.sqrt(np.mean(expected.astype(np.float64) ** 2)))
        if not difference <= allowed:
            raise UserError(
                f"{path}: not written, its logits differ from the network's by {difference:.2g} of their root mean "
                f"square, allowed {allowed:g}" + ("; more calibration clips may help" if precision == "int8" else "")
            )
    return {
        "path": str(path),
        "precision": precision,
        "front_end_inside": front_end_inside,
        "bytes": path.stat().st_size,
        "clips": len(found),
        "difference": difference,
        "tolerance": allowed,
        "same_scene": float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    }


def export_files(
    network: nn.Module,
    front_end: LogMel,
    calibration: Tensor,
    stem: Path,
    precisions: Sequence[str] = tuple(TOLERANCES),
    front_end_inside: bool = True,
) -> list[dict[str, Any]]:
    """Write <stem>[_mel]_<precision>.onnx for each precision; prints a table and returns what `export` says of each."""
    what = "" if front_end_inside else "_mel"
    paths = {of: stem.with_name(f"{stem.name}{what}_{of}.onnx") for of in precisions}
    written = [export(network, front_end, path, of, front_end_inside, calibration) for of, path in paths.items()]
    rows = [
        [Path(of["path"]).name, f"{of['bytes']:,}", f"{of['difference']:.2g}", f"{100 * of['same_scene']:.1f} %"]
        for of in written
    ]
    note = f"difference: of {written[0]['clips']} clips' logits to those in PyTorch, largest, in root mean squares"
    print_table(f"{stem.parent}", ["file", "bytes on disk", "difference", "same scene"], rows, note)
    return written


def float_twin(prepared: nn.Module, network: nn.Module) -> nn.Module:
    """A copy of `network` with the weights of its quantisation-aware training (torch.ao, graph mode).

    A fused batch norm's `<conv>.bn.weight` belongs to the layer after the convolution: 0.0.bn.weight -> 0.1.weight.
    Raises UserError where the two are not the same network.
    """
    twin = copy.deepcopy(network)
    own = twin.state_dict()
    state = {}
    for name, value in prepared.state_dict().items():
        layer, fused, tensor = name.partition(".0.bn.")
        name = f"{layer}.1.{tensor}" if fused else name
        if name in own:
            state[name] = value
    missing = [name for name in own if name not in state]
    if missing:
        raise UserError(f"quantised network: no {missing[0]!r}, expected the one that was made of this network")
    twin.load_state_dict(state)
    return twin


def _noise(sample_rate: int, clips: int = 8) -> Tensor:
    """One second of noise at several levels, the same every time."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.logspace(-3, -0.5, clips)[:, None]
    return levels * torch.randn(clips, sample_rate, generator=generator)


def _quantised(graph: Any, mel: np.ndarray) -> Any:
    """Static quantisation with the ranges that log-mel (clips, 1, mel, frames) shows.

    Activations and weights are both unsigned: with signed weights a processor without VNNI adds two products in int16,
    where they saturate (vpmaddubsw; 2 * 255 * 127 > 32767), also for signed activations, which onnxruntime makes
    unsigned. For two unsigned factors it has no such kernel: they are widened to 16 bits and added in 32.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Clips(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[np.ndarray] = iter(mel)

        def get_next(self) -> dict[str, np.ndarray] | None:
            clip = next(self.left, None)
            return None if clip is None else {"mel": clip[None]}

    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "int8.onnx"
        quantize_static(
            graph,
            target,
            Clips(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,
        )
        return onnx.load(target)
