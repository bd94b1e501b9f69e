"""One network per machine: steps, resuming, the pool of trainings, and what the trained networks say of clips."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from scipy.ndimage import gaussian_filter

from common.audio.recordings import Recordings
from common.augment import gaussian_blur
from common.run import processes
from common.run.errors import UserError
from common.run.files import read_rows, sha256
from common.run.results.store import read_results
from common.run.training import BEST, LAST
from common.run.verbs import Run, Task
from task2_anomaly.config import Config
from task2_anomaly.data.batches import Batch
from task2_anomaly.data.classes import Machine, parse_machine
from task2_anomaly.data.features import features_of
from task2_anomaly.data.sets import held_out_rows, of_machine, pack_of, training_pack, training_rows
from task2_anomaly.inference.checkpoints import load_network
from task2_anomaly.inference.predict import predict_machine, predict_sets, verdicts_of
from task2_anomaly.inference.scorers import NetworkScorer, load_scorer
from task2_anomaly.inference.scores import NORMAL, read_flags, read_scores, score_file, scores_folder
from task2_anomaly.inference.windows import plain_window_scores, repeated
from task2_anomaly.model.networks import build_network
from task2_anomaly.training import losses
from task2_anomaly.training import train as training
from task2_anomaly.training.system import AnomalySystem
from task2_anomaly.training.train import build, train_machine, train_machines

REPOSITORY = Path(__file__).resolve().parents[2]
FAN, VALVE, CAR = Machine("fan", 0), Machine("valve", 1), Machine("ToyCar", 5)
TASK = Task("task2_anomaly", "", Config, ())

Configure = Callable[..., Config]


def run_of(folder: Path, config: Config, number: int = 1) -> Run:
    return Run(TASK, "tiny", number, folder, config)


def folder_of(run: Run, machine: Machine) -> Path:
    return of_machine(run, machine).folder


def weights(run: Run, machine: Machine, name: str = LAST) -> Mapping[str, Any]:
    content = torch.load(folder_of(run, machine) / name, map_location="cpu", weights_only=True)
    return {
        **content["state_dict"],
        **{f"optimizer {k}": v for k, v in enumerate(_tensors(content["optimizer_states"]))},
    }


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in _tensors(item)]


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def trained(tiny: Configure, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three machines, three epochs, one by one."""
    run = run_of(tmp_path_factory.mktemp("trained") / "run1", tiny("trainer.max_epochs=3"))
    train_machines(run, [FAN, VALVE, CAR], jobs=1)
    return run


# --------------------------------------------------------------------------------------------------------------- steps


def test_an_untrained_network_answers_zero_and_depends_on_the_seed_alone(tiny: Configure, tmp_path: Path) -> None:
    (first, _), (again, _) = (build(run_of(tmp_path, tiny()), machine) for machine in (FAN, VALVE))
    other, _ = build(run_of(tmp_path, tiny(), number=2), FAN)
    assert same(first.state_dict(), again.state_dict())
    assert not same(first.state_dict(), other.state_dict())
    assert torch.equal(first.network(torch.randn(3, 1, 40, 32)), torch.zeros(3, 1))


@pytest.mark.parametrize(("name", "loss"), [("bce", losses.outlier_bce), ("auc", losses.outlier_auc)])
def test_a_step_sees_normals_and_proxies_together(tiny: Configure, name: str, loss: Callable[..., Any]) -> None:
    config = tiny(f"loss.name={name}", "data.proxy_blur=1.0")
    network = build_network(config.model, 40)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    system = AnomalySystem(config, network)
    system.log = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
    batch = Batch(torch.randn(3, 40, 32), torch.randn(4, 40, 32) + 1)
    seen: list[torch.Tensor] = []
    hook = network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    value = system.training_step(batch, 0)
    hook.remove()
    assert len(seen) == 1
    assert torch.equal(seen[0][:3, 0], batch.normal)  # only proxies are blurred
    assert torch.equal(seen[0][3:, 0], gaussian_blur(batch.proxy, 1.0))
    logits = network(seen[0])[:, 0]
    assert float(value.detach()) == pytest.approx(float(loss(logits[:3], logits[3:]).detach()), rel=1e-5)


