"""Own runs: stored scores -> metrics with intervals, floors to compare with, plots; own beside published results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError
from common.run.files import existing_file
from common.run.plots import save
from common.run.processes import all_done, default_jobs
from common.run.results.comparison import CAVEATS, MetricColumn, read_baselines
from common.run.results.ensembles import called
from common.run.results.runs import Place, beside_published, kept, own_values, section_of
from common.run.results.store import read_results, record
from common.run.results.tables import format_value, print_table
from common.run.tensorboard import summarise
from common.run.verbs import Run
from task4_sed.config import Config
from task4_sed.data.annotations import read_soft, read_strong
from task4_sed.data.classes import MAESTRO_CLASSES, SAMPLE_RATE, median_frames, scored_classes
from task4_sed.data.layout import SETS
from task4_sed.data.sets import classes_of, first_existing, read_annotation
from task4_sed.evaluation.classes import draw_training
from task4_sed.evaluation.evaluate import bootstrap_psds, evaluate_files, threshold_free_curves
from task4_sed.evaluation.plots import SET_NAMES, draw_events, per_class, psd_roc, segment_roc
from task4_sed.inference.ensemble import training_kwh
from task4_sed.inference.networks import OTHER, check_network
from task4_sed.inference.postprocess.boxes import parse_csebbs
from task4_sed.inference.postprocess.csebbs import CSEBBS_FILE, CsebbsParameters, write_parameters
from task4_sed.inference.postprocess.tuning import grid, tune_csebbs
from task4_sed.inference.scores import FLOORS, stored_scores
from task4_sed.metrics.truth import truth_arrays
from task4_sed.metrics.types import ClipScores, ScoreSet, clip_name

SHOWN = ("psds1", "psds2", "intersection_f1_th0.5_dtc0.5_gtc0.5", "collar_f1_th0.5_200ms_20pct", "segment_f1_th0.5_1s")
DRAWS = 200
ROLL_THRESHOLD = 0.3
ROLLS = 3  # clips of each test set that are drawn
# What boxes are called, in results and in tables: tuned on other data, or on the very clips that they are scored on.
BOXES = {"csebbs": "csebbs", "csebbs_tuned_on_test": "csebbs tuned on the test set"}
CROSS_VALIDATED = {"csebbs_cross_validated": "csebbs tuned there, 5-fold cross-validated"}


def caveat_of(data: str) -> str | None:
    """What tables and plots must say of results on toy data or an own data set."""
    caveat = CAVEATS[data]
    return caveat.text if caveat else None


@dataclass(frozen=True)
class TestSet:
    """The files that a test set's scores are evaluated against."""

    name: str
    scores: Path
    truth: Path
    durations: Path

    @property
    def soft(self) -> bool:
        """Whether the labels are MAESTRO's."""
        return SETS[self.name].kind == "soft"

    def files(self, scores: Path | None = None) -> tuple[Path, Path, Path]:
        """Arguments of `evaluate`."""
        return (scores or self.scores, self.truth, self.durations)


def open_test_set(run: Run, name: str) -> TestSet:
    """The files of a test set; UserError where one is missing."""
    root, layout = root_of(run.config.data), SETS[name]
    scores = existing_file(run.folder / "scores" / f"{name}.h5", "scores (`predict` makes them)")
    truth, durations = first_existing(root, layout.annotation), first_existing(root, layout.durations)
    if truth is None or durations is None:
        missing = (layout.durations if durations is None else layout.annotation) or ("its ground truth",)
        raise UserError(f"{root / missing[0]}: not found; {name} cannot be scored")
    return TestSet(name, scores, truth, durations)


def evaluate_runs(runs: Sequence[Run], plots: bool = True) -> list[dict[str, Any]]:
    """Score the stored test scores of every run, several at once, and print their tables."""
    found: list[dict[str, Any]] = all_done(evaluate_run, [(run, plots) for run in runs], default_jobs(threads=1))
    for run, results in zip(runs, found, strict=True):
        print_table(*_table(run, results), note=caveat_of(results["data"]))
        for variants in results["sets"].values():
            for variant, values in variants.items():
                for line in values.get("ruler", {}).get("differences", ()):
                    print(f"note: {variant}: {line}")
    return found


