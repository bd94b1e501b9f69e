"""What the other verbs say of frame-level pre-training: sizes, refusals, options."""

import pytest

from common.run.config import load_config
from common.run.verbs import main
from task4_sed.__main__ import TASK
from task4_sed.config import Config
from task4_sed.evaluation import complexity


@pytest.mark.parametrize("words", [["package"], ["benchmark"]])
def test_verbs_of_the_challenge_refuse(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    verb, *rest = words
    assert main(TASK, [verb, "--recipe", "toy_pretrain_teacher", *rest]) == 1
    assert "is of frame-level pre-training" in capsys.readouterr().err


@pytest.mark.parametrize("sequence", ["null", "{kind: gru, dim: 16, layers: 1}", "{kind: tf, dim: 32}"])
def test_sizes(sequence: str) -> None:
    config = load_config(Config, TASK.recipes, "toy_pretrain_teacher", [f"sequence={sequence}"])
    network = complexity.framewise_network(config)
    counts = complexity.framewise_counts(config)
    assert counts["parameters"] == sum(p.numel() for p in network.parameters())
    assert counts["macs"] > 250 * 447 * (1 if sequence == "null" else 2)
    assert complexity.activation_bytes(config) > 0
