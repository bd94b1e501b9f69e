"""The stages around training: each reads files and writes files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.audio.coverage import root_of
from common.run.errors import UserError, did_you_mean
from common.run.files import existing_file, existing_folder, write_json, write_rows
from common.run.processes import usable_cores
from common.run.results.store import read_results, record
from common.run.results.tables import print_table
from common.run.verbs import Run
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.layout import TEST_PARTS, Part, parse_clip
from task2_anomaly.data.sets import machines_of, pack_of, packed
from task2_anomaly.evaluation import firstshot
from task2_anomaly.evaluation.evaluate import evaluate, intervals, summary, write_result
from task2_anomaly.inference import ensemble as combining
from task2_anomaly.inference.scores import (
    Truth,
    decision_file,
    read_ground_truth,
    read_scores,
    score_file,
    truth_of_names,
    write_decisions,
    write_scores,
)
from task2_anomaly.inference.thresholds import decide, threshold

GROUND_TRUTH = "eval_data_list.csv"
ENSEMBLE = "ensemble.json"


def is_first_shot(folder: Path) -> bool:
    """Whether a folder of scores has the names of the first-shot editions."""
    return any(folder.glob("anomaly_score_*_section_*.csv"))


# ------------------------------------------------------------------------------------------------------------ training


def train_run(run: Run, jobs: int | None, restart: bool) -> Mapping[str, Any]:
    """Train every machine of a run, or fine-tune the encoder of the second system."""
    config: Config = run.config
    if config.model.kind == "embedding":
        from task2_anomaly.training import finetuning

        finetuning.train(run, restart)
        return {"run": run.number, "finetuned": config.embedding.finetune}
    from task2_anomaly.training.pool import train_machines
    from task2_anomaly.training.train import compute_features

    machines = machines_of(config.data)
    devices = gpus()
    compute_features([run], machines)
    train_machines(run, machines, jobs or default_jobs(devices), restart, devices)
    values = read_results(run.folder)["train"]["values"]
    rows = [[str(m), *_figures(run, m)] for m in machines]
    print_table(f"{run.folder}: trained", ["machine", "epochs", "steps", "loss"], rows)
    return {"run": run.number, "seed": run.seed, "machines": len(machines), "kwh": values["kwh"]}


def _figures(run: Run, machine: Machine) -> list[str]:
    values = read_results(run.folder / "machines" / str(machine))["train"]["values"]
    return [str(values["epochs"]), str(values["steps"]), f"{values['best'].get('train/loss', float('nan')):.4f}"]


def gpus() -> int:
    """GPUs that are there."""
    import torch

    return torch.cuda.device_count()


def default_jobs(gpus: int) -> int:
    """Trainings at once: one per core, or four per GPU."""
    return 4 * gpus if gpus else usable_cores()


# ---------------------------------------------------------------------------------------------------------- prediction


def predict_run(run: Run) -> Mapping[str, Any]:
    """Score files of the run's machines on the test sets."""
    config: Config = run.config
    machines = machines_of(config.data)
    if config.model.kind == "embedding":
        from task2_anomaly.inference.embedding import predict_sets
    else:
        from task2_anomaly.inference.predict import predict_sets
    counts = predict_sets(run, machines)
    record(run.folder, "predict", {"clips": counts})
    return {"scores": str(run.folder / "scores"), "clips": counts}


def judge_files(run: Run, files: list[Path], machine: str | None) -> Mapping[str, Any]:
    """Scores and decisions for named recordings of one machine."""
    from common.audio.reading import audio_files

    if run.config.model.kind == "embedding":
        from task2_anomaly.inference.embedding import predict_files
    else:
        from task2_anomaly.inference.predict import predict_files
    if machine is None:
        raise UserError("predict FILES needs --machine, e.g. --machine fan_id_00: every network knows one machine")
    known = {str(m): m for m in machines_of(run.config.data)}
    if machine not in known:
        raise UserError(f"--machine: no machine {machine!r} here{did_you_mean(machine, known)}")
    found = predict_files(run, known[machine], audio_files(files))
    rows = [[str(v.file), f"{v.score:.4f}", f"{v.limit:.4f}", "ANOMALY" if v.anomalous else "normal"] for v in found]
    print_table(f"recordings of {machine}", ["file", "score", "threshold", "decision"], rows)
    files_json = [{"file": str(v.file), "score": v.score, "anomalous": v.anomalous} for v in found]
    return {"threshold": found[0].limit, "files": files_json}


