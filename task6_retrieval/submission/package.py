"""Submissions of own runs, trainings or ensembles: a system for each run, its stored outputs in an edition's form."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.audio.coverage import made_of, root_of
from common.run.errors import UserError, brief
from common.run.results.ensembles import check_members, trained_run, trainings_of
from common.run.results.runs import section_of
from common.run.settings import SubmissionConfig
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
from task6_retrieval.config import CHALLENGE, WAVCAPS, Config, DataConfig
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
    runs: Sequence[Run],
    out: Path | None,
    report: Path | None,
    editions: Sequence[int] = (),
    named: Sequence[str] = (),
    members: Sequence[str] = (),
) -> Mapping[str, Any]:
    """Build and validate archives: a system for each run, or for each of `named`, recipes or run folders.

    members: of the runs, which are ensembles, to be checked. Of several editions each has an archive with its year in
    the name. Nothing is written where a rule is broken.
    """
    run, config = runs[0], runs[0].config
    if (about := described(run)) is None:
        return {}
    out = out or run.folder.parent / "submission.zip"
    check_name(out)
    if wrong := label_problem(about.label, edition_of(about.label)):
        raise UserError(f"submission.label: {wrong}")
    for of in runs if members else ():
        check_members(of, members)
    systems = [trained_run(run.task, name, run.number) for name in named] if named else runs
    years = editions or [edition_of(about.label)]
    packed = {year: packed_systems(systems, about, year, config.data) for year in years}
    found = {}
    for year, of_year in packed.items():
        archive = out if len(packed) == 1 else out.with_stem(f"{out.stem}_{year}")
        build_submission(archive, of_year, report_of(about, report))
        mark(archive, made_of(root_of(config.data)))
        print(f"{archive}: {len(of_year)} system{'s' if len(of_year) > 1 else ''}")
        found[year] = validate_outputs(run, [archive], year)
    return found[years[0]] if len(found) == 1 else {"editions": found}


def packed_systems(systems: Sequence[Run], about: SubmissionConfig, year: int, data: DataConfig) -> list[Packed]:
    """All systems of a team under an edition's labels: outputs for its evaluation set, or for the test set."""
    lastname, institute, *_ = about.label.split("_")
    labels = labels_of(systems, replace(about, label=f"{lastname}_{institute}_{EDITIONS[year].task}_1"), SYSTEMS)
    expected, _ = expected_of(data, None, None)
    name = CHALLENGE if challenge_of(data) else data.test
    return [
        packed_system(system, identity(replace(system.config.submission or about, label=label)), year, expected, name)
        for system, label in zip(systems, labels, strict=True)
    ]


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
