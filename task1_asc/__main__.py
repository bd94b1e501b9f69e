"""The verbs of Task 1: `python -m task1_asc VERB --help`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from common.run.errors import UserError
from common.run.files import alone
from common.run.task_verbs import compare, measure_rates, package, prepare_data, runs
from common.run.verbs import Run, Task, computes, main
from task1_asc.config import Config, known_split, with_split


def prepare(
    run: Run,
    verify: bool = False,
    download: Annotated[list[str], ()] | None = None,
    from_table: Path | None = None,
    out: Path | None = None,
) -> Mapping[str, Any]:
    """Check the data set, say what is missing, and pack its audio; the toy recipe writes its data set first.

    With --from-table it writes a data set of the official layout out of own recordings instead.

    Args:
        verify: read every packed shard again and compare its SHA-256
        download: fetch data sets into data.root instead (NAME or NAME/FILE); bare: what there is to fetch
        from_table: csv of own recordings: file, label (scene), device, split (train or test) and, if you like, location
        out: where the data set made from a table goes

    Example:
        --recipe baseline data.root=/path/to/data --verify
    """
    if download is not None:
        from common.audio.downloads import download as fetch_named

        return fetch_named(Path(__file__).with_name("downloads.csv"), download, run.config.data, "baseline")
    return prepare_data(run, verify, from_table, out)


@computes
def train(run: Run, restart: bool = False, split: int | None = None) -> Mapping[str, Any]:
    """Train a recipe, one system per split; goes on by itself where an interrupted training stopped.

    Args:
        restart: begin anew, also where the folder holds a finished run or one with other settings
        split: only this one (default: all of data.splits)

    Example:
        --recipe toy --split 25 trainer.max_epochs=2
    """
    run = with_split(run, split)
    from task1_asc.training.train import train_run

    return train_run(run, restart)


@computes
def predict(
    run: Run,
    files: list[Path],
    out: Path | None = None,
    split: int | None = None,
    precision: Literal["float32", "float16", "float16_weights", "int8"] | None = None,
) -> Mapping[str, Any]:
    """Predictions of every split's system on the test and evaluation sets; or scenes of any audio files and folders.

    Named files may have any length, rate and number of channels; what is longer than a second is cut into seconds whose
    probabilities are averaged. Each gets a table (.tsv) and .json in --out, all of them an output file in --out/scores.

    Args:
        files: audio files or folders; none: the recipe's test set and, where there is one, the evaluation set
        out: folder for the scenes of named files (default: predictions)
        split: only this system (default: all of data.splits; of named files the largest of them)
        precision: arithmetic of the network (default: the recipe's)

    Example:
        recording.wav --out found --split 25
    """
    from common.audio.answers import out_folder

    folder, run = out_folder(files, out), with_split(run, split)
    from task1_asc.inference.predict import predict_files, predict_run

    if files:
        return predict_files(run, files, folder, split, precision)
    with alone(run.folder, "predict", run.folder):
        return predict_run(run, precision)


def evaluate(
    run: Run,
    scores: list[Path] | None = None,
    ground_truth: Path | None = None,
    out: Path | None = None,
    allow_missing: bool = False,
    no_plots: bool = False,
    split: int | None = None,
) -> Mapping[str, Any]:
    """Metrics of a run's stored predictions; with --scores of anybody's output files.

    Args:
        scores: output files in the challenge's form; five files split_5 to split_100 also give the rank score
        ground_truth: meta.csv, test.csv, or any table with filename and scene_label
        out: folder for the results and plots of --scores
        allow_missing: score only the clips that are there
        no_plots: tables only
        split: only this system of the run (default: all of data.splits)

    Example:
        --recipe toy --runs 1 2
    """
    run = with_split(run, split)
    from task1_asc.evaluation.evaluate import evaluate_files
    from task1_asc.evaluation.report import evaluate_run

    if scores is None:
        if ground_truth is not None or out is not None or allow_missing:
            raise UserError("evaluate: --ground-truth, --out and --allow-missing go with --scores")
        return evaluate_run(run, plots=not no_plots)
    if ground_truth is None:
        raise UserError("evaluate --scores also needs --ground-truth")
    return evaluate_files(scores, ground_truth, None if no_plots else out, allow_missing=allow_missing)


def validate(
    run: Run,
    files: list[Path],
    edition: Literal["2024", "2025"] | None = None,
    measure: Literal["challenge", "recipe"] | None = None,
) -> Mapping[str, Any]:
    """Check anybody's submission: every broken rule with file and line.

    Args:
        files: archives (.zip) or unpacked folders
        edition: 2024 (outputs per split) or 2025 (inference package); default: the recipe's
        measure: by the challenge's evaluation set, or that of the recipe's data (default: for archives of toy runs)

    Example:
        submission.zip --edition 2024
    """
    from task1_asc.submission.validate import validate_archives

    return validate_archives(run, files, None if edition is None else int(edition), measure=measure)


def complexity(
    run: Run,
    files: list[Path],
    input_shape: list[list[int]] | None = None,
    precision: Literal["float32", "float16", "bfloat16", "int8"] | None = None,
) -> Mapping[str, Any]:
    """Parameters, bytes and MACs as the challenge counts them, and whether its limits are kept: exit code 1 if not.

    Args:
        files: module:function of your own network; none: the recipe's network
        input_shape: batch channels mel frames (default: those of the recipe's front end; of own networks with a toy
            recipe: those of the challenge's baseline, 1 1 256 65); once for each input of the network
        precision: what the parameters are stored in (default: the recipe's; of own networks: as they are)

    Example:
        --recipe baseline model.base_channels=24
    """
    from task1_asc.deployment.complexity import network_complexity

    return network_complexity(run, [str(path) for path in files], input_shape, precision)


@computes
def benchmark(run: Run, seconds: float = 10.0) -> Mapping[str, Any]:
    """Clips a second: packed audio and wav files, front end, a training step in memory, whole training.

    Args:
        seconds: how long each stage is measured

    Example:
        --seconds 5 data.batch=64
    """
    return measure_rates(run, seconds)


def splits(run: Run, files: list[Path], out: Path | None = None, seed: int = 0) -> Mapping[str, Any]:
    """`splits check [DIR]`: the six properties of training splits. `splits make [DIR] --out DIR`: new ones.

    Args:
        files: check or make, and the folder of a data set or of split lists (default: the recipe's data.root)
        out: where new lists go
        seed: of the draw

    Example:
        check data/task1_asc/toy
    """
    from common.audio.coverage import root_of
    from common.run.files import existing_folder
    from task1_asc.data.layout import read_meta
    from task1_asc.data.splits import make, show_splits

    action, *folders = files or [Path()]
    if str(action) not in ("check", "make") or len(folders) > 1:
        raise UserError("splits: expected `splits check [DIR]` or `splits make [DIR] --out DIR`")
    folder = existing_folder(folders[0], "data set") if folders else root_of(run.config.data)
    meta = read_meta(folder) if (folder / "meta.csv").is_file() else None
    if str(action) == "check":
        return show_splits(folder, meta)
    if out is None:
        raise UserError("splits make: --out DIR says where the lists go")
    lists = make(folder, out, seed)
    print(f"{out}: {', '.join(f'{name}: {len(clips)} clips' for name, clips in lists.items())}")
    return show_splits(out, meta)


@computes
def teach(run: Run, split: int | None = None) -> Mapping[str, Any]:
    """Store the logits of a trained teacher for the training clips of every split, for recipes with `distill`.

    Args:
        split: only this one (default: all of data.splits)

    Example:
        --recipe toy_teacher
    """
    run = with_split(run, split)
    from task1_asc.inference.predict import store_logits

    return store_logits(run)


def search(run: Run, show: int = 10, max_bytes: int = 128_000, max_macs: int = 30_000_000) -> Mapping[str, Any]:
    """Networks of the recipe's kind that fit into the challenge's limits, with their counts.

    Args:
        show: how many
        max_bytes: limit of the parameters' memory at the recipe's precision
        max_macs: limit of the MACs for a clip

    Example:
        --recipe baseline --show 4
    """
    from task1_asc.deployment.search import search_networks

    return search_networks(run, show, max_bytes, max_macs)


def export(
    run: Run,
    split: int | None = None,
    out: Path | None = None,
    precision: Literal["float32", "float16", "int8"] | None = None,
    without_front_end: bool = False,
    format: Literal["onnx", "folder"] = "onnx",
    licence: str | None = None,
    push: str | None = None,
    public: bool = False,
) -> Mapping[str, Any]:
    """A trained split's network as ONNX, with its latency, memory and size; or as a folder for others.

    The folder has weights, settings, figures and a card, and can go to the Hugging Face Hub.

    Args:
        split: which system (default: that of the largest of data.splits)
        out: folder for the files (default: <run>/export; of --format folder <run>/export/split<N>)
        precision: of onnx: only this one (default: float32, float16 and int8)
        without_front_end: of onnx: the file takes log-mel instead of a waveform
        format: onnx, checked for equal outputs, or folder, which `classify` takes
        licence: of folder: licence of the weights as the Hub spells it (cc-by-4.0)
        push: of folder: OWNER/NAME on the Hub, to upload it there, private
        public: with --push, where all may see it

    Example:
        --split 100 --precision int8
    """
    split = known_split(run, split)
    if format == "folder":
        if precision is not None or without_front_end:
            raise UserError("export: --precision and --without-front-end go with --format onnx")
        from common.run.export import check_export

        out = out or run.folder / "export" / f"split{split}"
        check_export(out, push, public)
        from task1_asc.inference.exported import export_split

        return export_split(run, split, out, licence, push, public)
    if licence is not None or push is not None or public:
        raise UserError("export: --licence, --push and --public go with --format folder")
    from common.run.latency import latency_table
    from task1_asc.deployment.export import TOLERANCES, export_files
    from task1_asc.inference.checkpoints import load_exportable

    exportable = load_exportable(run, split)
    stem = (out or run.folder / "export") / f"split{split}"
    precisions = [precision] if precision else list(TOLERANCES)
    written = export_files(*exportable, stem, precisions, not without_front_end)
    if run.config.finetune.epochs:
        print("note: the general network; those of the devices are in the inference package (`package`)")
    return {"files": written, "latency": latency_table([of["path"] for of in written])}


@computes
def reproduce(runs: list[Run], restart: bool = False) -> Mapping[str, Any]:
    """All stages of a recipe for several seeds, and the table of the paper beside the published figures.

    Args:
        restart: train anew

    Example:
        --recipe toy --runs 1 2
    """
    for run in runs:
        train(run, restart)
        predict(run, [])
        evaluate(run)
    compared = compare(runs)
    package(runs[:1])
    return compared


TASK = Task(
    "task1_asc",
    "Task 1: data-efficient low-complexity acoustic scene classification (DCASE 2024 and 2025)",
    Config,
    (
        prepare,
        train,
        predict,
        evaluate,
        package,
        validate,
        compare,
        runs,
        complexity,
        benchmark,
        splits,
        teach,
        search,
        export,
        reproduce,
    ),
)


def console() -> int:
    """The command `task1_asc` of an installed package."""
    return main(TASK)


if __name__ == "__main__":
    sys.exit(console())
