"""A trained network as one folder for others: model.safetensors, config.json, README.md; and that on the Hub.

Nothing in the folder is code, and reading it runs none. `config.json` is a `Card`; its reader is strict.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.run.config import config_dict, config_of, dump
from common.run.errors import UserError
from common.run.files import (
    existing_file,
    existing_folder,
    read_json,
    sha256,
    write_folder_then_rename,
    write_json,
    write_text,
)
from common.run.results.environment import environment
from common.run.results.runs import TOY_NETWORK
from common.run.results.store import FILE_NAME, read_results, recorded
from common.run.verbs import Run

if TYPE_CHECKING:
    from torch import Tensor

CARD, WEIGHTS, README = "config.json", "model.safetensors", "README.md"
FORMAT = "dcase-systems/1"
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
MADE_WITH = ("code", "python", "packages")  # of the environment: nothing of the machine


@dataclass(frozen=True)
class Card:
    """What a folder says of itself. network: what its system builds the network from; config: the whole recipe.

    data: what it was trained on ("toy", "official", "recordings", or words); sha256: of the weights.
    """

    system: str  # "encoder", or the package of a task
    name: str
    network: dict[str, Any]
    config: dict[str, Any]
    recipe: str | None
    run: int | None
    data: str | None
    metrics: dict[str, Any]
    licence: str | None
    made_with: dict[str, Any]
    format: str = FORMAT
    sha256: str = ""


def card_of(
    run: Run, trained: Path, name: str, network: Mapping[str, Any], metrics: Mapping[str, Any], licence: str | None
) -> Card:
    """The card of a network. trained: the folder whose results tell of its training, where it had one of its own."""
    training = recorded_in(trained, "train")
    return Card(
        *(run.task.name, name, published(network), published(config_dict(run.config)), run.recipe, run.number),
        *(training.get("values", {}).get("data"), dict(metrics), licence),
        {key: training["environment"].get(key) for key in MADE_WITH} if training else made_here(),
    )


def published(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as everybody may read them: no authors, and of absolute paths the last part."""

    def without_places(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_places(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [without_places(item) for item in value]
        return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value

    plain: dict[str, Any] = without_places(dict(settings))
    return plain | ({"submission": None} if "submission" in plain else {})


def figures_in(values: Mapping[str, Any], depth: int = 1, before: str = "") -> dict[str, float]:
    """The numbers of nested results, `depth` groups deep, by their keys: {"devtest/median/psds1": 0.5}."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and depth > 1:
            found |= figures_in(value, depth - 1, f"{before}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{before}{key}"] = float(value)
    return found


def recorded_in(folder: Path, section: str) -> Mapping[str, Any]:
    """A section of a folder's results.json; empty where there is none."""
    return read_results(folder).get(section, {}) if (folder / FILE_NAME).is_file() else {}


def evaluated(folder: Path, section: str = "test") -> Mapping[str, Any]:
    """The values that `evaluate` has recorded in a folder; empty where it has not."""
    return recorded(folder, section) or {}


def made_here() -> dict[str, Any]:
    """`Card.made_with` of a network of which no training is recorded: this code."""
    here = environment()
    return {key: here[key] for key in MADE_WITH}


def check_export(folder: Path, push: str | None, public: bool = False) -> None:
    """Raise UserError, before any work, for a folder of somebody else, a wrong name on the Hub, and without a token."""
    if folder.exists():
        existing_folder(folder)
        if any(folder.iterdir()) and not is_exported(folder):
            raise UserError(f"{folder}: is there and no earlier export; name another folder with --out")
    if push is None:
        if public:
            raise UserError("--public goes with --push OWNER/NAME")
        return
    if not REPOSITORY.fullmatch(push):
        raise UserError(f"--push: {push!r}, expected OWNER/NAME")
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError("--push: no token for the Hugging Face Hub; `hf auth login` stores one")


def is_exported(folder: Path) -> bool:
    """Whether a folder is one that `export` wrote."""
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        return False
    try:
        card = read_json(folder / CARD)
    except UserError:
        return False
    return isinstance(card, dict) and str(card.get("format")).startswith("dcase-systems/")


def export(
    folder: Path,
    state: "Mapping[str, Tensor]",
    card: Card,
    usage: str,
    push: str | None = None,
    public: bool = False,
    beside: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Write the folder, whole or not at all, in place of an earlier one; with `push` it goes to the Hub, too.

    usage: Python that loads it, for the README. beside: further files, {name: source}. Prints and returns what was
    written. Raises UserError as `check_export`, and for an upload that fails: the folder is there nonetheless.
    """
    from safetensors.torch import save

    check_export(folder, push, public)
    # Copies: layers may share tensors, which the format does not know.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with write_folder_then_rename(folder) as partial:
        (partial / WEIGHTS).write_bytes(save(tensors))  # safetensors itself does not say what a disk said
        card = replace(card, sha256=sha256(partial / WEIGHTS))
        write_json(partial / CARD, asdict(card))
        write_text(partial / README, _readme(card, usage, sum(value.numel() for value in tensors.values())))
        for name, source in (beside or {}).items():
            shutil.copyfile(source, partial / name)
        if folder.exists():
            shutil.rmtree(folder)
    size = (folder / WEIGHTS).stat().st_size
    print(f"{folder}: {WEIGHTS} ({size / 1e6:.2f} MB), {', '.join(sorted({CARD, README, *(beside or ())}))}")
    address = None if push is None else upload(folder, push, public)
    return {"folder": str(folder), "bytes": size, "sha256": card.sha256, "address": address}


def read_card(folder: str | Path, system: str) -> Card:
    """The card of a folder that `export` wrote for a system.

    Raises UserError for any other folder, a card with unknown, missing or wrong keys, and weights that are not those
    that the card names.
    """
    folder = existing_folder(folder, "exported folder")
    path = existing_file(folder / CARD, "card of an exported folder")
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UserError(f"{path}: not the card of a folder that `export` wrote (format {FORMAT!r})")
    card = config_of(Card, values, str(path))
    if card.system != system:
        raise UserError(f"{path}: a network of {card.system}, expected one of {system}")
    if sha256(existing_file(folder / WEIGHTS, "weights")) != card.sha256:
        raise UserError(f"{folder / WEIGHTS}: its SHA-256 is not that of {CARD}; the file is damaged or another")
    return card


def note_of(folder: Path) -> str | None:
    """What must stand beside the answers of an exported network: whether it was trained on toy sounds."""
    return TOY_NETWORK if read_json(folder / CARD).get("data") == "toy" else None


def upload(folder: Path, repository: str, public: bool) -> str:
    """Put an exported folder on the Hugging Face Hub, private unless `public`; its address. UserError if it fails."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="dcase-systems export")
    except Exception as error:  # the Hub's own, those of the network below it
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{repository}: not uploaded ({why}); the folder is at {folder}") from None
    address = str(getattr(done, "repo_url", None) or f"https://huggingface.co/{repository}")
    print(f"{address}: uploaded, {'public' if public else 'private'} where it is new")
    return address


def _readme(card: Card, usage: str, weights: int) -> str:
    """The model card as the Hub shows it."""
    head = {"license": card.licence or "unknown", "library_name": "dcase-systems", "tags": ["dcase", "audio"]}
    code = card.made_with.get("code") or {}
    lines = [f"---\n{dump(head)}---\n\n# {card.name}\n", f"System `{card.system}`, {weights:,} weights."]
    if card.recipe is not None:
        lines.append(f"Recipe `{card.recipe}`, training {card.run}.")
    lines.append(f"Trained on: {card.data or 'not stated'}. Licence: {card.licence or 'none is stated'}.")
    lines.append(f"Code: dcase-systems, revision {code.get('revision') or 'unknown'}.")
    if card.data == "toy":
        lines.append(f"\n**{TOY_NETWORK[0].upper()}{TOY_NETWORK[1:]}.**")
    lines.append(f"\n```python\n{usage}\n```\n")
    if card.metrics:
        lines += ["| figure | value |", "| --- | ---: |"]
        lines += [f"| {name} | {_figure(value)} |" for name, value in card.metrics.items()]
    return "\n".join(lines) + f"\n\nSettings, versions and figures: `{CARD}`.\n"


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "n/a" if value is None else str(value)