def evaluate_run(run: Run, plots: bool = True) -> dict[str, Any]:
    """Score a run's stored test scores; writes results.json, csebbs.tsv and plots."""
    config: Config = run.config
    check_network(run.folder, config.postprocess.network)
    filtered = filter_of(config)
    csebbs, cross_validated = tune(run)
    tests = {name: open_test_set(run, name) for name in config.test_sets}
    results: dict[str, Any] = {"data": made_of(root_of(config.data)), "network": config.postprocess.network}
    results |= {"sets": {}, "csebbs": csebbs}
    for name, test in tests.items():
        results["sets"][name] = evaluate_set(run, test, filtered, csebbs)
    strong = next((t for t in tests.values() if not t.soft), None)
    soft = next((t for t in tests.values() if t.soft), None)
    if strong is not None:
        maestro = soft.files() if soft else None
        results["intervals"] = bootstrap_psds(
            *strong.files(), maestro=maestro, draws=DRAWS, median_filter=filtered, allow_missing=True
        )
        boxed = bootstrap_psds(*strong.files(), draws=DRAWS, csebbs=csebbs, allow_missing=True)
        results["intervals"][f"psds1_{boxes_of(config, strong.name)}"] = boxed["psds1"]
        if config.postprocess.tune_on == [strong.name]:
            (name,) = CROSS_VALIDATED
            results["sets"][strong.name][name] = {"psds1": cross_validated}
    record(run.folder, "test", results)
    if plots:
        draw_run(run, strong, soft, filtered, csebbs, results)
    figures = {name: kept(read_results(run.folder), place.value) for name, place in OWN_METRICS.items()}
    rolls = sorted((run.folder / "plots").glob("roll_*.png")) if plots else []
    summarise(run, figures, {f"rolls/{path.stem.removeprefix('roll_')}": path for path in rolls})
    return results


def evaluate_set(run: Run, test: TestSet, filtered: Mapping[str, int] | bool, csebbs: str) -> dict[str, dict[str, Any]]:
    """Metrics of one test set, per post-processing; of the other network and the floors where they were predicted.

    Final figures, those of the median filter and of cSEBBs, are sed_scores_eval's; the others only stand beside them.
    """
    variants: dict[str, dict[str, Any]] = {
        "raw": evaluate_files(*test.files(), allow_missing=True, ruler=False),
        "median": evaluate_files(*test.files(), median_filter=filtered, allow_missing=True),
    }
    if not test.soft:
        variants[boxes_of(run.config, test.name)] = evaluate_files(*test.files(), csebbs=csebbs, allow_missing=True)
    for beside in (OTHER[run.config.postprocess.network], *FLOORS):
        scores = run.folder / "scores" / beside / f"{test.name}.h5"
        if scores.is_file():
            variants[beside] = evaluate_files(
                *test.files(scores), median_filter=filtered, allow_missing=True, ruler=False
            )
    return variants


def filter_of(config: Config) -> Mapping[str, int] | bool:
    """The median filter of a recipe as `evaluate_files` takes it: {class: frames}, or False."""
    classes, same = classes_of(root_of(config.data)), config.postprocess.median_frames
    if not config.postprocess.median_filter:
        return False
    return median_frames(classes) if same is None else dict.fromkeys(classes, same)


def csebbs_of(run: Run) -> str:
    """The cSEBBs setting of an evaluated run as `evaluate_files` takes it: where it was tuned, what came of that."""
    tuned = run.config.postprocess.csebbs.startswith("tune")
    return str(run.folder / CSEBBS_FILE) if tuned else str(run.config.postprocess.csebbs)


def boxes_of(config: Config, name: str) -> str:
    """Which of BOXES a recipe gives of a test set."""
    tuned = config.postprocess.csebbs.startswith("tune") and name in config.postprocess.tune_on
    return "csebbs_tuned_on_test" if tuned else "csebbs"


def shown_boxes(boxes: str) -> str:
    """What pictures and tables of figures call one of BOXES."""
    return BOXES[boxes].replace("csebbs", "cSEBBs")


def tune(run: Run) -> tuple[str, float | None]:
    """The cSEBBs setting of a recipe as `evaluate` takes it; tuned on `postprocess.tune_on` where the recipe says so.

    With the cross-validated PSDS1 of the data that it was tuned on.
    """
    mode, _, name = run.config.postprocess.csebbs.partition(":")
    if mode != "tune":
        return str(run.config.postprocess.csebbs), None
    config: Config = run.config
    root = root_of(config.data)
    classes = classes_of(root)
    clips, events, durations = {}, {}, {}
    for of in config.postprocess.tune_on:
        scores = stored_scores(run.folder / "scores" / f"{of}.h5")
        annotation = read_annotation(root, SETS[of], classes)
        for clip, of_clip in annotation.events.items():
            stem = clip_name(clip)
            if of_clip and stem in scores.clips:
                clips[stem], events[stem] = scores.clips[stem], of_clip
                durations[stem] = annotation.durations.get(clip, float(scores.clips[stem].edges[-1]))
    present = {event.label for of_clip in events.values() for event in of_clip}
    chosen = [label for label in scored_classes(classes) if label in present]
    truth = truth_arrays(events, durations, chosen)
    tuned = tune_csebbs(ScoreSet(classes, clips), truth, grid(name or "default"))
    parameters = {label: tuned.parameters.get(label, CsebbsParameters()) for label in scored_classes(classes)}
    write_parameters(run.folder / CSEBBS_FILE, parameters)
    return str(run.folder / CSEBBS_FILE), tuned.cross_validated


