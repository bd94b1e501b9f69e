"""Networks as ONNX files, with the front end inside or outside, compared with the original before they are kept.

    export(model, front_end, path, precision, front_end_inside, calibration) -> dict
    latency_table(files) -> rows        (latency.py)

The front end stays in single precision. Its Fourier transform is written as two small matrix products: on one core
the baseline's network takes 0.3 ms for a clip, the front end with ONNX's own STFT 5 ms, this one 1.7 ms.
"""

import copy
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.frontends import LogMel
from common.run.errors import UserError, did_you_mean
from common.run.files import write_then_rename
from common.run.results.tables import print_table
from task1_asc.deployment.latency import latency_table
from task1_asc.deployment.precision import deployed

__all__ = ["MatrixLogMel", "export", "float_twin", "latency_table"]

OPSET = 18
# Largest difference of a logit from the float32 network in PyTorch, as a share of the logits' root mean square.
TOLERANCES = {"float32": 1e-3, "float16": 3e-2, "int8": 0.3}
CHECKED_CLIPS = 64


class MatrixLogMel(LogMel):
    """A centred front end whose Fourier transform is two matrix products, for evaluation; `LogMel` within rounding.

    Cooley and Tukey's first step: the n = columns * n1 + n2 of a frame and the k = k1 + rows * k2 of its spectrum make
    a DFT over n1, twiddle factors and a DFT over n2. A real signal needs half of the k1; the other bins are mirrored,
    in an order that the rows of the mel matrix follow.
    """

    first: Tensor
    twiddle: Tensor
    second: Tensor

    def __init__(self, like: LogMel) -> None:
        super().__init__(like.setting, like.top_db_per_batch)
        size, window = self.setting.fft, self.setting.window
        self.columns = next(c for c in range(math.isqrt(size), 0, -1) if size % c == 0)
        rows = size // self.columns
        # The window may be shorter than the transform: rows that are 0 are left out.
        start = (size - window) // 2
        self.from_row, until = start // self.columns, -(-(start + window) // self.columns)
        lead = start - self.from_row * self.columns
        self.taps = (until - self.from_row) * self.columns
        self.register_buffer("window", F.pad(self.window, (lead, self.taps - window - lead)), persistent=False)
        k1, n1 = torch.arange(rows // 2 + 1), torch.arange(self.from_row, until)
        n2 = torch.arange(self.columns)
        first, twiddle, second = _angles(k1, n1, rows), _angles(k1, n2, size), _angles(n2, n2, self.columns)
        cosine, sine = second.cos(), second.sin()
        self.register_buffer("first", torch.cat((first.cos(), first.sin())).float(), persistent=False)
        self.register_buffer("twiddle", torch.stack((twiddle.cos(), twiddle.sin())).float(), persistent=False)
        both = torch.cat((torch.cat((cosine, sine), 1), torch.cat((-sine, cosine), 1)))
        self.register_buffer("second", both.float(), persistent=False)
        k = (k1[:, None] + rows * n2).flatten()
        bins = torch.minimum(k, size - k)
        times = torch.bincount(bins)[bins]  # a bin that is there twice counts half each time
        self.register_buffer("bank", like.bank[:, bins] / times, persistent=False)

    def _spectrum(self, x: Tensor) -> Tensor:
        """(batch, samples) -> magnitude or power, (batch, frames, bins in the order of `bank`)."""
        setting = self.setting
        frames = 1 + x.shape[-1] // setting.hop
        parts = -(-self.taps // setting.hop)
        before = setting.fft // 2 - self.from_row * self.columns
        mode = "reflect" if setting.framing == "reflect" else "constant"
        x = F.pad(x[:, None], (before, before), mode=mode)[:, 0]
        x = F.pad(x, (0, (frames - 1 + parts) * setting.hop - x.shape[-1]))
        # A frame is so many steps of one hop, joined and cut off: slices, where an index would be a slow gather.
        steps = x.unflatten(1, (-1, setting.hop))
        framed = torch.cat([steps[:, i : i + frames] for i in range(parts)], dim=2)[..., : self.taps]
        of_columns = self.first @ (framed * self.window).unflatten(2, (-1, self.columns))
        real, imaginary = of_columns.chunk(2, dim=2)
        cosine, sine = self.twiddle
        turned = torch.cat((real * cosine - imaginary * sine, real * sine + imaginary * cosine), dim=3)
        real, imaginary = (turned @ self.second).chunk(2, dim=3)
        power = (real.square() + imaginary.square()).flatten(2)
        return power.sqrt() if setting.exponent == 1 else power


def _angles(a: Tensor, b: Tensor, size: int) -> Tensor:
    return -2 * math.pi / size * torch.outer(a.double(), b.double())


class _Ears(nn.Module):
    """Waveform (batch, samples) -> log-mel as networks take it, (batch, 1, mel, frames)."""

    def __init__(self, front_end: LogMel) -> None:
        super().__init__()
        centred = front_end.setting.framing in ("reflect", "zeros")
        self.front_end = MatrixLogMel(front_end) if centred else copy.deepcopy(front_end)

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
    graph = _graph(stored, mel[:1], "mel", "logits")
    if precision == "int8":
        graph = _quantised(graph, mel.numpy())
    given = mel
    if front_end_inside:
        ears = _graph(_Ears(front_end), clips[:1], "waveform", "log_mel")
        ears = onnx.compose.add_prefix(ears, "ears/", rename_inputs=False, rename_outputs=False)
        graph = onnx.compose.merge_models(ears, graph, [("log_mel", "mel")])
        given = clips
    allowed = TOLERANCES[precision] if tolerance is None else tolerance
    with write_then_rename(path) as partial:
        onnx.save(graph, partial)
        found = _run(partial, given[:CHECKED_CLIPS].numpy())
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


def _graph(module: nn.Module, example: Tensor, given: str, found: str) -> Any:
    """An ONNX model of a module with one input (batch, ...) and one output, without notes on its source.

    example: (1, ...).
    """
    example = torch.cat((example, example))  # a batch of 1 would become a constant
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[given],
            output_names=[found],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    return model


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

    with tempfile.TemporaryDirectory() as folder, _quiet():
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


def _run(path: Path, given: np.ndarray) -> np.ndarray:
    """Logits (batch, classes) of a file for its one input."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(["logits"], {session.get_inputs()[0].name: given})[0]
    return logits


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and the quantiser report every step."""
    import logging
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