# ---------------------------------------------------------------------------------------------------------- evaluation


def truths_of(config: Config, part: Part) -> list[Truth]:
    """Labels of a test part, as far as there are any: out of the names, or out of the published lists in data.root.

    These are eval_data_list.csv of 2020, and the three folders ground_truth_* of the first-shot editions.
    """
    from common.audio.packs import open_pack

    try:
        machines = [machine for _, machine in packed(config.data, (part,))]
    except UserError:
        return []
    names = {machine: list(open_pack(pack_of(config.data, part, machine)).names) for machine in machines}
    labelled = [m for m in machines if parse_clip(names[m][0]).label is not None]
    found = [truth_of_names(names[m], m) for m in labelled]
    if part == "eval_test" and not found:
        root = root_of(config.data)
        if (root / GROUND_TRUTH).is_file():
            found = read_ground_truth(root / GROUND_TRUTH)
        elif (root / "ground_truth_data").is_dir():
            found = firstshot.as_truths(firstshot.read_truth(root))
    return [truth for truth in found if truth.machine in names]


def evaluate_run(run: Run, plots: bool) -> Mapping[str, Any]:
    """Metrics of a run's stored scores on the test sets that have labels, of the machines that the recipe names."""
    from task2_anomaly.evaluation.report import evaluate_run as score

    config: Config = run.config
    chosen = set(machines_of(config.data))
    truths = {part: [t for t in truths_of(config, part) if t.machine in chosen] for part in TEST_PARTS}
    quantile = config.scoring.decision_quantile
    return score(run.folder, truths, toy=bool(config.data.toy), plots=plots, quantile=quantile)


def compare_with_published(runs: Sequence[Run]) -> Mapping[str, Any]:
    """Machines and types beside the published system, and own results among the published ones."""
    from task2_anomaly.evaluation.report import compare_runs, report_runs

    folders, recipe = [run.folder for run in runs], runs[0].recipe
    report = report_runs(folders, recipe)
    return {"report": report, "comparison": compare_runs(folders, recipe, runs[0].config.data.edition)}


def evaluate_scores(folder: Path, ground_truth: Path, out: Path | None, draws: int = 200) -> Mapping[str, Any]:
    """Score anybody's folder; the edition follows from its file names."""
    existing_folder(folder, "scores")
    if is_first_shot(folder):
        return _evaluate_first_shot(folder, ground_truth, out)
    result = evaluate(folder, read_ground_truth(existing_file(ground_truth, "ground truth")))
    found = summary(result)
    rows = []
    for kind in result.types():
        for r in result.of_type(kind):
            between = intervals(r, draws)
            found["machines"][str(r.machine)]["intervals"] = between
            rows.append([str(r.machine), _with(r.auc, between["auc"]), _with(r.pauc, between["pauc"])])
        rows.append([f"{kind}, mean over IDs", *map(_plain, result.averages()[kind])])
    rows.append(["mean over types", *map(_plain, result.overall())])
    note = "; ".join(result.problems.values()) or "pAUC: McClish-standardised, max FPR 0.1; 95 % bootstrap over clips"
    print_table(f"scores of {folder.name}", ["machine", "AUC", "pAUC"], rows, note=note)
    if out is not None:
        write_result(out, result)
    if result.problems:
        raise UserError(f"{next(iter(result.problems.values()))} ({len(result.problems)} machines were not scored)")
    return found


