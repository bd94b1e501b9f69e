"""Submissions of own runs: stored outputs of up to four systems, of which one may be an ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.audio.coverage import made_of, root_of
from common.run.config import load_config
from common.run.errors import UserError
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
from common.run.verbs import Run, open_run
from task6_retrieval.config import CHALLENGE, WAVCAPS, Config
from task6_retrieval.data.layout import excluded_ids, needed
from task6_retrieval.inference.ensemble import ensemble
from task6_retrieval.inference.outputs import Scores, scores_of
from task6_retrieval.inference.scores import write_best, write_scores
from task6_retrieval.metrics import ranks_of_scores, retrieval_metrics
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


@dataclass(frozen=True)
class System:
    """The runs whose mean is submitted as one system, and their weights (None: equal)."""

    members: Sequence[Run]
    weights: Sequence[float] | None = None

    def scores(self, name: str) -> Scores:
        """Of a data set."""
        return ensemble([scores_of(run, name) for run in self.members], self.weights)


def named_run(like: Run, name: str) -> Run:
    """A run by its folder, with the settings that it was trained with, or run 1 of a recipe. Raises UserError."""
    folder = Path(name)
    if folder.name.startswith("run") and (folder / "config.yaml").is_file():
        config = load_config(Config, like.task.recipes, str(folder / "config.yaml"))
        return replace(like, recipe=folder.parent.name, folder=folder, config=config)
    run = open_run(like.task, name)
    stored = run.folder / "config.yaml"
    return named_run(like, str(run.folder)) if stored.is_file() else run


def package_runs(
    runs: Sequence[Run],
    out: Path | None,
    report: Path | None,
    edition: int | None = None,
    members: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
) -> Mapping[str, Any]:
    """Build and validate the archive: a system for each run, or one of the mean of `members` (recipes, run folders)."""
    run, config = runs[0], runs[0].config
    if (about := described(run)) is None:
        return {}
    out = out or run.folder.parent / "submission.zip"
    check_name(out)
    year = edition or edition_of(about.label)
    team = about.label.split("_")[:2]
    about = replace(about, label="_".join([*team, EDITIONS[year].task, about.label.rpartition("_")[2]]))
    if weights and not members:
        raise UserError("package: --weights goes with --ensemble")
    systems = [System([named_run(run, name) for name in members], weights)] if members else [System([r]) for r in runs]
    if len(systems) > SYSTEMS:
        raise UserError(f"a team may submit {SYSTEMS} systems, but --runs names {len(systems)}")
    labels = [about.label] if members else labels_of(runs, about, SYSTEMS)
    expected, source = expected_of(config.data, None, None)
    packed = [
        packed_system(system, identity(replace(about, label=label)), year, expected, _submitted(config))
        for system, label in zip(systems, labels, strict=True)
    ]
    build_submission(out, packed, report_of(about, report))
    mark(out, made_of(root_of(config.data)))
    print(f"{out}: {len(packed)} system{'s' if len(packed) > 1 else ''}, outputs for {source}")
    return validate_outputs(run, [out], year)


def _submitted(config: Config) -> str:
    return CHALLENGE if config.data.challenge else config.data.test


def packed_system(system: System, who: Mapping[str, Any], year: int, expected: Expected, name: str) -> Packed:
    """Meta file and output of a system for the data set `name`. Raises UserError for what the rules forbid."""
    for run in system.members:
        check_allowed(run, name)
    config: Config = system.members[0].config
    meta = SubmissionMeta(
        **who,
        external_datasets=[of for run in system.members for of in datasets_of(run.config)] or None,
        edition=year,
        description=description_of(config, len(system.members)),
        total_parameters=sum(parameters(run.config) for run in system.members),
        results=development_results(system),
    )
    text = meta_yaml(meta)
    passing_meta(meta, label_problem(meta.label, year), check_meta(text, meta.label, "meta data", year))
    data = output_of(system.scores(name), expected.queries, year)
    refuse_errors(check_output(data, f"{meta.label}.output.csv", year, expected))
    return Packed(meta, text, {f"{meta.label}.output.csv": data})


def check_allowed(run: Run, name: str) -> None:
    """UserError for WavCaps without its list of forbidden clips, and for metadata that the challenge does not give."""
    config: Config = run.config
    if set(WAVCAPS[:1]) & set(config.data.train) and not excluded_ids(config.data.exclude).get("freesound"):
        raise UserError(
            f"data.exclude: {run.recipe} trains on WavCaps without the challenge's list of forbidden Freesound ids"
        )
    if name == CHALLENGE and config.model.uses_metadata:
        clips = needed(config.data, CHALLENGE).clips
        if config.model.metadata == "description" or not any(clip.keywords for clip in clips):
            raise UserError(
                f"{run.recipe}: clips need {config.model.metadata}, which {config.data.challenge} does not have; "
                "a system that only hears can be submitted"
            )


def parameters(config: Config) -> int:
    """Of a recipe's network."""
    from task6_retrieval.model.networks import build_network

    return sum(p.numel() for p in build_network(config).parameters())


def development_results(system: System) -> dict[str, float]:
    """Metrics on the test set, every caption with its clip: {"map@10": share, ...}."""
    data = system.members[0].config.data
    scores = system.scores(data.test)
    place = {name: number for number, name in enumerate(scores.clips)}
    row = {query: number for number, query in enumerate(scores.queries)}
    pairs = [(row[c], place[clip.name]) for clip in needed(data, data.test).clips for c in clip.captions if c in row]
    rows, clips = zip(*pairs, strict=True)
    return retrieval_metrics(ranks_of_scores(scores.matrix[list(rows)], clips))


def output_of(scores: Scores, queries: Sequence[str], year: int) -> bytes:
    """The csv of an edition, its rows in the order of `queries`. Raises UserError for a query without scores."""
    known = set(scores.queries)
    if missing := next((query for query in queries if query not in known), None):
        raise UserError(f"no scores of the query {missing!r}: `predict` again, the captions have changed")
    matrix, header = scores.of(queries).matrix, EDITIONS[year].header
    with TemporaryDirectory() as folder:
        path = Path(folder) / "output.csv"
        if header:
            write_best(path, queries, scores.clips, matrix, header)
        else:
            write_scores(path, queries, scores.clips, matrix)
        return path.read_bytes()
