"""Submissions of own runs: the outputs of 2024, and what the inference package of 2025 is made of."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import existing_file
from common.run.imports import Own, as_stored, given
from common.run.settings import SYNTHETIC, SubmissionConfig
from common.run.submission.measure import mark
from common.run.submission.package import (
    Packed,
    build_submission,
    check_name,
    described,
    labels_of,
    passing_meta,
    report_of,
)
from common.run.verbs import Run
from task1_asc.config import SPLITS, Config, known_split, of_split
from task1_asc.data.classes import DEVICES, SAMPLE_RATE
from task1_asc.data.layout import read_split
from task1_asc.evaluation.report import network_counts, results_of
from task1_asc.inference.scores import predictions_file
from task1_asc.submission.meta import SubmissionMeta, make_meta, meta_yaml
from task1_asc.submission.rules import LAST_INDEX, TASK, check_meta, label_problem
from task1_asc.submission.tables import EVALUATION_FILES, passing_output
from task1_asc.submission.validate import expected_files, validate_archives

if TYPE_CHECKING:
    from task1_asc.submission.package_2025 import Package2025


@dataclass(frozen=True)
class System2024:
    """One system of a team: its meta data and the output file of each split."""

    meta: SubmissionMeta
    outputs: Mapping[int, Path]


def package_2024(
    out: Path,
    systems: Sequence[System2024],
    report: Path | None = None,
    files: int | Collection[str] = EVALUATION_FILES,
) -> Path:
    """Write the submission of one team as a .zip, whole or not at all; returns its path.

    report: the technical report as PDF; None: a page that says it is a placeholder. files: of the evaluation set, as
    `validate` takes them. Raises UserError for meta data or outputs that the challenge would not take.
    """
    return build_submission(out, _packed(systems, files), report, f"{TASK}/")


def _packed(systems: Sequence[System2024], files: int | Collection[str]) -> Iterator[Packed]:
    for system in systems:
        label, text = system.meta.label, meta_yaml(system.meta)
        passing_meta(system.meta, label_problem(label), check_meta(text, label, "meta data"))
        if missing := [split for split in SPLITS if split not in system.outputs]:
            raise UserError(f"{label}: no output of split {missing[0]}, expected all of {', '.join(map(str, SPLITS))}")
        outputs = {split: passing_output(system.outputs[split], files) for split in SPLITS}
        yield Packed(system.meta, text, {f"{label}.output.split_{split}.csv": of for split, of in outputs.items()})


def package_runs(runs: list[Run], out: Path | None, report: Path | None) -> Mapping[str, Any]:
    """Build and validate the submission of the recipe's edition."""
    run = runs[0]
    if (about := described(run)) is None:
        return {}
    out = out or run.folder.parent / "submission.zip"
    check_name(out)
    files, labels = expected_files(run.config), labels_of(runs, about, LAST_INDEX)
    if run.config.data.edition == 2025:
        from task1_asc.submission.package_2025 import package_2025

        package_2025(out, [inference_of(run, label) for run, label in zip(runs, labels, strict=True)], files)
        mark(out, made_of(root_of(run.config.data)))
        return validate_archives(run, [out], measure="recipe")
    if missing := [split for split in SPLITS if split not in run.config.data.splits]:
        raise UserError(f"a submission needs all five splits, but data.splits has no {missing[0]}")
    systems = [system_of(run, replace(about, label=label)) for run, label in zip(runs, labels, strict=True)]
    package_2024(out, systems, report_of(about, report), files)
    mark(out, made_of(root_of(run.config.data)))
    return validate_archives(run, [out], counted=network_counts(run), measure="recipe")


def output_of(run: Run, split: int) -> Path:
    """Predictions of a split's system on the evaluation set; UserError where there are none."""
    path = predictions_file(run.folder, split, "evaluation")
    return existing_file(path, "predictions of the evaluation set (`predict` makes them)")


def inference_of(run: Run, label: str) -> "Package2025":
    """One run's networks, in the recipe's precision, for the inference package."""
    from task1_asc.inference.checkpoints import load_network
    from task1_asc.model.devices import MultiDevice
    from task1_asc.model.front_end import front_end
    from task1_asc.submission.package_2025 import Package2025

    config: Config = run.config
    if config.precision == "int8":
        raise UserError("precision: an inference package carries float networks only, not int8")
    split = known_split(run, None)
    network, _ = load_network(run, split)
    model = as_stored(config.model, of_split(run, split).folder)
    if isinstance(model.kind, Own):
        model = replace(model, arguments=given(model.kind, model.arguments, {"num_classes": model.num_classes}))
    if not isinstance(network, MultiDevice):  # the form of the package
        network = MultiDevice(network, (), DEVICES)
    half = config.precision.startswith("float16")
    metrics = results_of(run.folder, [split])[split]
    return Package2025(
        label,
        front_end(config.front_end, SAMPLE_RATE).setting,
        model,
        (network.half() if half else network).state_dict(),
        tuple(network.device_models),
        read_split(root_of(config.data), "test"),
        output_of(run, split),
        {name: metrics[name] for name in ("macro_accuracy", "accuracy", "log_loss", "classes", "devices", "groups")},
    )


def system_of(run: Run, about: SubmissionConfig) -> System2024:
    """One run's outputs and meta data."""
    config: Config = run.config
    outputs = {split: output_of(run, split) for split in config.data.splits}
    counted = network_counts(run)
    meta = make_meta(
        about,
        results_of(run.folder, config.data.splits),
        counted["parameters"],
        counted["bytes"],
        counted["macs"],
        **description(config),
    )
    return System2024(meta, outputs)


def description(config: Config) -> dict[str, Any]:
    """What the challenge wants to know of a recipe, in its words."""
    of = config.augment
    augmentation = {
        "time rolling": of.roll_seconds,
        "frequency masking": of.frequency_mask,
        "time masking": of.time_mask,
        "Freq-MixStyle": of.mixstyle_probability,
        "device impulse responses": of.impulse_response_probability,
        "mixup": of.mixup_probability,
    }
    management = {
        "precision_16": config.precision.startswith("float16"),
        "weight quantization": config.precision == "int8",
        "knowledge distillation": bool(config.distill.teachers),
        "network design": True,
    }
    responses = of.impulse_response_probability and of.impulse_responses != SYNTHETIC
    return {
        "data_augmentation": ", ".join(name for name, used in augmentation.items() if used) or None,
        "complexity_management": ", ".join(name for name, used in management.items() if used),
        "external_data_usage": "MicIRP" if responses else None,
    }
