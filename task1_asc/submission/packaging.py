"""Submissions of own runs: the outputs of 2024, the inference package of 2025; and checking anybody's."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.run.errors import UserError
from common.run.files import existing_file
from common.run.settings import SubmissionConfig
from common.run.submission.archive import has_errors, listing, verdict
from common.run.verbs import Run
from task1_asc.config import SPLITS, Config, known_split
from task1_asc.data.classes import DEVICES, SAMPLE_RATE
from task1_asc.data.layout import read_evaluation, read_split
from task1_asc.data.sets import evaluation_folder, root_of
from task1_asc.evaluation.report import network_counts, results_of
from task1_asc.inference.scores import clip_file, predictions_file
from task1_asc.submission.meta import SubmissionMeta, make_meta
from task1_asc.submission.output_check import EVALUATION_FILES
from task1_asc.submission.package import System2024, package_2024
from task1_asc.submission.validate import validate

if TYPE_CHECKING:
    from task1_asc.submission.package_2025 import Package2025

SYSTEMS = 4  # of one team at most


def package_runs(runs: list[Run], out: Path | None, report: Path | None) -> Mapping[str, Any]:
    """Build and validate the submission of the recipe's edition."""
    run = runs[0]
    about: SubmissionConfig | None = run.config.submission
    if about is None:
        print(f"recipe {run.recipe} says nothing about `submission` (label, name, ...): nothing to submit")
        return {}
    out = out or run.folder.parent / "submission.zip"
    if len(runs) > SYSTEMS:
        raise UserError(f"a team may submit {SYSTEMS} systems, but --runs names {len(runs)}")
    files = expected_files(run.config)
    named = [(run, f"{about.label.rpartition('_')[0]}_{number}") for number, run in enumerate(runs, start=1)]
    if run.config.data.edition == 2025:
        from task1_asc.submission.package_2025 import package_2025

        package_2025(out, [inference_of(run, label) for run, label in named], files)
        return validate_archives(run, [out])
    if missing := [split for split in SPLITS if split not in run.config.data.splits]:
        raise UserError(f"a submission needs all five splits, but data.splits has no {missing[0]}")
    given = report or (Path(about.technical_report) if about.technical_report else None)
    package_2024(out, [system_of(run, about, label) for run, label in named], given, files)
    return validate_archives(run, [out], counted=network_counts(run))


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
    if not isinstance(network, MultiDevice):  # the form of the package
        network = MultiDevice(network, (), DEVICES)
    half = config.precision.startswith("float16")
    metrics = results_of(run.folder, [split])[split]
    return Package2025(
        label,
        front_end(config.front_end, SAMPLE_RATE).setting,
        config.model,
        (network.half() if half else network).state_dict(),
        tuple(network.device_models),
        read_split(root_of(config.data), "test"),
        output_of(run, split),
        {name: metrics[name] for name in ("macro_accuracy", "accuracy", "log_loss", "classes", "devices", "groups")},
    )


def system_of(run: Run, about: SubmissionConfig, label: str) -> System2024:
    """One run's outputs and meta data."""
    config: Config = run.config
    outputs = {split: output_of(run, split) for split in config.data.splits}
    counted = network_counts(run)
    meta: SubmissionMeta = make_meta(
        replace(about, label=label),
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
    responses = of.impulse_response_probability and of.impulse_responses
    return {
        "data_augmentation": ", ".join(name for name, used in augmentation.items() if used) or None,
        "complexity_management": ", ".join(name for name, used in management.items() if used),
        "external_data_usage": "MicIRP" if responses else None,
    }


def expected_files(config: Config) -> int | Collection[str]:
    """Names of the evaluation files as outputs have them, of the recipe's data set; else the challenge's number."""
    if config.data.root is None or not Path(config.data.root).is_dir():
        return EVALUATION_FILES
    folder = evaluation_folder(config.data)
    return EVALUATION_FILES if folder is None else [clip_file(name) for name in read_evaluation(folder).names]


def validate_archives(
    run: Run, files: Sequence[Path], edition: int | None = None, counted: Mapping[str, int] | None = None
) -> Mapping[str, Any]:
    """List every violation of every archive; UserError at the end where there was an error."""
    if not files:
        raise UserError("validate: name at least one archive")
    data = run.config.data if edition is None else replace(run.config.data, edition=edition)
    expected = expected_files(replace(run.config, data=data))
    found: dict[str, Any] = {}
    broken = []
    for path in files:
        violations = validate(path, data.edition, expected, counted)
        for line in listing(violations):
            print(line)
        print(f"{path}: {verdict(violations)}")
        found[str(path)] = [asdict(v) for v in violations]
        if has_errors(violations):
            broken.append(path)
    if broken:
        raise UserError(f"{broken[0]}: not a valid submission")
    return {"archives": found}
