"""What the published baseline did otherwise: each of the settings, against the default."""

from collections.abc import Callable
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch

from common.augment import Mix
from common.run.config import load_config
from task4_sed.config import Config, ModelConfig
from task4_sed.data.classes import CLASSES, MAESTRO_SCORED_CLASSES, median_frames
from task4_sed.data.labels import valid_classes
from task4_sed.data.sets import load_set
from task4_sed.metrics.filters import median_filter
from task4_sed.model.crnn import CRNN
from task4_sed.training.losses import weak_from_strong
from task4_sed.training.system import Inputs, SedSystem
from task4_sed.training.train import build
from task4_sed.training.validation import score_set, validators

Configure = Callable[..., Config]
RECIPES = Path(__file__).parents[1] / "recipes"
HALVES = Mix(torch.full((9,), 0.75), torch.tensor([1, 0, 3, 2, 5, 4, 7, 6, 8]))
ROLLED = Mix(torch.full((9,), 0.5), torch.tensor([1, 0, 5, 2, 3, 4, 7, 6, 8]))


def of_recipe(name: str) -> Config:
    config: Config = load_config(Config, RECIPES, name, [])
    return config


def as_published(config: Config) -> dict[str, object]:
    return {
        "mixup_weak": config.augment.mixup_weak,
        "maestro_dog": config.data.maestro_dog,
        "exclude_overlapping": config.data.exclude_overlapping,
        "teacher_moves": config.loss.teacher_moves,
        "first_step": config.optimizer.first_step,
        "as_published": config.validation.as_published,
    }


def test_which_recipes_do_as_published() -> None:
    intended = as_published(Config())
    for name in ("toy", "toy_encoder", "recordings"):
        assert as_published(of_recipe(name)) == intended
    for name in ("baseline", "baseline_beats"):
        there = as_published(of_recipe(name))
        assert all(there[key] != value for key, value in intended.items())
    beats, default = of_recipe("baseline_beats"), Config()
    assert (beats.augment.mixup_embeddings, default.augment.mixup_embeddings) == ("own", "shared")
    assert (beats.model.dropstep_masks, default.model.dropstep_masks) == ("batch", "clip")


