"""Recordings of device a as another device would have made them (Morocutti et al. 2023)."""

from torch import Tensor

from common.augment import ImpulseDraw, device_impulse, draw_device_impulse
from task1_asc.data.classes import DEVICES


def draw_devices(device: Tensor, responses: int, probability: float) -> ImpulseDraw:
    """A response for each clip, applied with `probability` to those of device a; `device` (batch,) as in `Batch`."""
    draw = draw_device_impulse(len(device), responses, probability, device.device)
    return draw._replace(applied=draw.applied & (device == DEVICES.index("a")))


def record_on_devices(waveform: Tensor, device: Tensor, impulses: Tensor, probability: float) -> Tensor:
    """Waveforms (batch, samples) with new random draws of `draw_devices`; delays of the responses stay."""
    return device_impulse(waveform, impulses, draw_devices(device, len(impulses), probability), "first")