def _evaluate_first_shot(folder: Path, ground_truth: Path, out: Path | None) -> Mapping[str, Any]:
    result = firstshot.evaluate(folder, firstshot.read_truth(existing_folder(ground_truth, "ground truth")))
    if out is not None:
        firstshot.write_result(out, result)
    rows = [
        [
            f"{v.type}, section {v.section}",
            *(f"{x:.4f}" for x in (*v.auc_domain, v.pauc)),
            *(f"{d[2]:.3f}" for d in v.per_domain),
        ]
        for v in result.sections
    ]
    columns = ["machine type", "AUC source", "AUC target", "pAUC", "F1 source", "F1 target"]
    note = f"official score {result.score:.4f} ± {result.interval:.4f} (95 %, jackknife over clips)"
    print_table(f"scores of {folder.name}", columns, rows, note=note)
    sections = [v._asdict() for v in result.sections]
    return {"official_score": result.score, "interval": result.interval, "sections": sections}


def _plain(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _with(value: float | None, between: tuple[float, float]) -> str:
    return "n/a" if value is None else f"{value:.4f} [{between[0]:.3f}, {between[1]:.3f}]"


def combine_scores(
    folders: Sequence[Path], out: Path, method: combining.Method, quantile: float = 0.9
) -> Mapping[str, Any]:
    """An ensemble of score folders; or of runs, with decisions, which can be evaluated and packaged like a run."""
    parts = [part for part in TEST_PARTS if folders and (folders[0] / "scores" / part).is_dir()]
    for part in parts:
        members, scores = [folder / "scores" / part for folder in folders], out / "scores" / part
        machines = combining.combine_folders(members, scores, method)
        for machine in machines if method != "rank" else ():  # ranks of normal clips and of test clips do not compare
            normal = _combined_normal([of / combining.NORMAL / score_file(machine) for of in members], method)
            write_scores(scores / combining.NORMAL / score_file(machine), normal)
            limit = threshold(list(normal.values()), quantile)
            write_decisions(scores / decision_file(machine), decide(read_scores(scores / score_file(machine)), limit))
    if not parts:
        machines = combining.combine_folders(folders, out, method)
    about = {"members": [str(folder) for folder in folders], "method": method}
    write_json(out / ENSEMBLE, about)
    print(f"{out}: {len(machines)} machines, {method} of {len(folders)}")
    return {"out": str(out), "machines": [str(m) for m in machines], **about}


def _combined_normal(paths: Sequence[Path], method: combining.Method) -> dict[str, float]:
    """Scores of the normal training clips that all members have held out."""
    members = [read_scores(path) for path in paths]
    common = set.intersection(*(set(member) for member in members))
    if not common:
        raise UserError(f"ensemble: {paths[0]} and the other members have no held-out clip in common")
    kept = [{name: score for name, score in member.items() if name in common} for member in members]
    return combining.combine(kept, method, [list(member.values()) for member in members])


def rank_systems(folders: Sequence[Path], ground_truth: Path, out: Path | None) -> Mapping[str, Any]:
    """Several folders against each other: the ranking of 2020, or the official summary of the first-shot editions."""
    from task2_anomaly.evaluation.evaluate import ranks

    if all(is_first_shot(folder) for folder in folders):
        truth = firstshot.read_truth(ground_truth)
        results = [firstshot.evaluate(folder, truth) for folder in folders]
        if out is not None:
            firstshot.write_summary(out, results)
        order = {r.system: r.score for r in sorted(results, key=lambda r: -r.score)}
        print_table("official score", ["system", "score"], [[n, f"{v:.4f}"] for n, v in order.items()])
        return {"official_score": order}
    systems = [evaluate(folder, read_ground_truth(ground_truth)) for folder in folders]
    for system in systems:
        if system.problems:
            raise UserError(next(iter(system.problems.values())))
    mean_ranks = dict(sorted(ranks(systems).items(), key=lambda item: item[1]))
    overall = {system.system: system.overall() for system in systems}
    rows = [[name, f"{rank:.2f}", *map(_plain, overall[name])] for name, rank in mean_ranks.items()]
    note = "mean rank: over AUC and pAUC of each machine type; AUC, pAUC: means over IDs, then types"
    print_table("ranking of 2020", ["system", "mean rank", "AUC", "pAUC"], rows, note=note)
    if out is not None:
        write_rows(out, ("system", "mean_rank"), mean_ranks.items())
    return {"mean_rank": mean_ranks}