def draw_run(
    run: Run,
    strong: TestSet | None,
    soft: TestSet | None,
    filtered: Mapping[str, int] | bool,
    csebbs: str,
    results: Mapping[str, Any],
) -> None:
    """Draw everything into <run>/plots."""
    plots, note, network = run.folder / "plots", caveat_of(results["data"]), results["network"]
    about = f"{run.title}, {network}, {'median filter' if filtered else 'scores without post-processing'}"
    draw_training(run, note)
    if strong is not None:
        curve = threshold_free_curves(*strong.files(), median_filter=filtered, allow_missing=True)["psds1"]
        figure = psd_roc(
            curve["effective"], curve["area"], curve["classes"], name="PSDS1", note=note,
            title=f"PSD-ROC: {SET_NAMES.get(strong.name, strong.name)}\n{about}",
        )  # fmt: skip
        save(figure, plots / "psd_roc.png")
        title = f"figures of each class: {SET_NAMES.get(strong.name, strong.name)}\n{run.title}, {network}"
        _draw_classes(
            results["sets"][strong.name], boxes_of(run.config, strong.name), title, note, plots / "classes.png"
        )
        _draw_rolls(run, strong, csebbs, note, plots)
    if soft is not None:
        roc = threshold_free_curves(*soft.files(), median_filter=filtered, allow_missing=True)["segment_roc"]
        title = f"ROC of segments: {SET_NAMES.get(soft.name, soft.name)}\n{about}"
        save(segment_roc(roc["classes"], roc["areas"], title=title, note=note), plots / "maestro_roc.png")
        _draw_rolls(run, soft, csebbs, note, plots)


def _draw_classes(variants: Mapping[str, Any], boxed: str, title: str, note: str | None, path: Path) -> None:
    median, boxes = variants["median"]["classes"], variants[boxed]["classes"]
    metrics = {
        "PSDS1 (median filter)": median["psds1_single_class"],
        f"PSDS1 ({shown_boxes(boxed)})": boxes["psds1_single_class"],
        "collar F1": median["collar_f1_th0.5_200ms_20pct"],
    }
    save(per_class(list(median["psds1_single_class"]), metrics, title=title, note=note), path)


def _draw_rolls(run: Run, test: TestSet, csebbs: str, note: str | None, plots: Path) -> None:
    """Truth against scores over the spectrogram, for the clips with the most different classes."""
    from common.audio.reading import load
    from task4_sed.inference.detect import boxes_title
    from task4_sed.inference.events import events_of
    from task4_sed.inference.predict import log_mel
    from task4_sed.model.networks import front_end

    audio = first_existing(root_of(run.config.data), SETS[test.name].audio)
    if audio is None:
        return
    truth = (read_soft if test.soft else read_strong)(test.truth)
    scores = stored_scores(test.scores)
    ranked = sorted(truth, key=lambda name: (-len({e.label for e in truth[name] if e.confidence > 0.5}), name))
    parameters, features = parse_csebbs(csebbs), front_end(run.config.model)
    shown = MAESTRO_CLASSES if test.soft else scored_classes(scores.classes)
    columns = [scores.classes.index(label) for label in shown]
    soft = "scores without post-processing; annotated: the paler, the less certain"
    tuned_here = " tuned on the test set" if boxes_of(run.config, test.name) != "csebbs" else ""
    boxes = soft if test.soft else f"{boxes_title(csebbs, ROLL_THRESHOLD)}{tuned_here}"
    about = f"{SET_NAMES.get(test.name, test.name)}; {run.title}, {run.config.postprocess.network}\n{boxes}"
    for name in [name for name in ranked if clip_name(name) in scores.clips][:ROLLS]:
        clip = scores.clips[clip_name(name)]
        one = ScoreSet(shown, {clip_name(name): ClipScores(clip.edges, clip.scores[:, columns])})
        heard = load(audio / name, SAMPLE_RATE)[: round(clip.edges[-1] * SAMPLE_RATE)]
        draw_events(
            plots / f"roll_{test.name}_{clip_name(name)}.png",
            log_mel(features, [heard]),
            one,
            [] if test.soft else events_of(one, parameters, ROLL_THRESHOLD),
            threshold=ROLL_THRESHOLD,
            truth=truth[name],
            title=name,
            note=note,
            setting=features.setting,
            about=about,
        )