def test_outlier_losses_prefer_separated_scores() -> None:
    low, high = torch.linspace(-6, -4, 10), torch.linspace(4, 6, 7)
    for loss in (losses.outlier_bce, losses.outlier_auc, losses.neyman_pearson):
        assert loss(low, high) < loss(high[:7], low[:7])
    assert losses.outlier_auc(low, high) == pytest.approx(-1.0, abs=1e-3)
    assert losses.neyman_pearson(low[:1], high).isfinite()


def test_mixed_cross_entropy_is_of_both_labels_in_their_shares() -> None:
    logits, label, other = torch.randn(3, 4), torch.tensor([0, 1, 2]), torch.tensor([3, 1, 0])
    own, theirs = (torch.nn.functional.cross_entropy(logits, of) for of in (label, other))
    for share, expected in ((1.0, own), (0.0, theirs), (0.25, 0.25 * own + 0.75 * theirs)):
        value = losses.mixed_cross_entropy(logits, label, other, torch.full((3,), share))
        assert value == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.125, 0.177, 0.25, 0.354, 0.5, 0.707, 1.0, 2.0, 4.0, 8.0])
def test_the_blur_of_proxies_is_a_gaussian_filter(sigma: float) -> None:
    clips = np.random.default_rng(0).standard_normal((2, 20, 30)).astype(np.float32)
    expected = [gaussian_filter(clip, sigma) for clip in clips]
    np.testing.assert_allclose(gaussian_blur(torch.from_numpy(clips), sigma).numpy(), expected, atol=1e-5)


def test_steps_on_one_batch_tell_normals_from_proxies(tiny: Configure, tmp_path: Path) -> None:
    system, data = build(run_of(tmp_path, tiny("data.proxies=different_mic")), FAN)
    batch = next(iter(data.train_dataloader()))
    system.log = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
    optimizer = system.configure_optimizers()["optimizer"]
    values = []
    for _ in range(15):
        loss = system.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[0] == pytest.approx(np.log(2), abs=1e-6)  # answers 0 to everything
    assert values[-1] < 0.55


def test_batches_come_from_training_clips_alone(tiny: Configure, tmp_path: Path) -> None:
    run = run_of(tmp_path, tiny())
    _, data = build(run, FAN)
    own = features_of(training_pack(run.config.data, FAN), run.config.front_end)
    assert list(data.normals.row) == list(training_rows(len(own), run.config.scoring.held_out))
    assert len(data.normals) + len(held_out_rows(len(own), run.config.scoring.held_out)) == len(own) == 6
    assert data.proxies is not None
    assert len(data.proxies) == 3 * 6  # three other fans
    few = build(run_of(tmp_path, tiny("data.proxy_clips=5")), FAN)[1].proxies
    assert few is not None
    assert len(few) == 5


# -------------------------------------------------------------------------------------------------------- one training


def test_what_a_training_writes(trained: Run) -> None:
    rows = read_rows(folder_of(trained, FAN) / "metrics.csv", ("epoch", "step", "train/loss"))
    assert [(row.number("epoch"), row.number("step")) for row in rows] == [(1, 2), (2, 4), (3, 6)]
    results = read_results(folder_of(trained, FAN))
    values = results["train"]["values"]
    assert (values["epochs"], values["steps"], values["seed"]) == (3, 6, trained.seed)
    assert values["config"]["data"]["machines"] == ["fan_id_00"]
    assert results["checkpoint"]["values"] == {"file": LAST, "sha256": sha256(folder_of(trained, FAN) / LAST)}
    content = torch.load(folder_of(trained, FAN) / LAST, weights_only=True)
    rate = content["optimizer_states"][0]["param_groups"][0]["lr"]
    of = trained.config.optimizer
    assert rate == pytest.approx(of.lr * of.epoch_factor**3)
    whole = read_results(trained.folder)["train"]["values"]
    assert whole["machines"] == ["fan_id_00", "valve_id_01", "ToyCar_id_05"]