def mixed(tiny: Configure, *settings: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Mel and embeddings of clip i at level i, strong and weak targets, and how many draws were asked for."""
    system, _ = build(tiny("augment.mixup_probability=1", "augment.frame_shift=0", *settings), 42)
    drawn = [HALVES, ROLLED]
    system._draw_mix = lambda device: drawn.pop(0)  # type: ignore[method-assign]
    level = torch.arange(9.0)
    strong = torch.eye(9)[:, :, None].repeat(1, 1, 4)  # clip i has class i
    inputs = Inputs(level[:, None, None].expand(9, 2, 8), level[:, None, None].expand(9, 3, 5))
    (mel, embeddings), strong, weak = system._augmented(inputs, strong)
    assert embeddings is not None
    return mel[:, 0, 0], embeddings[:, 0, 0], strong, weak, 2 - len(drawn)


def test_weak_targets_of_mixed_clips(tiny: Configure) -> None:
    *_, strong, soft, _ = mixed(tiny)
    assert soft[6, [6, 7]].tolist() == [0.75, 0.25]
    *_, hard, draws = mixed(tiny, "augment.mixup_weak=hard")
    assert hard[6, [6, 7]].tolist() == [1.0, 1.0]
    assert torch.equal(hard, weak_from_strong(strong))
    assert draws == 1


def test_embeddings_with_a_draw_of_their_own(tiny: Configure) -> None:
    mel, embeddings, _, _, draws = mixed(tiny)
    assert torch.equal(mel, embeddings)
    assert draws == 1
    mel, embeddings, strong, _, draws = mixed(tiny, "augment.mixup_embeddings=own")
    assert draws == 2
    level = torch.arange(9.0)
    assert torch.equal(mel, 0.75 * level + 0.25 * level[HALVES.perm])
    assert torch.equal(embeddings, 0.5 * level + 0.5 * level[ROLLED.perm])
    # clip 2: first 0.75 of itself and 0.25 of 3, then half of that and half of clip 5, which is 0.75 of 5, 0.25 of 4
    assert strong[2, :, 0].tolist() == [0, 0, 0.375, 0.125, 0.125, 0.375, 0, 0, 0]


def test_one_mask_for_the_whole_batch() -> None:
    x = torch.ones(40, 30, 2)
    for masks, one in (("clip", False), ("batch", True)):
        model = CRNN(ModelConfig(embedding_dim=4, dropstep_masks=masks)).train()  # type: ignore[arg-type]
        torch.manual_seed(5)
        found = [model._dropstep(x) for _ in range(5)]
        assert all(bool((each == each[:1]).all()) for each in found) == one
        masked = torch.stack([(each[:, :, 0] == 0).sum(dim=1) for each in found])
        assert len(masked.unique()) > 1
        assert masked.max() < 0.3 * 30
        assert torch.equal(model.eval()._dropstep(x), x)


def test_dog_is_valid_for_maestro_where_the_recipe_says_so(tiny: Configure) -> None:
    dog = CLASSES.index("Dog")
    for kind, training in (("soft", True), ("soft", False), ("strong", True), ("weak", True), ("unlabeled", True)):
        valid, with_dog = (valid_classes(kind, CLASSES, False, training, of) for of in (False, True))  # type: ignore[arg-type]
        assert np.flatnonzero(valid != with_dog).tolist() == ([dog] if kind == "soft" else [])
    assert valid_classes("soft", ("Dog", "Cow"), False, True, True).tolist() == [True, True]
    clips = load_set(tiny("data.maestro_dog=true").data, "maestro_train", "train")
    assert clips.valid.sum() == 20


# --- the teacher and the first step


@pytest.mark.parametrize("counter", [1, 2, 50])
def test_the_schedules_count_from_1(tiny: Configure, monkeypatch: pytest.MonkeyPatch, counter: int) -> None:
    monkeypatch.setattr(SedSystem, "global_step", counter - 1)
    system, _ = build(tiny("optimizer.first_step=full"), 42)
    assert system.schedule_step == counter
    system, _ = build(tiny(), 42)
    assert system.schedule_step == counter - 1


# --- selection


def test_a_perfect_weak_f1_is_the_share_of_the_classes_with_clips(tiny: Configure) -> None:
    config = tiny("validation.as_published=true", "validation.sets=[weak]", "validation.objective=[weak_f1]")
    clips = load_set(config.data, "weak", "validation")
    (validate,) = validators([clips], config.validation, CLASSES).values()
    wanted = np.array([[name in clips.weak[clip] for name in CLASSES] for clip in clips.clips], np.float32)
    found = validate(np.zeros((len(wanted), 27, 156), np.float32), wanted)
    assert found["weak_f1"] == pytest.approx(wanted.any(axis=0).sum() / 27)


def test_maestro_per_window_with_events(tiny: Configure) -> None:
    """Against every window, second and threshold one by one."""
    config = tiny("validation.as_published=true", "validation.sets=[maestro_train]")
    clips = load_set(config.data, "maestro_train", "validation")
    (validate,) = validators([clips], config.validation, CLASSES).values()
    strong = np.random.default_rng(3).random((len(clips.clips), 27, 156)).round(2)
    scores = median_filter(score_set(clips.clips, strong, CLASSES), median_frames(CLASSES))
    rows: dict[str, list[tuple[float, bool]]] = {name: [] for name in MAESTRO_SCORED_CLASSES}
    for clip, (name, of_clip) in zip(clips.clips, scores.clips.items(), strict=True):
        assert clip.startswith(name)
        events = [e for e in clips.truth[clip] if e.confidence > 0.5 and e.label in MAESTRO_SCORED_CLASSES]
        for second in range(ceil(max((event.offset for event in events), default=0))):
            frames = [i for i in range(156) if i * 0.064 < second + 1 - 1e-9 and (i + 1) * 0.064 > second + 1e-9]
            for label, listed in rows.items():
                there = any(e.label == label and e.onset < second + 1 and e.offset > second for e in events)
                listed.append((of_clip.scores[frames, CLASSES.index(label)].max(), there))
    best = []
    for listed in rows.values():
        if any(there for _, there in listed):
            values, targets = (np.array(column) for column in zip(*listed, strict=True))
            at = [2 * (targets & (values >= t)).sum() / ((values >= t).sum() + targets.sum()) for t in values]
            best.append(max(at))
    found = validate(strong, np.zeros((len(strong), 27)))
    assert len(best) > 2
    assert found["segment_f1"] == pytest.approx(np.mean(best))
    (default,) = validators([clips], tiny("validation.sets=[maestro_train]").validation, CLASSES).values()
    assert default(strong, np.zeros((len(strong), 27)))["segment_f1"] != pytest.approx(found["segment_f1"], abs=1e-6)
