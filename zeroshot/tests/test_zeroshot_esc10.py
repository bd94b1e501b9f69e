"""Real recordings of ten classes: two that are left out are told apart by attributes, and not by random vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.run.config import load_config
from zeroshot.config import Config
from zeroshot.data.embeddings import embedded
from zeroshot.data.prepare import prepare
from zeroshot.data.sets import DataSets
from zeroshot.data.splits import class_splits
from zeroshot.data.vectors import centred, class_vectors
from zeroshot.model.compatibility import eszsl

TASK = Path(__file__).resolve().parent.parent


def accuracy(config: Config, encoder: str) -> float:
    """Mean over all splits of the recalls' mean; statistics as embeddings, the recipe's ridges."""
    config.texts.encoder = encoder
    by_class, sets, found = class_vectors(config), DataSets(config), []
    for split in class_splits(config):
        parts = sets.parts(split)
        train, test = (embedded(clips, config) for clips in (parts.train, parts.test))
        mean, scale = train.mean(axis=0), train.std(axis=0) + 1e-6
        audio, unseen = (torch.from_numpy((of - mean) / scale) for of in (train, test))
        raw = [np.stack([by_class[name] for name in names]) for names in (split.train, split.test)]
        seen_vectors, test_vectors = (torch.from_numpy(centred(of, raw[0])) for of in raw)
        signs = torch.from_numpy(2.0 * parts.train.labels - 1.0)
        weight = eszsl(audio, signs, seen_vectors, config.model.gamma, config.model.lambda_)
        chosen = (unseen.double() @ weight @ test_vectors.double().T).argmax(dim=1).numpy()
        found.append(np.mean([(chosen[parts.test.targets == c] == c).mean() for c in range(len(split.test))]))
    return float(np.mean(found))


@pytest.mark.slow
def test_attributes_tell_unseen_classes_apart(shared: Path, tmp_path: Path) -> None:
    given = [f"data.root={shared / 'data' / 'esc10'}", f"data.packs={tmp_path}", "data.sample_rate=16000"]
    config = load_config(Config, TASK / "recipes", "esc10", given)
    prepare(config, workers=1)
    assert len(class_splits(config)) == 45
    assert accuracy(config, "attributes") > 0.75
    assert accuracy(config, "random") == pytest.approx(0.5, abs=0.1)
