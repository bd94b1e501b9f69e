"""Data sets in HEAR's form: frames, pieces, folds, what is refused; from data to figures on shrunken toys."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio.reading import write_wav
from common.run.config import load_config
from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.verbs import Run, open_run
from task4_sed.__main__ import TASK as TASK4
from task4_sed.config import Config
from task4_sed.data.batches import WavMix
from task4_sed.data.hear import (
    CROPS,
    FOLDS,
    FRAME_SAMPLES,
    HearClips,
    HearEvent,
    fold_of,
    frame_targets,
    joined,
    load_hear,
    splits_of,
)
from task4_sed.data.prepare import prepare
from task4_sed.evaluation.report import compare_runs
from task4_sed.evaluation.runs import main_figure, parts_of
from task4_sed.inference.runs import predict_runs
from task4_sed.metrics.hear import event_counts, hear_figures
from task4_sed.model.framewise import pretrained
from task4_sed.tests.pretraining import STEPS, prepared
from task4_sed.training.downstream import best_of, events_of
from task4_sed.training.train import build_framewise, train_run

RECIPES = Path(__file__).parents[1] / "recipes"


def tiny(name: str, root: Path) -> tuple[str, ...]:
    return (*STEPS, f"data.toy={name}_tiny", f"data.root={root}")


@pytest.fixture(scope="module", params=["dcase2016", "maestro"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def root(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(name) / "data"
    prepared(root, f"toy_pretrain_{name}", *tiny(name, root))
    return root


@pytest.fixture(scope="module")
def configured(name: str, root: Path) -> Callable[..., Config]:
    return lambda *more: load_config(Config, RECIPES, f"toy_pretrain_{name}", [*tiny(name, root), *more])


@pytest.fixture
def office(tmp_path: Path) -> Path:
    """One second of silence in every split, with a knock."""
    for split in ("train", "valid", "test"):
        write_wav(tmp_path / "16000" / split / f"{split}.wav", np.zeros(16000, np.float32), 16000)
        (tmp_path / f"{split}.json").write_text(f'{{"{split}.wav": [{{"label": "knock", "start": 0, "end": 500.0}}]}}')
    (tmp_path / "labelvocabulary.csv").write_text("idx,label\n0,knock\n1,speech\n")
    (tmp_path / "task_metadata.json").write_text('{"task_name": "office", "embedding_type": "event"}')
    return tmp_path


def of_office(folder: Path, *more: str) -> Config:
    return load_config(Config, RECIPES, "pretrain_dcase2016_full", [f"data.root={folder}", *more])


def test_train_predict_evaluate(
    name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = open_run(TASK4, f"toy_pretrain_{name}", tiny(name, root), 1)
    train_run(run)
    (said,) = predict_runs([run], None, False)
    assert set(said["files"]) == {"valid", "test"}
    (results,) = run.config.system.does("evaluate")([run])
    figure = results["hear"][run.config.events.figure]
    assert 0 <= figure <= 1
    assert read_results(run.folder)["test"]["values"]["hear"] == results["hear"]
    assert main_figure(run.folder, results).value == figure
    assert "onset F1, 200 ms" in capsys.readouterr().out
    ((compared, own),) = compare_runs([run]).items()
    assert compared == {"dcase2016": "dcase2016_task2", "maestro": "maestro_5h"}[name] + "/onset_f1_finetuned"
    assert own["value"] == figure
    assert "ATST-F after step 1" in (run.folder.parent / "comparison.md").read_text()
    validated = [row for row in (run.folder / "metrics.csv").read_text().splitlines() if row]
    assert run.config.events.figure in validated[0]
    (part,) = parts_of(run)
    assert part.figures(np.ones(len(part.items)))[0] == pytest.approx(results["hear"]["onset_200ms"])
    begun = checks_start(run)
    again = open_run(TASK4, f"toy_pretrain_{name}", [*tiny(name, root), f"encoder.checkpoint={begun}"], 2)
    system, _ = build_framewise(again.config, again.seed)
    assert system.network.encoder.strong_head is not None


def checks_start(run: Run) -> Path:
    """An encoder begins with an own training's weights; one of another model is refused."""
    path = run.folder / "checkpoints" / "last.ckpt"
    encoder = pretrained(load_config(Config, RECIPES, run.recipe, [f"encoder.checkpoint={path}"]).encoder)  # type: ignore
    stored = torch.load(path, weights_only=True)["state_dict"]
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, stored[f"network.encoder.{key}"])
    other = load_config(Config, RECIPES, run.recipe, [f"encoder.checkpoint={path}", "encoder.name=atst-f-tiny"])
    with pytest.raises(UserError, match=r"is of frame_mn-tiny, expected one of atst-f-tiny"):
        pretrained(other.encoder)  # type: ignore[arg-type]
    return path


