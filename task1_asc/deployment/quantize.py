"""Quantisation-aware training to int8, and the converted networks; inference on the CPU.

Convolution, batch norm and ReLU are fused, weights are per channel, activations have 7 bits, on every machine: torch's
defaults for fbgemm, where sums of two products stay in int16 on processors without VNNI. The global response
norm of CP-Mobile stays in float between dequantising and quantising. Graph mode of torch.ao, which needs no stubs in
the network. Schmid et al. 2023 (CP-Mobile).
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from common.run.errors import UserError
from common.run.files import existing_file, write_then_rename
from common.run.verbs import Run
from task1_asc.config import Config
from task1_asc.model.cp_mobile import GlobalResponseNorm

FOLDER, FILE_NAME = "int8", "network_int8.pt"


def of_int8(run: Run) -> Run:
    """The stage of a split's run that makes its int8 network."""
    return replace(run, folder=run.folder / FOLDER, config=quantize_config(run.config))


def quantize_config(config: Config) -> Config:
    """The recipe of the quantisation-aware training that follows a training with `config`."""
    of = config.quantize
    optimizer = replace(
        config.optimizer,
        name="adam",
        lr=of.lr,
        schedule="hold_ramp",
        warmup_epochs=0,
        hold_until_epoch=1,
        ramp_epochs=of.ramp_epochs,
        last_factor=of.last_factor,
    )
    every = min(config.trainer.check_val_every_n_epoch, of.epochs)
    trainer = replace(config.trainer, max_epochs=of.epochs, check_val_every_n_epoch=every, compile=False)
    return replace(config, optimizer=optimizer, trainer=trainer)


def choose_backend() -> None:
    """Have torch use the library of quantised operators that this machine has."""
    supported = torch.backends.quantized.supported_engines
    name = next((name for name in ("fbgemm", "qnnpack") if name in supported), None)
    if name is None:
        raise UserError(f"precision: this build of torch has no int8 operators ({', '.join(supported)})")
    torch.backends.quantized.engine = name


@contextmanager
def _silent() -> Iterator[None]:
    """torch.ao announces its successor at every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def prepare_network(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a float network, fused and with fake quantisation, to be trained; example: log-mel of one clip."""
    with _silent():
        from torch.ao.quantization import get_default_qat_qconfig_mapping
        from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
        from torch.ao.quantization.quantize_fx import prepare_qat_fx

        choose_backend()
        settings = get_default_qat_qconfig_mapping("fbgemm").set_object_type(GlobalResponseNorm, None)
        in_float = PrepareCustomConfig().set_non_traceable_module_classes([GlobalResponseNorm])
        prepared: nn.Module = prepare_qat_fx(copy.deepcopy(network).train(), settings, (example,), in_float)
    return prepared


def convert_network(prepared: nn.Module) -> nn.Module:
    """The int8 network, on the CPU, of a prepared one, which stays as it is."""
    with _silent():
        from torch.ao.quantization.quantize_fx import convert_fx

        converted: nn.Module = convert_fx(cast(GraphModule, copy.deepcopy(prepared).cpu().eval()))
    return converted


def save_network(converted: nn.Module, path: Path) -> None:
    """Store an int8 network, whole or not at all."""
    with _silent(), write_then_rename(path) as partial:
        torch.save(converted.state_dict(), partial)


def load_network(path: Path, float_network: nn.Module, example: Tensor) -> nn.Module:
    """The stored int8 network; `float_network` has the same form. Raises UserError for any other file."""
    existing_file(path, "int8 network (`train` makes it)")
    converted = convert_network(prepare_network(float_network, example))
    try:
        with _silent():
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            converted.load_state_dict(state)
    except Exception as error:
        raise UserError(f"{path}: no int8 network of this recipe ({str(error).splitlines()[0]})") from None
    return converted.eval()
