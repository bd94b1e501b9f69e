"""One network for all machines of a type, as the organisers' baseline of 2020 has it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from common.run.errors import UserError
from common.run.results.store import read_results
from common.run.verbs import Run, Task
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.features import features_of
from task2_anomaly.data.sets import of_machine, pack_of
from task2_anomaly.inference.checkpoints import load_network, run_of
from task2_anomaly.inference.predict import predict_sets
from task2_anomaly.inference.scores import NORMAL, read_scores, score_file, scores_folder
from task2_anomaly.training.train import build, train_run

TASK = Task("task2_anomaly", "", Config, ())

Configure = Callable[..., Config]


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def of_type(tiny: Configure, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The organisers' way: all fans of the development set have one network, those of the additional set another."""
    settings = ("model.kind=ae_organisers", "data.network_per=type", "data.windows=every", "data.validation_split=0.1")
    config = tiny(*settings, "data.machines=[fan]", "data.batch=64", "trainer.max_epochs=1", "scoring.held_out=0.0")
    run = Run(TASK, "tiny", 1, tmp_path_factory.mktemp("type") / "run1", config)
    train_run(run, jobs=1, restart=False)
    predict_sets(run, [Machine("fan", number) for number in (0, 1, 2, 4)])
    return run


def test_a_type_has_one_network_for_its_development_and_one_for_its_additional_machines(of_type: Run) -> None:
    assert sorted(path.name for path in (of_type.folder / "machines").iterdir()) == ["fan_dev", "fan_eval"]
    first, other = (of_machine(of_type, Machine("fan", number)) for number in (0, 4))
    assert first.folder == other.folder == of_type.folder / "machines" / "fan_dev"
    assert first.config.data.machines == ["fan_id_00", "fan_id_02", "fan_id_04"]
    network, again = (load_network(of_type, Machine("fan", number)) for number in (0, 4))
    assert same(network, again)
    assert not same(network, load_network(of_type, Machine("fan", 1)))


def test_its_epoch_has_the_windows_of_all_its_machines_but_the_last_tenth(of_type: Run) -> None:
    config = of_type.config
    packs = [pack_of(config.data, "dev_train", Machine("fan", number)) for number in (0, 2, 4)]
    windows = sum(int((features_of(pack, config.front_end).num_frames - 4).sum()) for pack in packs)
    _, data = build(of_type, Machine("fan", 2))
    sizes = [len(batch.normal) for batch in data.train_dataloader()]
    assert sum(sizes) == int(windows * 0.9)
    steps = read_results(of_type.folder / "machines" / "fan_dev")["train"]["values"]["steps"]
    assert steps == len(sizes)


def test_its_machines_have_scores_and_thresholds_of_their_own(of_type: Run) -> None:
    folder = scores_folder(of_type, "dev_test")
    normal = [set(read_scores(folder / NORMAL / score_file(Machine("fan", n)))) for n in (0, 2)]
    assert len(normal[0]) == len(normal[1]) == 6
    assert all(name.startswith("normal_id_00") for name in normal[0])
    with pytest.raises(UserError, match=r"fan_dev: a network of fan_id_00, fan_id_02, fan_id_04; machine= says whose"):
        run_of(of_type.folder / "machines" / "fan_dev")
    with pytest.raises(UserError, match=r"has no 'fan_id_03'; did you mean"):
        run_of(of_type.folder / "machines" / "fan_dev", "fan_id_03")
    run, machine = run_of(of_type.folder / "machines" / "fan_dev", "fan_id_02")
    assert (run.folder, machine) == (of_type.folder.resolve(), Machine("fan", 2))
    assert same(load_network(run, machine), load_network(of_type, machine))


def test_settings_of_autoencoders_are_not_the_classifiers(tiny: Configure) -> None:
    with pytest.raises(UserError, match=r"^data\.windows=every: every is for autoencoders"):
        tiny("data.windows=every")
    with pytest.raises(UserError, match=r"^data\.network_per=type: type is for autoencoders"):
        tiny("data.network_per=type")
    with pytest.raises(UserError, match=r"^data\.validation_split=0\.1: needs data\.windows=every"):
        tiny("model.kind=ae_workshop", "data.validation_split=0.1")


def test_a_run_that_ended_before_its_record_is_recorded_by_the_next_call(of_type: Run) -> None:
    """The disk was full, or the process killed, after the last network."""
    (of_type.folder / "results.json").unlink()
    found = train_run(of_type, jobs=1, restart=False)
    assert read_results(of_type.folder)["train"]["values"]["kwh"] == found["kwh"]