def test_a_frozen_encoder_stays_as_it_is(configured: Callable[..., Config]) -> None:
    system, data = build_framewise(configured("encoder.train=false"), 1)
    assert system.network.training
    assert not system.network.encoder.training
    groups = system.configure_optimizers()["optimizer"].param_groups
    assert {group["layer"] for group in groups} == {"head"}
    system.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    system.training_step(next(iter(data.train_dataloader())), 0).backward()
    trained = {name for name, p in system.named_parameters() if p.grad is not None}
    assert trained == {"network.encoder.strong_head.weight", "network.encoder.strong_head.bias"}


def test_pieces_are_the_file(configured: Callable[..., Config]) -> None:
    of = load_hear(configured().data, "test", 0)
    data = HearClips(of, random=False)
    batch = data.__getitems__(np.column_stack((np.arange(len(data)), np.zeros(len(data), np.int64))))
    targets = joined(batch.targets.transpose(1, 2).numpy(), of.frames)
    assert len(targets) == len(of.files)
    for found, expected, frames in zip(targets, of.targets, of.frames, strict=True):
        assert found.shape == (frames, len(of.classes))
        np.testing.assert_array_equal(found.T, expected)
        assert expected.any()
    whole = of.pack.read(int(of.rows[0]))
    np.testing.assert_array_equal(batch.waveform[1].numpy(), whole[160000:320000])


def test_crops_begin_with_a_frame_and_have_its_labels(configured: Callable[..., Config]) -> None:
    of = load_hear(configured().data, "train", 0)
    data = HearClips(of, random=True)
    assert len(data) == CROPS * len(of.files)
    position, seed = len(data) - 1, 7_654_321
    batch = data.__getitems__(np.array([[position, seed]]))
    start = seed % (of.frames[-1] - 250 + 1)
    whole = of.pack.read(int(of.rows[-1]))
    np.testing.assert_array_equal(
        batch.waveform[0].numpy(), whole[start * FRAME_SAMPLES : start * FRAME_SAMPLES + 160000]
    )
    np.testing.assert_array_equal(batch.targets[0].numpy(), of.targets[-1][:, start : start + 250])
    mixed = HearClips(of, random=True, mixing=WavMix(1.0, 0.2, [True]))
    requests = np.array([[0, 3], [1, 4]])
    assert torch.equal(mixed.__getitems__(requests).waveform, mixed.__getitems__(requests).waveform)
    assert not torch.equal(mixed.__getitems__(requests).waveform, data.__getitems__(requests).waveform)


def test_perfect_logits_find_nearly_all(configured: Callable[..., Config]) -> None:
    """Events from frames are at most half a frame away from the truth."""
    of, config = load_hear(configured().data, "test", 0), configured().events
    logits = [np.where(targets.T, 5.0, -5.0) for targets in of.targets]
    _, figures = best_of(of, logits, config)
    assert next(iter(figures)) == config.figure
    assert figures["onset_200ms"] > 0.9
    assert figures["onset_50ms"] > 0.9
    nothing = hear_figures(events_of(of, [-of_file for of_file in map(np.abs, logits)], config, 0.0), of.events)
    assert nothing["onset_200ms"] == 0.0
    assert nothing["segment_error_rate"] == 1.0


def test_a_threshold_of_logits_is_another_one(configured: Callable[..., Config]) -> None:
    of = load_hear(configured().data, "test", 0)
    logits = [np.full((count, len(of.classes)), 0.3) for count in of.frames]
    assert any(events_of(of, logits, configured().events, 50.0)[of.files[0]].values())
    assert not events_of(of, logits, configured("events.of_logits=true").events, 50.0)[of.files[0]]


def test_folds_rotate(tmp_path: Path) -> None:
    (tmp_path / "fold00.json").write_text("{}")
    assert splits_of(tmp_path, "test", 4) == ("fold04",)
    assert splits_of(tmp_path, "valid", 4) == ("fold00",)
    assert splits_of(tmp_path, "train", 4) == ("fold01", "fold02", "fold03")
    assert {name for fold in range(5) for name in splits_of(tmp_path, "test", fold)} == set(FOLDS)
    config = of_office(tmp_path)
    assert [fold_of(config, config.seed + number) for number in range(6)] == [0, 1, 2, 3, 4, 0]
    assert fold_of(of_office(tmp_path, "data.fold=3"), 99) == 3


def test_a_frame_counts_where_its_centre_lies() -> None:
    events = [HearEvent("a", 20.0, 60.0), HearEvent("a", 101.0, 139.0), HearEvent("b", 20.1, 59.9)]
    targets = frame_targets(events, ("a", "b"), 5)
    assert targets.tolist() == [[True, True, False, False, False], [False] * 5]
    assert frame_targets([HearEvent("a", 100.0, 100.0)], ("a",), 5)[0].tolist() == [False, False, True, False, False]


