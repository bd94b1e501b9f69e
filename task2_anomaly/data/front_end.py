"""The front end of a recipe: waveforms -> log-mel spectrograms."""

from dataclasses import replace
from typing import Any

from common.frontends import SETTINGS, LogMel
from task2_anomaly.config import FrontEndConfig


def front_end(config: FrontEndConfig) -> LogMel:
    """The log-mel of a recipe: a setting of common.frontends with the recipe's changes."""
    changes: dict[str, Any] = {"num_mels": config.num_mels, "hop": config.hop}
    return LogMel(replace(SETTINGS[config.setting], **{k: v for k, v in changes.items() if v is not None}))
