"""The encoder that is learnt as a dictionary of patches: what it learns, what it answers, and a whole run with it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from common.run.errors import UserError
from common.run.verbs import Run
from zeroshot.config import Config
from zeroshot.data.prepare import prepare
from zeroshot.inference.predict import predict_run
from zeroshot.model.dictionary import MODULATIONS, UNITS, Dictionary, loudness_numbers, summary
from zeroshot.training.train import train_run

Configure = Callable[..., Config]


def sounds(clips: int, seed: int) -> torch.Tensor:
    """(clips, 2 s at 16 kHz): tones with noise, every other one in pulses."""
    random = np.random.default_rng(seed)
    time = np.arange(32000) / 16000
    waves = [
        np.sin(2 * np.pi * random.uniform(200, 4000) * time) + 0.1 * random.standard_normal(32000) for _ in range(clips)
    ]
    pulsed = [wave * (np.sin(2 * np.pi * 4 * time) > 0) if n % 2 else wave for n, wave in enumerate(waves)]
    return torch.from_numpy(0.1 * np.stack(pulsed).astype(np.float32))


@pytest.fixture(scope="module")
def learnt() -> Dictionary:
    encoder = Dictionary()
    encoder.learn(encoder.mel(sounds(12, 0)))
    return encoder


def test_units_have_unit_length_and_depend_on_clips_and_seed_alone(learnt: Dictionary) -> None:
    assert torch.allclose(learnt.units.norm(dim=1), torch.ones(UNITS), atol=1e-5)
    other = Dictionary()
    other.learn(other.mel(sounds(12, 0)))
    assert torch.equal(other.units, learnt.units)
    other.learn(other.mel(sounds(12, 0)), seed=1)
    assert not torch.allclose(other.units, learnt.units)
    assert not any(parameter.requires_grad for parameter in learnt.parameters())


def test_each_round_of_learning_brings_units_nearer_to_the_patches(
    learnt: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(encoder: Dictionary) -> float:
        patches, _ = encoder._patches(encoder.mel(sounds(12, 0)))
        return float((encoder._whitened(patches) @ encoder.units.T).amax(dim=2).mean())

    monkeypatch.setattr("zeroshot.model.dictionary.ROUNDS", 0)
    drawn = Dictionary()
    drawn.learn(drawn.mel(sounds(12, 0)))
    assert fit(learnt) > fit(drawn) + 0.01


def test_answers_hardly_depend_on_gain(learnt: Dictionary) -> None:
    wave = sounds(4, 1)
    out = learnt(wave)
    assert (out.clip.shape, out.frames.shape[2], out.logits) == ((4, 3 * UNITS), UNITS, None)
    assert (learnt(0.5 * wave).clip - out.clip).abs().mean() < 0.1 * out.clip.abs().mean()
    assert learnt(torch.zeros(1, 8000)).clip.isfinite().all()


def test_the_settings_that_go_with_it(tiny: Configure) -> None:
    for given in (["encoder.finetune=false"], ["encoder.finetune=true", "model.compatibility=projected"]):
        with pytest.raises(UserError, match=r"dictionary goes with finetune, model\.compatibility=eszsl"):
            tiny("encoder.name=dictionary", "model.compatibility=eszsl", "checkpoint=last", *given)


def test_a_run_learns_one_for_each_split(tiny: Configure, tmp_path: Path) -> None:
    from zeroshot.__main__ import TASK

    config = tiny("encoder.name=dictionary", "encoder.finetune=true", "model.compatibility=eszsl", "checkpoint=last",
                  "data.sample_rate=16000", f"data.packs={tmp_path / 'packs'}")  # fmt: skip
    prepare(config, workers=1)
    run = Run(TASK, "tiny", 1, tmp_path / "run1", config)
    train_run(run)
    done = predict_run(run)
    assert list(done) == ["near", "far"]
    assert all(of["claim"] == "zero-shot" for of in done.values())
    near, far = (torch.load(next((tmp_path / "run1" / name).rglob("*.ckpt")))["state_dict"] for name in done)
    assert not torch.equal(near["network.encoder.units"], far["network.encoder.units"])


def test_summary_counts_active_steps_alone() -> None:
    x = torch.tensor([[[1.0], [3.0], [7.0], [100.0], [5.0]]])
    active = torch.tensor([[True, True, True, False, True]])
    expected = [4.0, 20.0**0.5 / 2, 3.0]  # of 1, 3, 7, 5; differences of neighbours: 2, 4
    assert summary(x, active)[0].tolist() == pytest.approx(expected)


def test_loudness_numbers_find_the_rate_of_pulses() -> None:
    time = torch.arange(250) / 50
    pulsed, even = (0.5 + 0.5 * torch.cos(2 * torch.pi * 4 * time)).clamp(min=1e-4).log(), torch.zeros(250)
    found = loudness_numbers(torch.stack([pulsed, even]))
    low, high, bands = MODULATIONS
    edges = [low * (high / low) ** (number / bands) for number in range(bands + 1)]
    assert edges[int(found[0, 8:].argmax())] <= 4 < edges[int(found[0, 8:].argmax()) + 1]
    assert found[1, :5].tolist() == [1.0] * 5
    assert found[1, 5:8].tolist() == [0.0] * 3