def prepared_and_loaded(config: Config) -> None:
    prepare(config, workers=1)
    load_hear(config.data, "train", 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"train.json": None},
            r"train\.json: split \(there should be train\.json, valid\.json, test\.json\) not found",
        ),
        ({"train.json": "[1]"}, r'train\.json: expected \{"<file>\.wav": \[events\], \.\.\.\}'),
        ({"label": "speach"}, r"train\.wav: event 1: label 'speach' is not in labelvocabulary\.csv.*speech"),
        ({"end": -1}, r"train\.wav: event 1: 0 to -1, expected times in ms, in order, from 0 on"),
        ({"start": "0"}, r"train\.wav: event 1: .*, expected times in ms"),
        ({"start": None}, r"event 1: .*, expected label, start and end"),
        ({"end": 1101.0}, r"train\.json: train\.wav: event 1: 0 to 1101 ms, but the file ends at 1000 ms"),
        ({"labelvocabulary.csv": "idx,label\n1,knock\n"}, r"labelvocabulary\.csv: expected idx 0, 1"),
        ({"task_metadata.json": None}, r"task_metadata\.json: file not found"),
        ({"task_metadata.json": '{"embedding_type": "scene"}'}, r"embedding_type is 'scene', expected 'event'"),
        ({"16000/train/train.wav": None}, r"16000/train/train\.wav: no audio that can be read, but it is listed"),
        ({"16000/train/train.wav": "no sound"}, r"16000/train/train\.wav: no audio that can be read, but it is listed"),
    ],
)
def test_bad_input_is_named(office: Path, change: dict[str, object], says: str) -> None:
    for key, value in change.items():
        if "." in key:
            (office / key).unlink()
            if value is not None:
                (office / key).write_text(str(value))
        else:
            content = json.loads((office / "train.json").read_text())
            (event,) = content["train.wav"]
            event[key] = value
            content["train.wav"] = [{k: v for k, v in event.items() if v is not None}]
            (office / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=says) as raised:
        prepared_and_loaded(of_office(office))
    assert "\n" not in str(raised.value)


def test_a_file_that_was_not_packed_is_named(office: Path) -> None:
    prepare(of_office(office), workers=1)
    shutil.copy(office / "16000/test/test.wav", office / "16000/test/new.wav")
    (office / "test.json").write_text('{"new.wav": []}')
    with pytest.raises(UserError, match=r"no audio of test/new\.wav, which is listed; `prepare` packs it"):
        load_hear(of_office(office).data, "test", 0)


def test_offsets_count_by_collar_or_share_of_the_length() -> None:
    truth = {"x": {"a": [(1.0, 2.0), (3.0, 3.1)]}, "y": {}}
    found = {"x": {"a": [(1.04, 2.19), (3.0, 3.16)], "b": [(0.0, 1.0)]}, "y": {"a": [(0.0, 1.0)]}}
    assert event_counts(found, truth, 0.05, 0.2).tolist() == [[1, 3, 2], [0, 1, 0]]
    assert event_counts(found, truth, 0.05).tolist() == [[2, 3, 2], [0, 1, 0]]
    assert event_counts({"x": {"a": [(1.04, 2.21)]}}, truth, 0.05, 0.2)[0].tolist() == [0, 1, 2]
    figures = hear_figures(found, truth)
    assert figures["onset_50ms"] == pytest.approx(2 * 2 / (4 + 2))
    assert figures["onset_offset_50ms"] == pytest.approx(2 * 1 / (4 + 2))


intervals = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda of: (min(of) / 10, max(of) / 10)), max_size=5
)


@settings(max_examples=100, deadline=None)
@given(intervals, intervals, st.sampled_from([None, 0.2]))
def test_pairs_are_as_many_as_can_be(given_: list, expected: list, share: float | None) -> None:
    """Against all assignments, tried one by one."""
    collar = 0.2

    def fits(one: tuple[float, float], other: tuple[float, float]) -> bool:
        if abs(one[0] - other[0]) > collar:
            return False
        return share is None or abs(one[1] - other[1]) <= max(collar, share * (other[1] - other[0]))

    def most(left: list, right: list) -> int:
        if not left:
            return 0
        here = [1 + most(left[1:], right[:i] + right[i + 1 :]) for i, of in enumerate(right) if fits(left[0], of)]
        return max([most(left[1:], right), *here])

    counts = event_counts({"x": {"a": given_}}, {"x": {"a": expected}}, collar, share)
    assert counts.tolist() == [[most(given_, expected), len(given_), len(expected)]]
