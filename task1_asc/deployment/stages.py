"""Networks as such: their cost, others that fit the limits, and their export."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.frontends import LogMel
from common.run.complexity import count
from common.run.config import config_dict
from common.run.errors import UserError
from common.run.results.tables import print_table
from common.run.verbs import Run
from task1_asc.config import Config, ModelConfig
from task1_asc.data.sets import load_clips
from task1_asc.deployment.complexity import complexity_verb, load_module
from task1_asc.evaluation.stages import known_split
from task1_asc.inference.checkpoints import checkpoint_of, load_weights, new_network, of_int8, of_split
from task1_asc.model.front_end import example_input, front_end

EXPORTED = ("float32", "float16", "int8")
CALIBRATION_CLIPS = 256


def input_shape(config: Config) -> tuple[int, ...]:
    """What a recipe's network takes for one clip: (1, channels, mel, frames)."""
    return tuple(example_input(config).shape)


def storage(config: Config) -> str:
    """What the parameters are stored in."""
    return "float16" if config.precision == "float16_weights" else config.precision


def counts_of(config: Config) -> dict[str, int]:
    """Parameters, bytes at the recipe's precision, and MACs of a recipe's network."""
    counted = count(new_network(config), input_shape(config), storage(config))
    return {"parameters": counted.parameters, "bytes": counted.bytes, "macs": counted.macs}


def network_complexity(
    run: Run, specs: list[str], shape: Sequence[int] | None, precision: str | None
) -> Mapping[str, Any]:
    """Print the counts of the recipe's network, or of `module:function`s of somebody's code."""
    given = tuple(shape) if shape else input_shape(run.config)
    if not specs:
        return complexity_verb(new_network(run.config), given, precision or storage(run.config))
    found = {spec: complexity_verb(load_module(spec), given, precision) for spec in specs}
    return found[specs[0]] if len(specs) == 1 else {"networks": found}


def search_networks(run: Run, show: int, max_bytes: int, max_macs: int) -> Mapping[str, Any]:
    """Print networks that fit the limits at the recipe's front end and precision."""
    from task1_asc.deployment.search import propose

    config: Config = run.config
    if show < 1:
        raise UserError(f"--show: is {show}, expected 1 or more")
    shape = input_shape(config)
    found = propose(max_bytes, max_macs, storage(config), shape, config.model, show)
    rows = [
        [settings_of(p.config), *(f"{n:,}" for n in (p.parameters, p.bytes, p.macs)), f"{p.used:.1%}"] for p in found
    ]
    columns = ["settings", "parameters", "bytes", "MACs", "used of both limits"]
    note = "Take one by its settings as overrides. What it reaches in accuracy only training can tell."
    print_table(f"networks of at most {max_bytes:,} bytes and {max_macs:,} MACs", columns, rows, note)
    return {"input_shape": shape, "precision": storage(config), "networks": [asdict(of) for of in found]}


def settings_of(config: ModelConfig) -> str:
    """What differs from the default network, as overrides of a recipe that a shell takes."""
    plain, default = config_dict(config), config_dict(ModelConfig())
    changed = {key: value for key, value in plain.items() if value != default[key] or key == "base_channels"}
    text = {key: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for key, v in changed.items()}
    return " ".join(shlex.quote(f"model.{key}={value}") for key, value in text.items())


def export_network(
    run: Run, split: int | None, out: Path | None, precision: str | None, without_front_end: bool
) -> Mapping[str, Any]:
    """Write <run>/export/split<S>_<precision>.onnx for each precision, and measure them."""
    from task1_asc.deployment.export import export
    from task1_asc.deployment.latency import latency_table

    config: Config = run.config
    split = known_split(run, split)
    network, ears, calibration = _exportable(run, split)
    folder = out or run.folder / "export"
    what = "_mel" if without_front_end else ""
    written = [
        export(network, ears, folder / f"split{split}{what}_{of}.onnx", of, not without_front_end, calibration)
        for of in ([precision] if precision else EXPORTED)
    ]
    rows = [
        [Path(of["path"]).name, f"{of['bytes']:,}", f"{of['difference']:.2g}", f"{of['same_scene']:.1%}"]
        for of in written
    ]
    note = f"difference: of {written[0]['clips']} clips' logits to those in PyTorch, largest, in root mean squares"
    print_table(f"{folder}", ["file", "bytes on disk", "difference", "same scene"], rows, note)
    if config.finetune.epochs:
        print("note: the general network; those of the devices are in the inference package (`package`)")
    return {"files": written, "latency": latency_table([of["path"] for of in written])}


def _exportable(run: Run, split: int) -> tuple[nn.Module, LogMel, Tensor]:
    """A trained split's float network, also where it is deployed as int8; its front end; clips for calibration."""
    from task1_asc.data.batches import eval_loader
    from task1_asc.deployment.export import float_twin
    from task1_asc.deployment.quantize import prepare_network

    config: Config = run.config
    part = of_split(run, split)
    network = load_weights(new_network(config), *checkpoint_of(part.folder))
    if config.quantize.epochs:
        prepared = prepare_network(network, example_input(config))
        network = float_twin(load_weights(prepared, *checkpoint_of(of_int8(part).folder)), network)
    whole = replace(config, data=replace(config.data, cropped=False, eval_batch=CALIBRATION_CLIPS, workers=0))
    clips = load_clips(whole.data, "train", split)
    waveform = next(iter(eval_loader(clips, whole))).waveform
    return network, front_end(config.front_end, config.data.sample_rate), waveform
