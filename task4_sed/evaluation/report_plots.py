"""The pictures of a run: training curves, event rolls, PSD-ROC, figures per class, MAESTRO's ROC."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.audio.reading import load
from common.run.files import sha256
from common.run.plots import read_metrics, save, training_curves
from common.run.results.store import read_results
from common.run.verbs import Run
from task4_sed.data.annotations import read_soft, read_strong
from task4_sed.data.classes import MAESTRO_CLASSES, SAMPLE_RATE
from task4_sed.data.layout import SETS
from task4_sed.data.sets import first_existing, root_of
from task4_sed.evaluation.evaluate import threshold_free_curves
from task4_sed.evaluation.plots import per_class, psd_roc, segment_roc
from task4_sed.inference.scores import ClipScores, ScoreSet, clip_name
from task4_sed.training.validation import scored_classes

if TYPE_CHECKING:
    from task4_sed.evaluation.report import TestSet

ROLLS = 3  # clips of each test set that are drawn


def draw_run(
    run: Run,
    strong: "TestSet | None",
    soft: "TestSet | None",
    filtered: Mapping[str, int] | bool,
    csebbs: str,
    results: Mapping[str, Any],
) -> None:
    """Draw everything into <run>/plots."""
    from task4_sed.evaluation.report import caveat_of

    plots, note = run.folder / "plots", caveat_of(results["data"])
    if (run.folder / "metrics.csv").is_file():
        curves = read_metrics(run.folder / "metrics.csv")
        monitor = "val/objective" if "val/objective" in curves else None
        save(training_curves(curves, monitor=monitor, title="training", note=note), plots / "training.png")
    if strong is not None:
        curve = threshold_free_curves(*strong.files(), median_filter=filtered, allow_missing=True)["psds1"]
        figure = psd_roc(
            curve["effective"], curve["area"], curve["classes"], name="PSDS1", title=strong.name, note=note
        )
        save(figure, plots / "psd_roc.png")
        _draw_classes(results["sets"][strong.name], strong.name, note, plots / "classes.png")
        _draw_rolls(run, strong, csebbs, note, plots)
    if soft is not None:
        roc = threshold_free_curves(*soft.files(), median_filter=filtered, allow_missing=True)["segment_roc"]
        save(segment_roc(roc["classes"], roc["areas"], title=soft.name, note=note), plots / "maestro_roc.png")
        _draw_rolls(run, soft, csebbs, note, plots)


def _draw_classes(variants: Mapping[str, Any], title: str, note: str | None, path: Path) -> None:
    median, boxes = variants["median"]["classes"], variants["csebbs"]["classes"]
    metrics = {
        "PSDS1 (median filter)": median["psds1_single_class"],
        "PSDS1 (cSEBBs)": boxes["psds1_single_class"],
        "collar F1": median["collar_f1_th0.5_200ms_20pct"],
    }
    save(per_class(list(median["psds1_single_class"]), metrics, title=title, note=note), path)


def _draw_rolls(run: Run, test: "TestSet", csebbs: str, note: str | None, plots: Path) -> None:
    """Truth against scores over the spectrogram, for the clips with the most different classes."""
    from task4_sed.evaluation.evaluate import parse_csebbs
    from task4_sed.evaluation.report import stored_scores
    from task4_sed.inference.checkpoints import load_network
    from task4_sed.inference.detect import draw, events_of
    from task4_sed.inference.predict import Predictor

    truth = (read_soft if test.soft else read_strong)(test.truth)
    audio = first_existing(root_of(run.config.data), SETS[test.name].audio)
    scores = stored_scores(test.scores)
    ranked = sorted(truth, key=lambda name: (-len({e.label for e in truth[name] if e.confidence > 0.5}), name))
    chosen = [name for name in ranked if clip_name(name) in scores.clips][:ROLLS]
    recorded = read_results(run.folder).get("checkpoint", {}).get("values", {})
    checkpoint = run.folder / recorded.get("file", "checkpoints/best.ckpt")
    if audio is None or not checkpoint.is_file():
        return
    assert recorded.get("sha256") in (None, sha256(checkpoint))
    predictor = Predictor(load_network(checkpoint, run.config.postprocess.network), "cpu")
    parameters = parse_csebbs(csebbs)
    shown = MAESTRO_CLASSES if test.soft else scored_classes(scores.classes)
    columns = [scores.classes.index(label) for label in shown]
    for name in chosen:
        clip = scores.clips[clip_name(name)]
        one = ScoreSet(shown, {clip_name(name): ClipScores(clip.edges, clip.scores[:, columns])})
        boxed = [] if test.soft else events_of(one, parameters, 0.3)
        draw(
            predictor,
            plots / f"roll_{test.name}_{clip_name(name)}.png",
            load(audio / name, SAMPLE_RATE),
            one,
            boxed,
            threshold=0.3,
            truth=truth[name],
            title=f"{test.name}: {name}",
            note=note,
        )
