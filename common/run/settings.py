"""The Trainer's part of a recipe (apart from training.py, so that reading a recipe needs no Lightning)."""

from dataclasses import dataclass
from typing import Literal

from common.run.config import in_range


@dataclass
class TrainerConfig:
    """The Lightning Trainer's switches; see its documentation for the values of devices, strategy and precision."""

    max_epochs: int = in_range(100, 1)
    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = in_range(1, 1)
    strategy: str = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true"] = "32-true"
    accumulate_grad_batches: int = in_range(1, 1)
    gradient_clip_val: float | None = in_range(None, 0)
    check_val_every_n_epoch: int = in_range(1, 1)
    compile: bool = False
    weight_average: float | None = in_range(None, 0, 1)  # decay of an exponential average of the weights
    wandb: bool = False
