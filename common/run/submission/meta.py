"""The meta data of a system: what all challenges ask for, and its YAML. A task adds what its challenge asks."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from common.run.settings import SubmissionConfig

Words = str | list[str] | None


@dataclass(frozen=True)
class Affiliation:
    """Where an author works."""

    institute: str | None = None
    abbreviation: str | None = None
    department: str | None = None
    location: str | None = None


@dataclass(frozen=True)
class Author:
    """One author."""

    lastname: str
    firstname: str
    email: str | None = None
    corresponding: bool = False
    affiliation: Affiliation = field(default_factory=Affiliation)


@dataclass(frozen=True)
class ExternalDataset:
    """External data that the system was trained on."""

    name: str
    url: str | None = None
    total_audio_length: float | None = None  # minutes
    type: str | None = None  # what is in it


@dataclass(frozen=True)
class SystemMeta:
    """Who and what; `label` is `<Lastname>_<Institute>_<task>_<n>`."""

    label: str
    name: str
    abbreviation: str
    authors: list[Author]
    external_datasets: list[ExternalDataset] | None = field(default=None, kw_only=True)
    source_code: str | None = field(default=None, kw_only=True)  # None: not published


@dataclass(frozen=True)
class MetaForm:
    """What differs between the challenges in the parts that all meta files have.

    affiliation: {field: its key in the file}, in the order of the file; datasets: keys of an external data set;
    optional: keys of authors and affiliations that are left out where they are not given (others are null);
    one_corresponding: exactly one corresponding author with an e-mail address (else: at least one).
    """

    affiliation: Mapping[str, str]
    datasets: tuple[str, ...]
    optional: Collection[str] = ()
    one_corresponding: bool = True


def identity(about: SubmissionConfig, abbreviation: str | None = None) -> dict[str, Any]:
    """The fields of SystemMeta as a recipe has them; abbreviation: of the authors' institute."""
    authors = [
        Author(a.lastname, a.firstname, a.email, a.corresponding, Affiliation(a.institute, abbreviation))
        for a in about.authors
    ]
    return {
        "label": about.label,
        "name": about.name,
        "abbreviation": about.abbreviation,
        "authors": authors,
        "source_code": about.source_code,
    }


def meta_text(meta: SystemMeta, form: MetaForm, system: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The text of a meta file; system: its description and complexity."""
    datasets = meta.external_datasets
    if datasets is not None:
        datasets = [{key: getattr(of, key) for key in form.datasets} for of in datasets]  # type: ignore[misc]
    content = {
        "submission": {
            "label": meta.label,
            "name": meta.name,
            "abbreviation": meta.abbreviation,
            "authors": [_author(author, form) for author in meta.authors],
        },
        "system": {**system, "external_datasets": datasets, "source_code": meta.source_code},
        "results": results,
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100_000)


def _author(author: Author, form: MetaForm) -> dict[str, Any]:
    where = asdict(author.affiliation)
    affiliation = _without({key: where[name] for name, key in form.affiliation.items()}, form.optional)
    return _without({**asdict(author), "affiliation": affiliation or None}, form.optional)


def _without(content: Mapping[str, Any], optional: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value is not None or key not in optional}
