"""Windows over recordings of any length: what each frame is made of, seams, shifted grids, batches across files."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.run.errors import UserError
from common.tests.test_fingerprints import build
from task4_sed.data.audioset import output_classes
from task4_sed.inference.detectors import load_detector
from task4_sed.inference.stitch import Grid, Seam, grid_of, stitched, windows
from task4_sed.tests.detectors import fake, logits_of

STEP, FRAMES = 640, 250
SMALL = Grid(window=40, step=4, hop=5)  # frames of 4 samples, 10 in a window


def own_mean(windows: Tensor) -> Tensor:
    """Hears each frame alone: its mean; and its place in the window."""
    frames = windows.reshape(len(windows), FRAMES, STEP).mean(dim=2)
    return torch.stack([frames, torch.arange(FRAMES).expand(len(windows), -1).float()], dim=2)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


@given(st.integers(0, 200), st.integers(1, 10), st.booleans(), st.integers(1, 60))
def test_windows_cover_every_sample(samples: int, hop: int, filled: bool, block: int) -> None:
    grid = Grid(40, 4, 10 if filled else hop, filled)
    waveform = np.arange(1, samples + 1, dtype=np.float32)
    found = list(windows(np.split(waveform, range(block, samples, block)), grid))
    padded = np.pad(waveform, (0, 80))
    covered = np.zeros(samples, dtype=bool)
    for window in found:
        start = 4 * window.first
        np.testing.assert_array_equal(window.samples, padded[start : start + 40])
        covered[start : start + 40] = True
    assert covered.all()
    assert [window.total is None for window in found] == [True] * (len(found) - 1) + [False]
    firsts = [window.first for window in found]
    assert firsts[:-1] == [grid.hop * number for number in range(len(found) - 1)]
    assert found[-1].total is not None
    if filled:
        assert found[-1].total == 10 * len(found)
    else:  # the last one ends with the recording, to the frame; only a short one is filled up with more than that
        assert found[-1].total == max(1, -(-samples // 4))
        assert firsts[-1] == max(0, found[-1].total - 10)
        assert len(found) == 1 + max(0, -(-(samples - 40) // (4 * grid.hop))), "none is superfluous"


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 10), st.integers(0, 99))
def test_the_seam_is_the_weighted_mean(samples: int, hop: int, seed: int) -> None:
    """Against a plain loop."""
    rng, grid = np.random.default_rng(seed), Grid(40, 4, hop)
    found = list(windows([np.ones(samples, np.float32)], grid))
    logits = [rng.normal(size=(10, 3)) for _ in found]
    total = found[-1].total
    assert total is not None
    sums, weights = np.zeros((total + 10, 3)), np.zeros(total + 10)
    for window, of in zip(found, logits, strict=True):
        for frame in range(10):
            weight = min(frame + 0.5, 10 - frame - 0.5)
            sums[window.first + frame] += weight * of[frame]
            weights[window.first + frame] += weight
    seam = Seam(10, 3)
    done = [seam.add(of, window.first, window.total) for window, of in zip(found, logits, strict=True)]
    np.testing.assert_allclose(np.concatenate(done), sums[:total] / weights[:total, None], rtol=1e-5, atol=1e-6)


def test_a_shift_of_the_grid_changes_nothing_for_frames_that_are_heard_alone() -> None:
    """To 1e-5: float32."""
    detector, waveform = fake(own_mean), noise(47 * 16_000)
    expected = waveform[: 1175 * STEP].reshape(-1, STEP).mean(axis=1)
    for hop in (1.0, 2.2, 5.0, 10.0):
        np.testing.assert_allclose(logits_of(detector, [waveform], grid_of(detector, hop))[:, 0], expected, atol=1e-5)
    for shift in (1, 60, 124):
        found = logits_of(detector, [waveform[shift * STEP :]])[:, 0]
        np.testing.assert_allclose(found, expected[shift:], atol=1e-5)


def test_no_step_where_windows_come_and_go() -> None:
    """A logit that grows from 0 to 249 in each window: 5 s apart, no jump is larger than its own step of 2."""
    detector = fake(own_mean)
    for seconds in (31, 33.3, 47.7):
        found = logits_of(detector, [noise(round(seconds * 16_000))])[:, 1]
        assert np.abs(np.diff(found)).max() < 3
    hard = logits_of(detector, [noise(47 * 16_000)], grid_of(detector, 10.0))[:, 1]
    assert np.abs(np.diff(hard)).max() > 100


def test_a_network_with_context_changes_little_with_the_grid() -> None:
    """README. frame_mn06, whose squeeze and excitation sees the whole window, so that its figures do move."""
    encoder = build("frame_mn06")
    detector = fake(lambda windows: encoder(windows).frame_logits, output_classes())
    levels = np.repeat(np.random.default_rng(0).uniform(0.1, 1, 26), 16_000).astype(np.float32)
    waveform, shift = noise(26 * 16_000) * levels, 62  # frames: half a hop, the worst
    apart = []
    for hop in (5.0, 10.0):
        grid = grid_of(detector, hop)
        found, shifted = logits_of(detector, [waveform], grid), logits_of(detector, [waveform[shift * STEP :]], grid)
        apart.append(float(np.abs(found[shift:] - shifted)[: -FRAMES // 2].mean() / found.std()))
    print(apart)
    assert apart[0] < 0.7 * apart[1]


def test_batches_go_across_recordings_and_failed_ones_are_left_out() -> None:
    sizes: list[int] = []

    def hear(windows: Tensor) -> Tensor:
        sizes.append(len(windows))
        return own_mean(windows)

    def broken() -> Iterator[np.ndarray]:
        yield noise(16 * 16_000)
        raise UserError("cut off")

    class Skipping:
        def __init__(self, key: str) -> None:
            self.key = key

        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: object, error: object, trace: object) -> bool:
            if isinstance(error, UserError):
                skipped.append(self.key)
            return isinstance(error, UserError)

    skipped: list[str] = []
    named = {"a": [noise(5_000, 1)], "b": broken(), "c": [noise(31 * 16_000, 2)], "d": [noise(12 * 16_000, 3)]}
    grid = grid_of(fake(own_mean))
    found: dict[str, list[np.ndarray]] = {}
    finished = set()
    for key, logits, last in stitched(fake(hear), named.items(), grid, Skipping, batch=3):
        found.setdefault(key, []).append(logits)
        finished |= {key} if last else set()
    assert skipped == ["b"]
    assert finished == {"a", "c", "d"}
    assert sizes == [3, 3, 3, 1]  # 1, 1 of the broken one, 6, 2
    for name in finished:
        alone = logits_of(fake(own_mean), named[name])
        np.testing.assert_array_equal(np.concatenate(found[name]), alone)


def test_logits_that_are_not_finite() -> None:
    detector = fake(lambda windows: torch.full((len(windows), FRAMES, 2), torch.nan))
    with pytest.raises(UserError, match="fake: gives logits that are not finite"):
        logits_of(detector, [noise(1000)])


def test_yamnets_grid_is_its_steps() -> None:
    """Patches of 0.96 s: wherever they are, all but the outermost of a window, half of them silence, hear the same."""
    detector = load_detector(["yamnet"], "cpu")
    grid = grid_of(detector)
    assert (grid.frames, grid.step, grid.hop) == (20, 7680, 10)
    waveform, shift = noise(24 * 16_000), 3
    found, shifted = logits_of(detector, [waveform]), logits_of(detector, [waveform[shift * 7680 :]])
    outermost = {at for first in (0, 10, 20, 30, *(shift + f for f in (0, 10, 20, 27))) for at in (first, first + 19)}
    same = [frame for frame in range(shift, 50) if frame not in outermost]
    assert len(same) > 30
    np.testing.assert_allclose(found[same], shifted[[frame - shift for frame in same]], atol=1e-3)
    assert np.abs(found[shift + 1 : -1] - shifted[1:-1]).max() < 0.2 * found.std()
