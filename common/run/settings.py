"""Parts of a recipe that all tasks have: Trainer, submission (apart from training.py: they need no Lightning)."""

import re
from dataclasses import dataclass
from typing import Literal

from common.run.config import in_range
from common.run.errors import UserError

# Lightning's, under the names that it knows them by.
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
STRATEGY = re.compile(
    "auto|ddp(_spawn|_fork|_notebook)?(_find_unused_parameters_(false|true))?|fsdp(_cpu_offload)?|single_device"
    "|deepspeed(_stage_1|_stage_[23](_offload)?|_stage_3_offload_nvme)?|(single_)?xla|xla_debug|single_tpu"
)
SYNTHETIC = "synthetic"  # augment.impulse_responses: made-up ones in place of a folder
DEVICES = re.compile("auto|-1|[1-9][0-9]*|[0-9]+(,[0-9]+)+,?|[0-9]+,")


@dataclass
class TrainerConfig:
    """The Lightning Trainer's switches; see its documentation for the values of devices, strategy and precision."""

    max_epochs: int = in_range(100, 1)
    accelerator: Accelerator = "auto"
    # A step has the recipe's batch on each device, or with divide_batch on all of them together.
    devices: int | str = 1
    divide_batch: bool = False
    num_nodes: int = in_range(1, 1)
    strategy: str = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true"] = "32-true"
    # Of float32 products on CUDA. high: TF32, faster; highest: as on a CPU, for comparisons with published numbers.
    matmul_precision: Literal["highest", "high", "medium"] = "high"
    accumulate_grad_batches: int = in_range(1, 1)
    gradient_clip_val: float | None = in_range(None, 0)
    check_val_every_n_epoch: int = in_range(1, 1)
    patience: int | None = in_range(None, 1)  # ends after so many validations that were none of the best; null: never
    # A training goes on from its last whole epoch; with this also from its last so many steps within one.
    checkpoint_steps: int | None = in_range(None, 1)
    compile: bool = False
    # On CPUs: the number of threads changes the last digits of a run. null: all cores.
    threads: int | None = in_range(None, 1)
    weight_average: float | None = in_range(None, 0, 1)  # decay of an exponential average of the weights
    wandb: bool = False

    def __post_init__(self) -> None:
        if not DEVICES.fullmatch(str(self.devices)):
            expected = "auto, how many (-1: all), or their numbers, e.g. '0,1'"
            raise UserError(f"trainer.devices: is {self.devices!r}, expected {expected}")
        if not STRATEGY.fullmatch(self.strategy):
            raise UserError(
                f"trainer.strategy: is {self.strategy!r}, expected auto, ddp, fsdp or another of Lightning's"
            )


@dataclass
class AuthorConfig:
    """An author of a submission."""

    lastname: str
    firstname: str
    email: str | None = None
    institute: str | None = None
    corresponding: bool = False


@dataclass
class SubmissionConfig:
    """What a challenge wants to know; `label` is <Lastname>_<Institute>_<task>_<n>."""

    label: str
    name: str
    abbreviation: str
    authors: list[AuthorConfig]
    source_code: str | None = None
    technical_report: str | None = None  # a PDF; null: one that the task makes, mostly a placeholder
