"""`python -m common.encoders`: the table of models. `... benchmark [MODEL ...]`: their speed. `... fetch NAME ...`:
published checkpoints into the cache. `... tags FILE ...`: what is heard in recordings. `... evaluate FOLDER`: how often
that is right, on a folder as of ESC-50."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.encoders import names
from common.run.errors import UserError, did_you_mean
from common.run.processes import on_device
from common.run.verbs import device as _device
from common.run.verbs import release

VERBS = ("table", "benchmark", "fetch", "tags", "evaluate")
EXAMPLES = """examples:
  python -m common.encoders --json
  python -m common.encoders benchmark beats-tiny --seconds 0.5
  python -m common.encoders fetch ATST-F_strong_1
  python -m common.encoders tags recording.wav --encoder yamnet
  python -m common.encoders evaluate /path/to/ESC-10 --device cpu"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 after a user's error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m common.encoders",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = f"{', '.join(VERBS)} (default: table)"
    parser.add_argument("verb", nargs="?", default="table", metavar="VERB", help=verbs)
    text = "models to measure (default: one of each family), checkpoints to fetch, audio files, or a folder"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each figure of the benchmark (default: 2)")
    parser.add_argument("--encoder", default="yamnet", help="of tags and evaluate (default: yamnet)")
    text = "of evaluate: sentence encoder, by name or folder (default: all-MiniLM-L6-v2)"
    parser.add_argument("--text", default="all-MiniLM-L6-v2", help=text)
    parser.add_argument("--meta", type=Path, help="of evaluate: table of the recordings (default: FOLDER/meta.csv)")
    text = "of evaluate: table with category, tag, sentence (default: the ten classes of ESC-10)"
    parser.add_argument("--classes", type=Path, help=text)
    text = "where networks compute: cpu, cuda or cuda:N (default: a GPU where there is one)"
    parser.add_argument("--device", type=_device, metavar="DEVICE", help=text)
    parser.add_argument("--version", action="version", version=release())
    parser.add_argument("--json", action="store_true", help="print the result as JSON in the last line")
    options = parser.parse_intermixed_args(arguments)
    try:
        with on_device(options.device):
            result = _run(options)
        if options.json:
            print(json.dumps(result))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: argparse.Namespace) -> Mapping[str, Any]:
    verb, chosen = options.verb, options.names
    if verb not in VERBS:
        raise UserError(f"unknown verb {verb!r}{did_you_mean(verb, VERBS)}")
    if verb == "table":
        from common.encoders.table import overview

        return overview()
    if verb == "fetch":
        return _fetch(chosen)
    if verb in ("tags", "evaluate"):
        return _listen(options)
    for name in chosen:
        if name not in names():
            raise UserError(f"unknown encoder {name!r}{did_you_mean(name, names())}")
    from common.encoders.speed import benchmark

    return benchmark(chosen, options.seconds)


def _listen(options: argparse.Namespace) -> Mapping[str, Any]:
    from common.encoders import recordings

    if options.verb == "tags":
        return recordings.tags(options.encoder, options.names)
    if len(options.names) != 1:
        raise UserError(f"evaluate: {len(options.names)} folders are given, expected one")
    (folder,) = options.names
    return recordings.evaluate(options.encoder, Path(folder), options.meta, options.classes, options.text)


def _fetch(chosen: Sequence[str]) -> Mapping[str, Any]:
    """{checkpoint: where it lies and its SHA-256}."""
    from common.encoders import checkpoints

    known, found = checkpoints.catalogue(), {}
    for name in chosen:
        if name not in known:
            raise UserError(f"unknown checkpoint {name!r}{did_you_mean(name, known)}")
        path, digest = checkpoints.have(known[name])
        found[name] = {"file": str(path), "sha256": digest}
        print(f"{name}: {path}")
    return found


if __name__ == "__main__":
    sys.exit(main())
