"""Factors of learning rates and loss weights over training: numbers in, a number out."""

import math


def exponential_ramp(step: float, length: float) -> float:
    """exp(-5 (1 - step / length)^2) from exp(-5) at 0 to 1 at `length`, then 1; Laine & Aila 2017."""
    if length <= 0:
        return 1.0
    return math.exp(-5.0 * (1.0 - min(max(step, 0.0), length) / length) ** 2)


def linear_ramp(step: float, length: float, limit: float = 1.0) -> float:
    """step / length, not above `limit`: with a limit of 2 it passes 1 and stops at 2."""
    return limit if length <= 0 else min(step / length, limit)


def ramp_up_down(epoch: float, warmup: float, start: float, length: float, last: float) -> float:
    """Exponential warm-up over `warmup` epochs, 1 until `start`, linear down to `last` over `length` epochs.

    The first epoch counts as 0.5, so that it is not lost to a vanishing rate.
    """
    up = exponential_ramp(max(epoch, 0.5), warmup) if epoch < warmup else 1.0
    if epoch <= start:
        return up
    if epoch - start >= length:
        return up * last
    return up * (last + (1.0 - last) * (length - epoch + start) / length)


def half_cosine(step: float, warmup: float, total: float) -> float:
    """Linear warm-up over `warmup` steps, half a cosine from 1 to 0 at `total`, then 0; Loshchilov & Hutter 2017."""
    if step < warmup:
        return step / warmup
    if step >= total:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def ramp_hold_quarter_cosine(step: float, ramp: float, hold_until: float, total: float, minimum: float = 0.0) -> float:
    """Exponential warm-up over `ramp`, 1 until `hold_until`, then a quarter of a cosine down to `minimum` at `total`.

    The learning rate of the DCASE 2024 Task 4 baseline: ramp 50, hold 100, total 300 epochs.
    """
    if step <= hold_until:
        return exponential_ramp(step, ramp)
    if step >= total:
        return minimum
    return max(minimum, math.cos(0.5 * math.pi * (step - hold_until) / (total - hold_until)))
