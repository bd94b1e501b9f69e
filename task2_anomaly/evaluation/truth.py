"""Ground truths of all editions: out of file names, of the list of 2020, of the folders of a first-shot edition."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.audio.coverage import root_of
from common.run.errors import UserError
from common.run.files import existing_folder
from common.run.folders import entries
from task2_anomaly.config import Config
from task2_anomaly.data.classes import Machine
from task2_anomaly.data.layout import DOMAINS, Part, parse_clip
from task2_anomaly.data.sets import pack_of, packed
from task2_anomaly.inference.scores import read_flags, read_lines, read_pairs

LIST_2020 = "eval_data_list.csv"
TEST_NAME = re.compile(r"id_(?P<id>[0-9]{2})_[0-9]{8}\.wav")
TRUTH_FILE = re.compile(
    r"ground_truth_(?P<type>\w+?)_section_(?P<section>[0-9]{2})(?:_(?P<domain>source|target))?_test\.csv"
)


class Truth(NamedTuple):
    """Ground truth of one machine: {file name: 0 or 1}, from 2021 on also {file name: domain}.

    Domains are 0 (source) and 1 (target). apart: as in `Section`.
    """

    machine: Machine
    labels: dict[str, int]
    domains: dict[str, int] | None = None
    apart: bool = False


class Section(NamedTuple):
    """Ground truth of one section of a machine type, by file name.

    apart: the edition of 2021, where a domain's AUC and pAUC are of its own normal and anomalous clips.
    """

    type: str
    section: str
    labels: dict[str, int]
    domains: dict[str, int]
    descriptive: dict[str, str]  # descriptive name, without .wav -> file name
    apart: bool = False


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
    found = [truth_of_names(names[m], m)._replace(apart=config.data.edition == 2021) for m in labelled]
    if part == "eval_test" and not found:
        root = root_of(config.data)
        if (root / LIST_2020).is_file():
            found = read_truth_2020(root / LIST_2020)
        elif (root / "ground_truth_data").is_dir():
            found = as_truths(read_truth_first_shot(root))
    return [truth for truth in found if truth.machine in names]


def read_truth_2020(path: Path) -> list[Truth]:
    """The list of 2020: a line with one field opens a machine type; then evaluation name, descriptive name, label."""
    found: dict[Machine, dict[str, int]] = {}
    kind: str | None = None
    for number, row in read_lines(path, "ground truth"):
        cells = [cell for cell in row if cell]
        match = TEST_NAME.fullmatch(cells[0])
        if len(cells) == 1 and match is None:
            kind = cells[0]
            continue
        if kind is None or match is None or len(cells) != 3 or cells[2] not in ("0", "1"):
            raise UserError(f"{path}:{number}: expected a machine type alone, or id_<NN>_<8 digits>.wav, name, 0 or 1")
        labels = found.setdefault(Machine(kind, int(match["id"])), {})
        if cells[0] in labels:
            raise UserError(f"{path}:{number}: {cells[0]} of {kind} for the second time")
        labels[cells[0]] = int(cells[2])
    if not found:
        raise UserError(f"{path}: empty, expected the list of the evaluation set's labels")
    return [Truth(machine, labels) for machine, labels in found.items()]


def truth_of_names(names: Sequence[str], machine: Machine) -> Truth:
    """Ground truth out of the names of a development set: normal_id_..., or section_00_source_test_normal_..."""
    labels, domains = {}, {}
    for name in names:
        clip = parse_clip(name)
        if clip.label is None:
            raise UserError(
                f"{name}: carries no label, expected normal_id_..., anomaly_id_... or section_..._normal_..."
            )
        labels[name] = clip.label
        if clip.domain is not None:
            domains[name] = int(clip.domain == "target")
    return Truth(machine, labels, domains or None)


def read_truth_first_shot(folder: Path) -> list[Section]:
    """Ground truth of 2022 on: ground_truth_data, _domain and (where names are to be mapped) _attributes in `folder`.

    Of 2021: ground_truth_data with a file for each domain; a section may have one domain alone.
    """
    data = existing_folder(folder / "ground_truth_data", "folder of labels")
    found: dict[tuple[str, str], Section] = {}
    for path in entries(data):
        match = TRUTH_FILE.fullmatch(path.name)
        if match is None:
            continue
        key = match["type"], match["section"]
        section = _of_domain(path, *key, match["domain"]) if match["domain"] else _whole(folder, path, *key)
        if (before := found.get(key)) is not None:
            if not (before.apart and section.apart):
                raise UserError(f"{path}: the labels of this section stand in another file too; keep one form")
            labels, domains = before.labels | section.labels, before.domains | section.domains
            section = section._replace(labels=labels, domains=domains)
        found[key] = section
    if not found:
        raise UserError(f"{data}: no ground truth (ground_truth_<type>_section_<NN>_test.csv)")
    return list(found.values())


def _whole(folder: Path, path: Path, kind: str, number: str) -> Section:
    """A section of 2022 on, whose domains stand in another file."""
    labels, domains = read_flags(path, "label"), read_flags(folder / "ground_truth_domain" / path.name, "domain")
    if labels.keys() != domains.keys():
        name = sorted(labels.keys() ^ domains.keys())[0]
        raise UserError(f"{folder}: {name} of {path.name} stands only in one of ground_truth_data and _domain")
    attributes = folder / "ground_truth_attributes" / path.name
    pairs = read_pairs(attributes) if attributes.is_file() else {}
    descriptive: dict[str, str] = {}
    for name, text in pairs.items():
        if descriptive.setdefault(text.removesuffix(".wav"), name) != name:
            raise UserError(f"{attributes}: {text} for the second time, of {name}")
    return Section(kind, number, labels, domains, descriptive)


def _of_domain(path: Path, kind: str, number: str, domain: str) -> Section:
    """What a file of 2021 has of a section."""
    labels = read_flags(path, "label")
    return Section(kind, number, labels, dict.fromkeys(labels, DOMAINS.index(domain)), {}, apart=True)


def as_truths(sections: Sequence[Section]) -> list[Truth]:
    """The same labels and domains by machine, as own score files are named."""
    return [Truth(Machine(of.type, int(of.section), section=True), of.labels, of.domains, of.apart) for of in sections]


def as_section(truth: Truth) -> Section:
    """The reverse of `as_truths`. Raises UserError for a truth without domains."""
    if truth.domains is None:
        raise UserError(f"{truth.machine}: clips without a domain, these are no first-shot names")
    return Section(truth.machine.type, f"{truth.machine.id:02d}", truth.labels, truth.domains, {}, truth.apart)