def _table(run: Run, results: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows: a row per post-processing, one of the other network, of each floor; metrics beside."""
    intervals = results.get("intervals", {})
    strong = [values for name, values in results["sets"].items() if SETS[name].kind != "soft"]
    soft = [values for name, values in results["sets"].items() if SETS[name].kind == "soft"]
    rows, other = [], OTHER[results["network"]]
    names = {**BOXES, **CROSS_VALIDATED, other: f"{other}, median", **FLOORS}
    for variant in ("median", "raw", *names):
        if not any(variant in of for of in (*strong, *soft)):
            continue
        cells = []
        for metric in SHOWN:
            value = strong[0].get(variant, {}).get(metric) if strong else None
            key = metric if variant == "median" else f"{metric}_{variant}"
            cells.append(_cell(value, intervals.get(key)))
        mpauc = soft[0].get(variant, {}).get("segment_pauroc_1s_maxfpr0.1_step") if soft else None
        cells.append(_cell(mpauc, intervals.get("mpauc") if variant == "median" else None))
        rows.append([names.get(variant, variant), *cells])
    columns = ["scores", "PSDS1", "PSDS2", "intersection F1", "collar F1", "segment F1", "MAESTRO mpAUC"]
    sets = ", ".join(results["sets"])
    return f"{run.task.name} {called(run)}, training {run.number}, {results['network']}: {sets}", columns, rows


def _cell(value: float | None, interval: Mapping[str, float] | None) -> str:
    low, high = (interval["low"], interval["high"]) if interval else (None, None)
    return format_value(value, low, high)


def compare_runs(runs: Sequence[Run]) -> Mapping[str, Any]:
    """Own results, mean and spread over the runs, beside the published ones; table, csv, markdown and plot."""
    found: Mapping[str, Any] = runs[0].config.system.does("compare")(runs)
    return found


def compare_challenge(runs: Sequence[Run]) -> Mapping[str, Any]:
    """`compare_runs` of the challenge's recipes."""
    folders = [run.folder for run in runs]
    tests = [section_of(folder, "test", "no test results; `evaluate` makes them") for folder in folders]
    data = tests[0]["data"]
    results = [read_results(folder) for folder in folders]
    for folder, of in zip(folders, results, strict=True):
        if "train" in of:
            of["train"]["values"]["kwh"] = training_kwh(folder)
    own, comparable = own_values(results, OWN_METRICS), data != "recordings"
    return beside_published(
        folders,
        called(runs[0]),
        own,
        [column for column in COLUMNS if column.key in own or comparable],
        read_baselines(Path(__file__).parents[1] / "baselines.csv") if comparable else [],
        title="Task 4 of DCASE 2024",
        caveat=CAVEATS[data],
        reference=BASELINE if comparable else None,
    )


BASELINE = "Baseline 2024"
COLUMNS = (
    MetricColumn("psds1", "devtest", "PSDS1"),
    MetricColumn("psds1_csebbs", "devtest", "PSDS1 cSEBBs"),
    MetricColumn("mpauc", "devtest", "mpAUC", chance=0.05),  # of the rates up to 0.1
    MetricColumn("kwh_train", "devtest", "training energy", higher_is_better=False, unit="kWh"),
    MetricColumn("kwh_test", "devtest", "test energy", higher_is_better=False, unit="kWh"),
    MetricColumn("psds1_csebbs_tuned_on_test", "devtest", "PSDS1 cSEBBs tuned on the test set"),
)
SETS_OF_TEST, INTERVALS = ("test", "values", "sets"), ("test", "values", "intervals")
MPAUC = "segment_pauroc_1s_maxfpr0.1_step"
# Where results.json keeps each figure.
OWN_METRICS = {
    "devtest/psds1": Place((*SETS_OF_TEST, "devtest", "median", "psds1"), (*INTERVALS, "psds1")),
    **{
        f"devtest/psds1_{boxes}": Place((*SETS_OF_TEST, "devtest", boxes, "psds1"), (*INTERVALS, f"psds1_{boxes}"))
        for boxes in BOXES
    },
    "devtest/mpauc": Place((*SETS_OF_TEST, "maestro_val", "median", MPAUC), (*INTERVALS, "mpauc")),
    "devtest/kwh_train": Place(("train", "values", "kwh")),
    "devtest/kwh_test": Place(("predict", "values", "kwh")),
}


def mean_of(runs: Sequence[Run], metric: str) -> float:
    """Mean over the runs of one of OWN_METRICS; UserError where a run has none."""
    values = [kept(read_results(run.folder), OWN_METRICS[metric].value) for run in runs]
    for run, value in zip(runs, values, strict=True):
        if value is None:
            raise UserError(f"{run.folder / 'results.json'}: no {metric}; `evaluate` makes it")
    return float(np.mean(values))
