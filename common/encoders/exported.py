"""An encoder as a folder for others, and back: `create(FOLDER)`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.encoders.base import Encoder
from common.run.config import config_of
from common.run.errors import UserError
from common.run.export import CARD, WEIGHTS, Card, made_here, read_card
from common.run.export import export as write_export

SYSTEM = "encoder"


@dataclass(frozen=True)
class Network:
    """What an encoder is made of: a model of this package and the options of its class. source: of its weights."""

    model: str
    options: dict[str, Any]
    source: dict[str, str] | None


def export(
    encoder: Encoder,
    folder: str | Path,
    *,
    data: str | None = None,
    metrics: dict[str, Any] | None = None,
    licence: str | None = None,
    config: dict[str, Any] | None = None,
    push: str | None = None,
    public: bool = False,
) -> dict[str, Any]:
    """Write an encoder that `create` made, with the weights that it has now, as a folder that `create` takes.

    data: what it was trained on, "toy" for toys; metrics: {name: figure}; config: of its training. push: OWNER/NAME on
    the Hugging Face Hub, private unless `public`. Raises UserError for options that JSON cannot hold.
    """
    folder = Path(folder)
    try:
        options = json.loads(json.dumps(encoder.options))
    except TypeError as error:
        raise UserError(f"{folder}: {encoder.name} has an option that cannot be written ({error})") from None
    card = Card(
        system=SYSTEM,
        name=f"{folder.resolve().name} ({encoder.name})",
        network={"model": encoder.name, "options": options, "source": encoder.checkpoint},
        config=config or {},
        recipe=None,
        run=None,
        data=data,
        metrics=metrics or {},
        licence=licence,
        made_with=made_here(),
    )
    usage = f'from common import encoders\n\nencoders.create("{folder.name}").embed("recording.wav")'
    return write_export(folder, encoder.state_dict(), card, usage, push, public)


def read_exported(folder: Path) -> tuple[Network, Path]:
    """What the encoder of a folder is made of, and its weights. Raises UserError where it holds something else."""
    card = read_card(folder, SYSTEM)
    return config_of(Network, card.network, str(folder / CARD)), folder / WEIGHTS
