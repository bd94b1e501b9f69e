"""A trained network outside of its test sets: named files, ONNX files, the notebook of a submission."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from common.run import onnx_graphs
from common.run.errors import UserError
from common.run.verbs import main
from qbv.__main__ import TASK
from qbv.config import SAMPLE_RATE, ModelConfig
from qbv.inference import exported
from qbv.inference.scores import read_similarities
from qbv.model.networks import DualEncoder
from qbv.submission.meta import read_notebook
from qbv.tests.conftest import places
from qbv.tests.test_qbv_chain import RECIPE

SUBMISSION = (
    "submission={label: Team_1, name: Small, abbreviation: S, authors: [{lastname: A, firstname: B}], "
    'download: "https://files.team.org/x"}'
)


def call(verb: str, folder: Path, root: Path, *words: str) -> int:
    settings = [f"data.root={root}", *places(root), "data.protocol=qvim", "loss=softmax", SUBMISSION]
    settings.append("comparison.systems=[trained]")
    return main(TASK, [verb, "--recipe", RECIPE, "--run-dir", str(folder / "runs"), *settings, *words])


@pytest.fixture(scope="module")
def done(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of QVIM's protocol, packaged."""
    folder = tmp_path_factory.mktemp("qvim")
    for verb in ("prepare", "train", "predict"):
        assert call(verb, folder, tiny_root) == 0, verb
    assert call("evaluate", folder, tiny_root, "--no-plots") == 0
    assert call("package", folder, tiny_root) == 0
    return folder


def stored(done: Path) -> dict[str, dict[str, float]]:
    """Similarities that `predict` found on the development set."""
    found = read_similarities(done / "runs" / "run1" / "predictions" / "trained.npz")
    return {
        q: dict(zip(found.items, row.tolist(), strict=True)) for q, row in zip(found.queries, found.matrix, strict=True)
    }


def close(found: dict[str, float], expected: dict[str, float]) -> bool:
    return found.keys() == expected.keys() and all(abs(found[name] - expected[name]) < 2e-3 for name in expected)


# -------------------------------------------------------------------------------------------------------- named files


def test_named_files_are_compared_as_test_sets_are(done: Path, tiny_root: Path, tmp_path: Path) -> None:
    qvim, expected = tiny_root / "qvim", stored(done)
    words = [str(qvim / "Queries"), "--library", str(qvim / "Items"), "--out", str(tmp_path / "out"), "--json"]
    assert call("predict", done, tiny_root, *words) == 0
    answers = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert len(answers) == len(expected)
    for of in answers:
        by_item = {Path(name).name: score for name, score in of["similarities"].items()}
        assert close(by_item, expected[Path(of["file"]).name])
        assert list(of["similarities"].values()) == sorted(of["similarities"].values(), reverse=True)
        assert "toy sounds" in of["note"]
    table = next((tmp_path / "out").glob("*.tsv")).read_text().splitlines()
    assert table[0] == "rank\trecording\tsimilarity"
    assert len(table) == 1 + len(answers[0]["similarities"])