class StopError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("epoch", [1, 2])
def test_resumed_is_uninterrupted(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    run, step = run_of(tmp_path / "run1", trained.config), AnomalySystem.training_step

    def dying(self: AnomalySystem, batch: Batch, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (epoch, 1):
            raise StopError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(AnomalySystem, "training_step", dying)
        with pytest.raises(StopError):
            train_machine(run, FAN)
    train_machine(run, FAN)
    for name in (LAST, BEST):
        assert same(weights(run, FAN, name), weights(trained, FAN, name))
    first, second = (folder_of(of, FAN) / "metrics.csv" for of in (run, trained))
    assert first.read_text() == second.read_text()


def test_a_finished_machine_is_left_alone_and_keeps_its_settings(trained: Run) -> None:
    before = (folder_of(trained, FAN) / LAST).stat().st_mtime_ns
    train_machine(trained, FAN)
    assert (folder_of(trained, FAN) / LAST).stat().st_mtime_ns == before
    config = trained.config
    other = replace(trained, config=replace(config, optimizer=replace(config.optimizer, lr=0.5)))
    with pytest.raises(UserError, match=r"holds a run with other settings: optimizer\.lr: 0\.003 there, 0\.5 now"):
        train_machine(other, FAN)


def test_restart_trains_anew(trained: Run, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run1", replace(trained.config, trainer=replace(trained.config.trainer, max_epochs=1)))
    train_machine(run, FAN)
    again = replace(run, config=trained.config)
    train_machine(again, FAN, restart=True)
    assert same(weights(again, FAN), weights(trained, FAN))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("trainer.devices=2", "trainer.strategy=ddp"), "trainer.devices=2: each network takes one device"),
        (("trainer.devices=auto", "trainer.num_nodes=2"), "trainer.num_nodes=2: each network takes one device"),
        (("trainer.devices=auto",), None),
    ],
)
def test_a_network_takes_one_device_however_many_are_asked_for(
    tiny: Configure,
    trained: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: tuple[str, ...],
    said: str | None,
) -> None:
    """No second process that meets the lock of the first, no batch twice: the same training as on one."""
    config = tiny("trainer.max_epochs=3", "data.machines=[fan_id_00]", *settings)
    run = run_of(tmp_path / "run1", config)
    training.train_run(run, jobs=1, restart=False)
    assert same(weights(run, FAN), weights(trained, FAN))
    found = [line for line in capsys.readouterr().out.splitlines() if "each network takes one device" in line]
    assert len(found) == (1 if said else 0)
    assert not said or found[0].startswith(said)


def test_a_named_device_is_kept(tiny: Configure, tmp_path: Path) -> None:
    for asked, taken in (("1,", "1,"), ("0,1", 1), (-1, 1), (8, 1), ("auto", 1)):
        config = tiny()
        run = run_of(tmp_path, replace(config, trainer=replace(config.trainer, devices=asked)))
        assert of_machine(run, FAN).config.trainer.devices == taken


# ------------------------------------------------------------------------------------------------------------ the pool


