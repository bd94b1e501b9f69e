"""The front end of a recipe, and what its network takes."""

from dataclasses import asdict, replace

import torch
from torch import Tensor

from common.frontends import SETTINGS, LogMel
from common.run.errors import UserError, did_you_mean
from task1_asc.config import Config, FrontEndConfig


def front_end(config: FrontEndConfig, sample_rate: int) -> LogMel:
    """The log-mel of a recipe for waveforms at `sample_rate`. Raises UserError for settings that do not fit."""
    if config.setting not in SETTINGS:
        raise UserError(f"front_end.setting: no front end {config.setting!r}{did_you_mean(config.setting, SETTINGS)}")
    base = SETTINGS[config.setting]
    changed = {name: value for name, value in asdict(config).items() if name != "setting" and value is not None}
    setting = replace(base, **changed, resample_from=None if sample_rate == base.sample_rate else sample_rate)
    if setting.fmax_range > 1 and setting.filterbank != "kaldi":
        raise UserError(f"front_end.fmax_range: the mel range of {config.setting} is fixed")
    return LogMel(setting)


def example_input(config: Config) -> Tensor:
    """Log-mel of one silent clip, (1, channels, mel, frames)."""
    ears = front_end(config.front_end, config.data.sample_rate)
    frames = ears.num_frames(config.data.sample_rate)
    return torch.zeros(1, config.model.in_channels, ears.num_mels, frames)


def mel_shape(config: Config) -> tuple[int, ...]:
    """What a recipe's network takes for one clip: (1, channels, mel, frames)."""
    return tuple(example_input(config).shape)