def wav(folder: Path, name: str, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    soundfile.write(folder / f"{name}.wav", samples, rate, subtype="PCM_16")
    return folder / f"{name}.wav"


def tone(seconds: float, rate: int = SAMPLE_RATE, level: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return level * np.sin(2 * np.pi * (300 + 200 * np.sin(6 * time)) * time)


def test_any_sound_gets_an_answer(done: Path, tiny_root: Path, tmp_path: Path) -> None:
    """Silent, 50 ms, ten minutes, stereo at 192 kHz, clipped: as imitations, and as recordings."""
    (tmp_path / "in").mkdir()
    plain = tone(1.0)
    sounds = {
        "plain": (plain, SAMPLE_RATE),
        "silent": (np.zeros(SAMPLE_RATE), SAMPLE_RATE),
        "short": (plain[: SAMPLE_RATE // 20], SAMPLE_RATE),
        "long": (tone(600, 8000), 8000),
        "stereo": (np.column_stack([tone(1.0, 192_000), tone(1.0, 192_000)]), 192_000),
        "clipped": (np.clip(20 * plain, -1, 1), SAMPLE_RATE),
    }
    for name, (samples, rate) in sounds.items():
        wav(tmp_path / "in", name, samples, rate)
    folder = str(tmp_path / "in")
    assert call("predict", done, tiny_root, folder, "--library", folder, "--out", str(tmp_path / "out")) == 0
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert found.keys() == sounds.keys()
    assert found["long"]["duration"] == 600
    for name, of in found.items():
        scores = of["similarities"]
        assert all(np.isfinite(score) and abs(score) <= 1.001 for score in scores.values())
        assert scores["silent.wav"] == 0
        assert (of.get("heard") == "silence") == (name == "silent")
        assert (set(scores.values()) == {0.0}) == (name == "silent")
    # the two channels are those of `plain`
    assert found["stereo"]["similarities"]["clipped.wav"] == pytest.approx(
        found["plain"]["similarities"]["clipped.wav"], abs=0.02
    )


def test_broken_files_are_named_and_the_others_done(
    done: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    good = wav(tmp_path / "in", "good", tone(1.0))
    (tmp_path / "in" / "bad.wav").write_bytes(b"text")
    out = tmp_path / "out"
    assert call("predict", done, tiny_root, str(good), "--library", str(tmp_path / "in"), "--out", str(out)) == 1
    error = capsys.readouterr().err
    assert "bad.wav: not readable as wav" in error
    assert json.loads((out / "good.json").read_text())["similarities"].keys() == {"good.wav"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x.wav"], "predict FILES: --library names the folder"),
        (["x.wav", "--library", "gone"], "gone: folder of recordings not found"),
        (["--library", "."], "go with named files"),
        (["--fold", "0"], "--fold: data.protocol=qvim has none"),
        (["x.wav", "--library", "."], "no audio in this folder"),
        (["gone.wav", "--library", "{root}/qvim/Items"], "gone.wav"),
    ],
)
def test_wrong_words(
    words: list[str], said: str, done: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert call("predict", done, tiny_root, *(word.format(root=tiny_root) for word in words)) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in error


# -------------------------------------------------------------------------------------------------------- ONNX, folder


def test_an_exported_network_is_the_trained_one(
    done: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from onnxruntime import InferenceSession

    assert call("export", done, tiny_root, "--out", str(tmp_path / "mine"), "--json") == 0
    said = capsys.readouterr().out
    result = json.loads(said.splitlines()[-1])
    assert "one clip on one core" in said
    assert [of["input"] for of in result["latency"]] == 2 * [["waveform", 1, SAMPLE_RATE]]
    assert all(of["ms"] > 0 for of in result["latency"])
    network, about = exported.open_exported(tmp_path / "mine")
    assert (about.seconds, network.training) == (1.0, False)
    audio = 0.2 * torch.randn(3, SAMPLE_RATE, generator=torch.Generator().manual_seed(5))
    for side, of in zip(("imitation", "recording"), result["onnx"], strict=True):
        session = InferenceSession(tmp_path / "mine" / f"{side}.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(["vector"], {"waveform": audio.numpy()})
        with torch.inference_mode():
            expected = getattr(network, f"{side}s")(audio).numpy()
        assert np.abs(found - expected).max() <= 1e-4 * np.sqrt((expected**2).mean())
        assert of["difference"] <= 1e-4
    card = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert 0 < card["metrics"]["mrr"] <= 1
    assert str(tiny_root) not in json.dumps(card)


def test_other_outputs_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, graph_of = DualEncoder(ModelConfig(encoder="mn-tiny")), onnx_graphs.graph_of

    class Other(torch.nn.Module):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            return waveform[:, : network.dim]

    monkeypatch.setattr(onnx_graphs, "graph_of", lambda _, *rest: graph_of(Other(), *rest))
    with pytest.raises(UserError, match=r"imitation\.onnx: not written, differs from the network by .*, over 0\.0001"):
        exported.write_encoders(network, 1.0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_of_another_rate_and_framing_is_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DualEncoder(ModelConfig(encoder="frame_mn-tiny", shared=True))
    assert network.imitation_encoder.sample_rate != SAMPLE_RATE
    written = exported.write_encoders(network, 1.0, tmp_path)
    assert max(of["difference"] for of in written) <= 1e-4


# ------------------------------------------------------------------------------------------------------------ notebook


def test_the_notebook_answers_as_the_run(
    done: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells are run one after another; for the network there is the file that `package` wrote."""
    import urllib.request

    with zipfile.ZipFile(done / "runs" / "submission.zip") as archive:
        assert sorted(archive.namelist()) == ["Team.technical_report.pdf", "Team_1.ipynb", "Team_1.similarities.json"]
        assert archive.comment == b"packed from toy data: no submission to a challenge"
        notebook = read_notebook(archive.read("Team_1.ipynb").decode())
        similarities = json.loads(archive.read("Team_1.similarities.json"))
    fetched: list[str] = []

    def fetch(address: str, path: Path) -> None:
        fetched.append(address)
        path.write_bytes((done / "runs" / "Team_1.zip").read_bytes())

    monkeypatch.setattr(urllib.request, "urlretrieve", fetch)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    capsys.readouterr()
    for kind, source in notebook.cells:
        if kind == "code":
            source = re.sub(r"^%pip .*", "", source, flags=re.MULTILINE)
            exec(source.replace('Path("qvim-dev")', f"Path({str(tiny_root / 'qvim')!r})"), names)
    assert fetched == ["https://files.team.org/x/Team_1.zip"]
    found, expected = json.loads((tmp_path / "output" / "similarities.json").read_text()), stored(done)
    assert found.keys() == similarities.keys() == expected.keys()
    for query, of in expected.items():
        assert close(found[query], of)
        assert close(similarities[query], of)
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(notebook.notes["mrr"], abs=0.1)


def test_a_notebook_refuses_another_file(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(done / "runs" / "submission.zip") as archive:
        cells = read_notebook(archive.read("Team_1.ipynb").decode()).cells
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Team_1.zip").write_bytes(b"another")
    with pytest.raises(RuntimeError, match=r"Team_1\.zip: not the file that was packed"):
        exec(cells[2][1].replace("%pip", "#"), {"ROOT_PATH": Path()})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["submission={label: A_B, name: S, abbreviation: S, authors: []}"],
            "submission.label: 'A_B' is not of the form",
        ),
        ([SUBMISSION.replace('"https://files.team.org/x"', "null")], "submission.download: null, expected the https"),
        ([SUBMISSION.replace("https", "http")], "submission.download: http://files.team.org/x, expected"),
        (["--runs", "1", "2", "3", "4"], "a team may submit 3 systems"),
        (["--out", "x.tar"], "expected a name that ends in .zip"),
        (["--report", "{root}/reference_file_names.csv"], "not a PDF file"),
    ],
)
def test_what_cannot_be_packaged(
    words: list[str], said: str, done: Path, tiny_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if "--out" in words else ["--out", str(tmp_path / "x.zip")]
    assert (
        call(
            "package",
            done,
            tiny_root,
            *out,
            *(word.format(root=tiny_root) if "{root}" in word else word for word in words),
        )
        == 1
    )
    error = capsys.readouterr().err
    assert said in error
    assert not (tmp_path / "x.zip").exists()


def test_a_system_of_another_protocol_is_no_submission(tiny_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", RECIPE, f"data.root={tiny_root}"]
    assert main(TASK, ["package", *words, SUBMISSION]) == 1
    assert "a system of QVIM 2025 is tested on its development set, data.protocol=qvim" in capsys.readouterr().err
    assert main(TASK, ["package", *words]) == 0
    assert "nothing to submit" in capsys.readouterr().out
