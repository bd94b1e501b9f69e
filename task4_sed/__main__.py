"""The verbs of Task 4: `python -m task4_sed VERB --help`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from common.run import task_verbs
from common.run.errors import UserError
from common.run.task_verbs import compare, pipeline, prepare_data, runs
from common.run.verbs import Run, Task, computes, main
from task4_sed.config import Config, Format, check_stream, check_threshold


def prepare(
    run: Run,
    verify: bool = False,
    exclusions: bool = False,
    from_recordings: Path | None = None,
    out: Path | None = None,
    clips: int = 200,
    seed: int = 0,
    folds: list[str] | None = None,
    download: Annotated[list[str], ()] | None = None,
) -> Mapping[str, Any]:
    """Check the data set, say what is missing, and pack its audio; the toy recipe writes its data set first.

    With --from-recordings it builds a data set of DESED's form out of isolated recordings instead: 10-s soundscapes
    with strong labels, weak and unlabeled clips, a validation and a test part made of other recordings.

    Args:
        verify: read every packed shard again and compare its SHA-256
        exclusions: first list the training clips that also occur in external or evaluation data, to be left out
        from_recordings: folder with meta.csv (ESC-50's columns) and audio/
        out: where the data set built from recordings goes
        clips: soundscapes in the strongly labelled training set; the other sets in proportion
        seed: seed of the data set built from recordings
        folds: meta.csv folds of each part, e.g. train=1,2 validation=3 test=4; a part that is not named is left out
        download: fetch data sets into data.root instead (NAME or NAME/FILE); bare: what there is to fetch

    Example:
        --recipe baseline data.root=/path/to/data --verify
    """
    if download is not None:
        from common.audio.downloads import download as fetch_named

        return fetch_named(Path(__file__).with_name("downloads.csv"), download, run.config.data, "baseline")
    if from_recordings is not None:
        from task4_sed.data.recordings.build import built

        return built(from_recordings, out, clips, seed, folds)
    if out is not None or folds is not None:
        raise UserError("--out and --folds go with --from-recordings")
    if exclusions:
        from common.audio.coverage import root_of
        from task4_sed.data.exclusions import write_exclusions
        from task4_sed.data.prepare import write_toy_data

        write_toy_data(run.config.data)
        write_exclusions(root_of(run.config.data))
    return prepare_data(run, verify)


@computes
def train(runs: list[Run], restart: bool = False, jobs: int | None = None) -> Mapping[str, Any]:
    """Train a recipe; goes on by itself where an interrupted training stopped.

    Args:
        restart: begin anew, also where the folder holds a finished run or one with other settings
        jobs: trainings side by side (default: one per GPU; on CPUs what the cores hold of trainer.threads each)

    Example:
        --runs 1 2 3 trainer.max_epochs=2
    """
    from task4_sed.training.runs import train_runs

    return _of_all(train_runs(runs, jobs, restart))


@computes
def predict(
    runs: list[Run],
    files: list[Path],
    checkpoint: Path | None = None,
    out: Path | None = None,
    threshold: float | None = None,
    csebbs: str | None = None,
    no_plots: bool = False,
    floors: bool = False,
    logits: bool = False,
    sets: list[str] | None = None,
) -> Mapping[str, Any]:
    """Scores of a trained run on the recipe's data sets; or events in any audio files and folders that are named.

    With --logits those of training clips, from which pseudo labels are made, in <run>/logits.h5. Named files may have
    any length, rate and number of channels. Each gets a table (.tsv), .json, an Audacity label track (.txt), a picture
    (.png) and frame scores in --out: it is `detect FILES --model RUN`, which has more to choose.

    Args:
        files: audio files or folders; none: the recipe's validation, test and submission sets
        checkpoint: another checkpoint than the run's best one; for named files also a folder that `export` wrote
        out: folder for the events of named files (default: predictions)
        threshold: least score of an event in named files (default: as of `detect`)
        csebbs: post-processing of named files: default, filter=F,abs=A,rel=R or a table (default: as tuned for the run)
        no_plots: no pictures of named files
        floors: also store what an untrained network and a constant prior give on the test sets
        logits: instead of scores the logits of all training clips
        sets: with --logits, of these data sets (default: those that the recipe trains on)

    Example:
        recording.wav --out found --threshold 0.4
    """
    from common.audio.answers import out_folder

    if (sets and not logits) or (files and logits):
        raise UserError("predict: --sets goes with --logits, and --logits without files")
    folder = out_folder(files, out)
    if threshold is not None:
        check_threshold(threshold)
    if files:
        from task4_sed.evaluation.plots import draw_events
        from task4_sed.inference.detect import predict_files

        draw = None if no_plots else draw_events
        return _of_all([predict_files(run, files, checkpoint, folder, threshold, csebbs, draw) for run in runs])
    from task4_sed.inference.runs import predict_runs

    return _of_all(predict_runs(runs, checkpoint, floors, (sets or []) if logits else None))


@computes
def detect(
    files: list[Path],
    model: list[str],
    out: Path | None = None,
    formats: list[Format] | None = None,
    merged: Path | None = None,
    threshold: float | None = None,
    low: float | None = None,
    median: float | None = None,
    min_duration: float | None = None,
    gap: float | None = None,
    per_class: Path | None = None,
    csebbs: Annotated[str, "default"] | None = None,
    top: int | None = None,
    labels: list[str] | None = None,
    groups: Path | None = None,
    hop: float = 5.0,
    page: float | None = None,
    zoom: list[float] | None = None,
    rows: int | None = None,
    truth: Path | None = None,
    parity: bool = False,
    resume: bool = False,
    start: float = 0.0,
    end: float | None = None,
    channels: bool = False,
    weights: Path | None = None,
    mean: Literal["logits", "probabilities"] = "logits",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    threads: int | None = None,
) -> Mapping[str, Any]:
    """Sound events in any audio files and folders, by any network: tables, label tracks, frame scores, pictures.

    Files may have any length, rate and number of channels. Times and lengths are seconds, scores 0 to 1.

    Args:
        files: audio files, folders, patterns in quotes, lists of them (.txt, one a line), - for a list on stdin
        model: a published checkpoint (BEATs_strong_1), a run's folder, a checkpoint, what `export` wrote, yamnet;
            random:frame_mn06 (random weights, to try things); several are an ensemble
        out: folder for what is found (default: predictions)
        formats: what is written beside .json for each file (default: tsv json audacity png)
        merged: a table of the events of all files, .tsv or .csv
        threshold: what a score must exceed (default: 0.2; of boxes the least confidence, default: 0.5)
        low: an event that exceeds the threshold goes on as long as its score exceeds this
        median: length of the median filter of scores (default: 0.36)
        min_duration: shorter events are left out
        gap: events of a class at most so far apart are one
        per_class: table of event_label and any of threshold, low, median, min_duration, gap
        csebbs: bounding boxes: default (also the bare flag), filter=F,abs=A,rel=R or a table; networks of the
            challenge have them unless low, median, min-duration, gap or per-class is given
        top: in each file only so many classes, those with the highest scores
        labels: only these classes: names, MIDs, text files with one a line
        groups: table of event_label and group: the highest score of a group's classes is told under its name
        hop: from window to window
        page: pictures of so much of a file each
        zoom: picture of a part only, from where to where
        rows: classes in a picture, the loudest first (default: 15, in their order)
        truth: table of strong labels, drawn in the pictures
        parity: as the published script: windows follow each other, thresholds 0.1, 0.2 and 0.5
        resume: leave out files that are done with the same settings
        start: of each file only what comes after so many seconds
        end: of each file only what comes before
        channels: hear each channel apart, not their mean
        weights: folder of published checkpoints (default: $DCASE_CACHE/checkpoints)
        mean: what an ensemble has the mean of
        precision: what networks compute in; float16 on a GPU only
        threads: on the CPU (default: a core each)

    Example:
        recording.wav --model yamnet --threshold 0.3
    """
    from common.audio.answers import out_folder
    from task4_sed.inference.options import FORMATS, Options

    if not files:
        raise UserError("detect: no files, expected audio files, folders or lists of them")
    given = {name: value for name, value in locals().items() if name in Options.__dataclass_fields__}
    tuples = {"formats": tuple(formats or FORMATS), "labels": labels and tuple(labels), "zoom": zoom and tuple(zoom)}
    options, folder = Options(**given | tuples), out_folder(files, out)
    from common.audio.recordings import find_recordings
    from task4_sed.evaluation.plots import draw_events
    from task4_sed.inference.detect import detect_files
    from task4_sed.inference.detectors import Loading, load_detector

    recordings = find_recordings(files)
    detector = load_detector(model, how=Loading(weights, mean, precision, threads))
    return detect_files(detector, recordings, folder, options, draw_events)


def export(
    run: Run,
    out: Path | None = None,
    licence: str | None = None,
    push: str | None = None,
    public: bool = False,
    model: str | None = None,
) -> Mapping[str, Any]:
    """The run's network as a folder for others: weights, settings, figures, a card; also on the Hugging Face Hub.

    Args:
        out: the folder (default: <run>/export)
        licence: of the weights, as the Hub spells it (cc-by-4.0)
        push: OWNER/NAME on the Hub, to upload it there, private
        public: with --push, where all may see it
        model: in place of the run's a frame-wise network: a published one by name, or a checkpoint

    Example:
        --licence cc-by-4.0 --out my-network
    """
    if model is None:
        return task_verbs.export(run, out, licence, push, public)
    if out is None:
        raise UserError("export: --model goes with --out FOLDER")
    from common.run.export import check_export

    check_export(out, push, public)
    from task4_sed.inference.exported import export_named

    return export_named(model, out, licence, push, public)


def pseudo_labels(runs: list[Run], files: list[Path], out: Path) -> Mapping[str, Any]:
    """The mean of stored logits of training clips, for data.pseudo_labels of later trainings.

    Args:
        files: recipes, run folders, or files of logits; of recipes the trainings that --runs names
        out: the file (HDF5, half precision)

    Example:
        toy --out logits.h5
    """
    from task4_sed.inference.ensemble import pseudo_labels as average

    return average(runs, [str(name) for name in files], out)


def evaluate(
    runs: list[Run],
    scores: Path | None = None,
    ground_truth: Path | None = None,
    durations: Path | None = None,
    median_filter: bool = False,
    csebbs: Annotated[str, "default"] | None = None,
    threshold: float | None = None,
    allow_missing: bool = False,
    no_plots: bool = False,
    ensemble: list[str] | None = None,
) -> Mapping[str, Any]:
    """Metrics of a run's stored scores; with --scores of anybody's scores in the challenge's formats.

    With --ensemble of the mean of several systems' logits, which becomes a run in --run-dir first.

    Args:
        scores: folder of <clip>.tsv, one .tsv with a filename column, HDF5 of logits, or detections at thresholds
        ground_truth: strong labels, or MAESTRO's soft labels (with a column confidence)
        durations: durations of the clips, or of MAESTRO's recordings
        median_filter: filter the given scores with the challenge's lengths per class
        csebbs: bounding boxes: default (also the bare flag), filter=F,abs=A,rel=R, tune[:organisers|:winner], or .tsv
        threshold: of the F1 scores (default: 0.5)
        allow_missing: score only the clips that are there
        no_plots: tables only
        ensemble: recipes or folders of runs; those of the same number are averaged

    Example:
        --recipe toy --runs 1 2 3
    """
    if scores is None:
        system = runs[0].config.system
        if ensemble is not None:
            join = system.does("evaluate --ensemble")
            runs = [join(run, ensemble) for run in runs]
        return _of_all(system.does("evaluate")(runs, plots=not no_plots))
    if ensemble is not None:
        raise UserError("evaluate: --ensemble goes without --scores")
    if ground_truth is None or durations is None:
        raise UserError("evaluate --scores also needs --ground-truth and --durations")
    from task4_sed.evaluation.evaluate import evaluate_files, show_metrics

    result = evaluate_files(scores, ground_truth, durations, median_filter, csebbs, threshold, allow_missing)
    show_metrics(result)
    return result


def package(
    runs: list[Run], out: Path | None = None, report: Path | None = None, ensemble: list[str] | None = None
) -> Mapping[str, Any]:
    """The challenge archive from the stored scores of three independent trainings, or ensembles, validated.

    Args:
        out: the archive (default: <runs>/submission.zip)
        report: technical report (PDF) to include instead of a generated one
        ensemble: what the runs in --run-dir must be ensembles of, as `evaluate --ensemble` was told

    Example:
        --runs 1 2 3 --out entry.zip
    """
    packed: Mapping[str, Any] = runs[0].config.system.does("package")(runs, out, report, ensemble)
    return packed


def validate(
    run: Run,
    files: list[Path],
    evaluation_set: Path | None = None,
    measure: Literal["challenge", "recipe"] | None = None,
) -> Mapping[str, Any]:
    """Check anybody's submission archive: every broken rule with file and line.

    Args:
        files: archives (.zip, .tar, .tar.gz) or unpacked folders
        evaluation_set: durations table of the evaluation set (eval24_durations.tsv): names and lengths are checked too
        measure: by the challenge's classes, or by the recipe's data (default: of archives that were made of toy runs)

    Example:
        submission.zip --evaluation-set eval24_durations.tsv
    """
    from task4_sed.submission.validate import validate_archives

    return validate_archives(run, files, evaluation_set, measure)


def complexity(run: Run) -> Mapping[str, Any]:
    """Parameters, bytes and MACs of a recipe's network for 10 s of audio.

    Example:
        --recipe baseline model.rnn_hidden=128
    """
    from task4_sed.evaluation.complexity import network_complexity

    return network_complexity(run)


@computes
def demo(run: Run | None, model: list[str] | None = None, port: int = 7860, host: str = "127.0.0.1") -> None:
    """A page on this machine: drop or record a sound, see when what happens in it, play it; Ctrl-C ends it.

    Without --model the network of --recipe answers, or of recipe toy where it is trained, and YAMNet.

    Args:
        model: what answers, as in `detect`; several are an ensemble
        port: of the page; 0 takes a free one
        host: another address lets others on the network use the page

    Example:
        --model yamnet
    """
    from common.run.verbs import open_run
    from common.search.page import serve
    from task4_sed.evaluation.demo import page, systems

    if run and model:
        raise UserError("demo: --model or --recipe, not both")
    answering = systems(run, run or open_run(TASK, TASK.default_recipe), model)
    serve(lambda: page(answering, host), host, port)


@computes
def stream(
    files: list[Path],
    model: list[str],
    rate: int = 16000,
    threshold: float = 0.2,
    low: float | None = None,
    labels: list[str] | None = None,
    groups: Path | None = None,
    microphone: str | None = None,
    json: bool = False,
) -> Mapping[str, Any]:
    """Events of a sound that goes on, as they begin and end: of a microphone, or of 16-bit PCM from a pipe (-).

    Every half second the last 10 s are heard, and the newest half second of them counts. Ctrl-C ends it. With --json a
    line of JSON for each event that begins (offset null) or has ended.

    Args:
        files: - for PCM from standard input: 16 bits, little-endian, mono; nothing for the microphone
        model: the network, or several, as of `detect`; frame_mn06 is the one for small machines
        rate: of the samples, Hz
        threshold: score above which an event begins
        low: score above which it goes on (default: the threshold)
        labels: only these classes, as of `detect`
        groups: groups of classes, as of `detect`
        microphone: name of another one than the usual

    Example:
        - --model yamnet --rate 44100
    """
    check_stream(files, rate, threshold, low, microphone)
    from task4_sed.inference import stream as streams
    from task4_sed.inference.detectors import load_detector
    from task4_sed.inference.labels import labels_of

    detector = load_detector(model)
    chosen = labels_of(detector.classes, detector.mids, labels, groups)
    blocks = streams.pcm(sys.stdin.buffer) if files else streams.microphone(microphone, rate)
    return streams.show_stream(detector, chosen, blocks, rate, threshold, low, json)


@computes
def benchmark(
    run: Run,
    seconds: float = 10.0,
    metrics: Annotated[Literal["desed", "audioset", "index"], "desed"] | None = None,
    detect: bool = False,
) -> Mapping[str, Any]:
    """Clips a second: decoding, front end, a training step in memory, whole training; parameters, MACs, activations.

    Args:
        seconds: how long each stage is measured
        metrics: seconds of metrics and post-processing instead, on random scores of DESED's size (also the bare flag),
            or of PSDS1 on those of AudioSet-strong's: 16,996 clips, 407 classes; index: seconds and memory of the start
            of a training on packs of 2,000,000 clips
        detect: real-time factors of detection instead, of all backbones

    Example:
        --recipe iteration2_stage1_atst --seconds 5
    """
    if metrics == "index":
        from task4_sed.evaluation.benchmark_index import benchmark_index

        return benchmark_index(run.task.recipes)
    if metrics:
        from task4_sed.evaluation.benchmark_metrics import benchmark_audioset, benchmark_metrics

        return {"seconds": benchmark_audioset() if metrics == "audioset" else benchmark_metrics()}
    if detect:
        from task4_sed.evaluation.benchmark_detect import benchmark_detect

        return benchmark_detect(min(seconds, 5.0))
    rates: Mapping[str, Any] = run.config.system.does("benchmark")(run, seconds)
    return rates


def _of_all(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What a verb returns: the result of its single run, or those of all."""
    return results[0] if len(results) == 1 else {"runs": list(results)}


TASK = Task(
    "task4_sed",
    "Task 4: sound event detection with heterogeneous labels (DCASE 2024, DESED and MAESTRO)",
    Config,
    (
        prepare,
        train,
        predict,
        detect,
        stream,
        pseudo_labels,
        evaluate,
        package,
        validate,
        compare,
        runs,
        pipeline,
        demo,
        complexity,
        export,
        benchmark,
    ),
)


def console() -> int:
    """The command `task4_sed` of an installed package."""
    return main(TASK)


if __name__ == "__main__":
    sys.exit(console())
