"""Submissions of own runs, trainings or ensembles: a system for each run, its stored outputs in an edition's form."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError, brief
from common.run.results.ensembles import trained_run, trainings_of
from common.run.results.runs import section_of
from common.run.submission.measure import mark
from common.run.submission.meta import identity
from common.run.submission.package import (
    Packed,
    build_submission,
    check_name,
    described,
    labels_of,
    passing_meta,
    refuse_errors,
    report_of,
)
from common.run.verbs import Run
from task6_retrieval.config import CHALLENGE, WAVCAPS, Config
from task6_retrieval.data.layout import challenge_of, excluded_ids, needed
from task6_retrieval.evaluation.report import NO_TEST
from task6_retrieval.inference.outputs import Scores, scores_of
from task6_retrieval.inference.scores import write_best, write_scores
from task6_retrieval.submission.meta import (
    EDITIONS,
    SYSTEMS,
    SubmissionMeta,
    datasets_of,
    description_of,
    edition_of,
    meta_yaml,
)
from task6_retrieval.submission.rules import check_meta, label_problem
from task6_retrieval.submission.tables import Expected, check_output
from task6_retrieval.submission.validate import expected_of, validate_outputs


def package_runs(
    runs: Sequence[Run], out: Path | None, report: Path | None, edition: int | None, named: Sequence[str] | None
) -> Mapping[str, Any]:
    """Build and validate the archive: a system for each run, or for each of `named`, recipes or run folders.

    Nothing is written where a rule is broken.
    """
    run, config = runs[0], runs[0].config
    if (about := described(run)) is None:
        return {}
    out = out or run.folder.parent / "submission.zip"
    check_name(out)
    year = edition or edition_of(about.label)
    team, number = "_".join(about.label.split("_")[:2]), about.label.rpartition("_")[2]
    about = replace(about, label=f"{team}_{EDITIONS[year].task}_{number}")
    systems = [trained_run(run.task, name, run.number) for name in named] if named else runs
    expected, _ = expected_of(config.data, None, None)
    submitted = CHALLENGE if challenge_of(config.data) else config.data.test
    packed = [
        packed_system(
            system, identity(replace(system.config.submission or about, label=label)), year, expected, submitted
        )
        for system, label in zip(systems, labels_of(systems, about, SYSTEMS), strict=True)
    ]
    build_submission(out, packed, report_of(about, report))
    mark(out, made_of(root_of(config.data)))
    print(f"{out}: {len(packed)} system{'s' if len(packed) > 1 else ''}")
    return validate_outputs(run, [out], year)


def packed_system(run: Run, who: Mapping[str, Any], year: int, expected: Expected, name: str) -> Packed:
    """Meta file and output of a run for the data set `name`. Raises UserError for what the rules forbid."""
    from task6_retrieval.evaluation.complexity import parameters  # torch

    trainings = trainings_of(run)
    for training in trainings:
        check_allowed(training, name)
    configs: list[Config] = [training.config for training in trainings]
    meta = SubmissionMeta(
        **who,
        external_datasets=datasets_of(configs),
        edition=year,
        description=description_of(configs),
        total_parameters=sum(map(parameters, configs)),
        results=results_of(run),
    )
    text = meta_yaml(meta)
    passing_meta(meta, label_problem(meta.label, year), check_meta(text, meta.label, "meta data", year))
    data = output_of(scores_of(run, name), expected.queries, year)
    refuse_errors(check_output(data, f"{run.folder}, {name}", year, expected))
    return Packed(meta, text, {f"{meta.label}.output.csv": data})


def results_of(run: Run) -> dict[str, float]:
    """The figures that `evaluate` found on the test set; mAP@16 on the queries of 2025 where it has their clips."""
    sets, test = section_of(run.folder, "test", NO_TEST)["sets"], run.config.data.test
    return {**sets[test], **{k: v for k, v in sets.get(f"{test}_2025", {}).items() if k == "map@16"}}


def check_allowed(run: Run, name: str) -> None:
    """UserError for WavCaps without its list of forbidden clips, and for metadata that the challenge does not give."""
    config: Config = run.config
    if set(WAVCAPS[:1]) & set(config.data.train) and not excluded_ids(config.data.exclude).get("freesound"):
        raise UserError(
            f"data.exclude: {run.recipe} trains on WavCaps without the challenge's list of forbidden Freesound ids"
        )
    if name == CHALLENGE and config.model.uses_metadata:
        listing = needed(config.data, CHALLENGE)
        if config.model.metadata == "description" or not any(clip.keywords for clip in listing.clips):
            raise UserError(
                f"{run.recipe}: clips need {config.model.metadata}, which {listing.table.parent} does not have; "
                "a system that only hears can be submitted"
            )


def output_of(scores: Scores, queries: Sequence[str], year: int) -> bytes:
    """The csv of an edition, its rows in the order of `queries`. Raises UserError for a query without scores."""
    known = set(scores.queries)
    if missing := next((query for query in queries if query not in known), None):
        raise UserError(f"no scores of the query {brief(missing)}: `predict` again, the captions have changed")
    matrix, header = scores.of(queries).matrix, EDITIONS[year].header
    with TemporaryDirectory() as folder:
        path = Path(folder) / "output.csv"
        if header:
            write_best(path, queries, scores.clips, matrix, header)
        else:
            write_scores(path, queries, scores.clips, matrix)
        return path.read_bytes()