def test_a_second_call_does_nothing(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (trained.folder / "results.json").read_bytes()
    monkeypatch.setattr(training, "train_machine", lambda *args: pytest.fail("trained again"))
    train_machines(trained, [FAN, VALVE, CAR], jobs=1)
    assert (trained.folder / "results.json").read_bytes() == before


def test_a_failing_machine_is_named_and_the_others_are_trained(
    tiny: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, done = run_of(tmp_path / "run1", tiny("trainer.max_epochs=1")), []

    def failing(run: Run, machine: Machine, restart: bool) -> None:
        if machine != FAN:
            raise UserError(f"pack of {machine.type} is damaged")
        done.append(machine)
        train_machine(run, machine, restart)

    with monkeypatch.context() as patched:
        patched.setattr(training, "train_machine", failing)
        with pytest.raises(UserError, match=r"^valve_id_01: pack of valve is damaged \(and 1 more machines\)$"):
            train_machines(run, [VALVE, FAN, CAR], jobs=1)
    assert done == [FAN]
    assert not (run.folder / "results.json").is_file()
    before = (folder_of(run, FAN) / LAST).stat().st_mtime_ns
    train_machines(run, [VALVE, FAN], jobs=1)
    assert (folder_of(run, FAN) / LAST).stat().st_mtime_ns == before
    assert (folder_of(run, VALVE) / LAST).is_file()


@pytest.mark.parametrize(
    ("failure", "raised"), [(BrokenProcessPool(), UserError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_dying_process_or_ctrl_c_ends_the_pool(
    tiny: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    raised: type[BaseException],
) -> None:
    ended = []

    def dies(*args: Any, **keywords: Any) -> None:
        raise failure

    monkeypatch.setattr(processes, "worker_pool", lambda workers, gpus: ThreadPoolExecutor(workers))
    monkeypatch.setattr(processes, "end_workers", lambda: ended.append(True))
    monkeypatch.setattr(training, "train_machine", dies)
    with pytest.raises(raised) as caught:
        train_machines(run_of(tmp_path / "run1", tiny()), [VALVE, FAN], jobs=2)
    if raised is UserError:
        assert "nothing that was trained is lost" in str(caught.value)
    else:
        assert ended
    assert not (tmp_path / "run1" / "results.json").is_file()


def test_an_interrupted_pool_goes_on(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second epoch of the second machine."""
    run, step, started = run_of(tmp_path / "run1", trained.config), AnomalySystem.training_step, Counter[Machine]()

    def interrupted(self: AnomalySystem, batch: Batch, batch_idx: int) -> torch.Tensor:
        machine = parse_machine((self.config.data.machines or [""])[0])
        started[machine] += 1
        if machine == VALVE and started[VALVE] == 3:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(AnomalySystem, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_machines(run, [FAN, VALVE, CAR], jobs=1)
    assert started == {FAN: 6, VALVE: 3}
    before = (folder_of(run, FAN) / LAST).stat().st_mtime_ns
    train_machines(run, [FAN, VALVE, CAR], jobs=1)
    assert (folder_of(run, FAN) / LAST).stat().st_mtime_ns == before
    assert all(same(weights(run, machine), weights(trained, machine)) for machine in (FAN, VALVE, CAR))


def test_only_one_process_trains_a_run(tiny: Configure, tmp_path: Path) -> None:
    (tmp_path / "run1").mkdir()
    with (
        FileLock(tmp_path / "run1" / ".lock"),
        pytest.raises(UserError, match="run1: another process is working on this run"),
    ):
        train_machines(run_of(tmp_path / "run1", tiny()), [VALVE], jobs=1)


KILLED = """
import sys
from pathlib import Path
from common.run.config import load_config
from common.run.verbs import Run, Task
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.training.train import train_machines

if __name__ == "__main__":
    jobs, folder, recipes, recipe, *overrides = sys.argv[1:]
    config = load_config(Config, Path(recipes), recipe, overrides)
    run = Run(Task("task2_anomaly", "", Config, ()), "tiny", 1, Path(folder), config)
    train_machines(run, [Machine("fan", 0), Machine("valve", 1), Machine("ToyCar", 5)], int(jobs))
"""


@pytest.mark.slow  # three processes import Lightning
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_pool_goes_on(trained: Run, tmp_path: Path, jobs: int) -> None:
    """Training goes on until one machine is finished; then kill -9; the rest comes out as if nothing had been."""
    script, run = tmp_path / "killed.py", run_of(tmp_path / "run1", trained.config)
    script.write_text(KILLED)
    recipes = REPOSITORY / "task2_anomaly" / "recipes"
    recipe = REPOSITORY / "task2_anomaly" / "tests" / "tiny.yaml"
    data = trained.config.data
    overrides = [f"data.root={data.root}", f"data.audioset={data.audioset}", f"data.scenes={data.scenes}"]
    command = [sys.executable, str(script), str(jobs), str(run.folder), str(recipes), str(recipe), *overrides]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "trainer.max_epochs=3"], env=environment)
    deadline = time.monotonic() + 200

    def finished() -> list[Machine]:
        return [m for m in (FAN, VALVE, CAR) if (folder_of(run, m) / "results.json").is_file()]

    while not finished() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert finished()
    assert not (run.folder / "results.json").is_file()
    time.sleep(0.5)  # the workers notice that their parent is gone
    done = {m: (folder_of(run, m) / LAST).stat().st_mtime_ns for m in finished() if _complete(run, m)}
    train_machines(run, [FAN, VALVE, CAR], jobs=1)
    assert all((folder_of(run, m) / LAST).stat().st_mtime_ns == at for m, at in done.items())
    for machine in (FAN, VALVE, CAR):
        assert same(weights(run, machine), weights(trained, machine))
        first, second = (folder_of(of, machine) / "metrics.csv" for of in (run, trained))
        assert first.read_text() == second.read_text()


def _complete(run: Run, machine: Machine) -> bool:
    return "train" in read_results(folder_of(run, machine))


# ---------------------------------------------------------------------------------------------------------- prediction


@pytest.fixture(scope="module")
def predicted(trained: Run) -> Run:
    assert predict_sets(trained, [FAN, VALVE]) == {"dev_test": 6, "eval_test": 6}
    return trained


def test_file_scores_are_the_means_of_all_windows(predicted: Run) -> None:
    config = predicted.config
    found = read_scores(scores_folder(predicted, "dev_test") / score_file(FAN))
    clips = features_of(pack_of(config.data, "dev_test", FAN), config.front_end)
    network: Any = load_network(predicted, FAN)
    assert list(found) == sorted(clips.names)
    with torch.inference_mode():
        for row, name in enumerate(clips.names):
            windows = plain_window_scores(network, torch.from_numpy(clips.clip(row))[None], 32)
            assert windows.shape == (1, clips.num_frames[row] - 31)
            assert found[name] == pytest.approx(float(windows.mean()), abs=1e-5)
    assert len(set(found.values())) == len(found)


def test_thresholds_come_from_held_out_normal_clips(predicted: Run) -> None:
    folder = scores_folder(predicted, "eval_test")
    own = features_of(training_pack(predicted.config.data, VALVE), predicted.config.front_end)
    rows = held_out_rows(len(own), predicted.config.scoring.held_out)
    normal = read_scores(folder / NORMAL / score_file(VALVE))
    assert list(normal) == [own.names[row] for row in rows]
    decisions = read_flags(folder / score_file(VALVE).replace("anomaly_score", "decision_result"), "decision")
    scores = read_scores(folder / score_file(VALVE))
    clips = pack_of(predicted.config.data, "eval_test", VALVE)
    files = [Path(predicted.config.data.root or "") / "eval_data" / "valve" / "test" / name for name in scores]
    verdicts = verdicts_of(predicted, VALVE, Recordings(files))
    assert clips.is_dir()
    for verdict in verdicts:
        name = verdict.file.name
        assert verdict.score == pytest.approx(scores[name], abs=1e-4)
        assert verdict.anomalous == (verdict.score > verdict.limit) == bool(decisions[name])
    assert len(verdicts) == len(scores) == 6


@pytest.mark.parametrize("aggregate", ["max", "median"])
def test_other_aggregates(predicted: Run, aggregate: Any) -> None:
    config = predicted.config
    other = replace(predicted, config=replace(config, scoring=replace(config.scoring, aggregate=aggregate, hop=2)))
    clips = features_of(pack_of(config.data, "dev_test", FAN), config.front_end)
    scorer = load_scorer(other, FAN)
    assert isinstance(scorer, NetworkScorer)
    network: Any = scorer.network
    with torch.inference_mode():
        windows = plain_window_scores(network, torch.from_numpy(clips.clip(0))[None], 32, hop=2)[0].numpy()
    assert len(windows) == 3
    expected = {"max": windows.max(), "median": np.median(windows)}[aggregate]
    assert scorer.clips(clips, np.array([0]))[clips.names[0]] == pytest.approx(float(expected), abs=1e-5)


def test_a_named_file_is_heard_as_a_packed_clip(tiny: Configure, tmp_path: Path) -> None:
    """Also where spectrograms are standardised."""
    run = run_of(tmp_path / "run1", tiny("trainer.max_epochs=1", "front_end.standardise=true"))
    train_machine(run, FAN)
    predict_machine(run, FAN)
    scores = read_scores(scores_folder(run, "dev_test") / score_file(FAN))
    name = next(iter(scores))
    file = Path(run.config.data.root or "") / "dev_data" / "fan" / "test" / name
    assert verdicts_of(run, FAN, Recordings([file]))[0].score == pytest.approx(scores[name], abs=1e-4)


def test_short_clips_are_repeated() -> None:
    clip = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.equal(repeated(clip, 3), clip)
    assert repeated(clip, 7)[0].tolist() == [[0, 1, 2, 0, 1, 2, 0], [3, 4, 5, 3, 4, 5, 3]]


def test_networks_that_are_not_there_or_damaged(predicted: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fan_id_02: no finished training; `train` makes one"):
        load_scorer(predicted, Machine("fan", 2))
    with pytest.raises(UserError, match="no scores of normal clips of ToyCar_id_05 for a threshold; `predict` makes"):
        verdicts_of(predicted, CAR, Recordings([]))
    wider = replace(predicted, config=replace(predicted.config, model=replace(predicted.config.model, base_channels=8)))
    with pytest.raises(UserError, match=r"last\.ckpt: checkpoint of another model: .* misshapen"):
        load_scorer(wider, FAN)
    path = folder_of(predicted, CAR) / LAST
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.ckpt: SHA-256 differs from the one recorded after training"):
        load_scorer(predicted, CAR)
