"""`python -m common.encoders`: the table of models. `... benchmark [MODEL ...]`: their speed. `... fetch NAME ...`:
published checkpoints into the cache."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from common.encoders import names
from common.run.errors import UserError, did_you_mean
from common.run.verbs import release

VERBS = ("table", "benchmark", "fetch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 after a user's error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m common.encoders", description=__doc__)
    parser.add_argument(
        "verb", nargs="?", default="table", metavar="VERB", help="table (the default), benchmark or fetch"
    )
    text = "models to measure (default: one of each family), or checkpoints to fetch"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each figure of the benchmark (default: 2)")
    parser.add_argument("--version", action="version", version=release())
    parser.add_argument("--json", action="store_true", help="print the result as JSON in the last line")
    options = parser.parse_args(arguments)
    try:
        result = _run(options.verb, options.names, options.seconds)
        if options.json:
            print(json.dumps(result))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(verb: str, chosen: Sequence[str], seconds: float) -> Mapping[str, Any]:
    if verb not in VERBS:
        raise UserError(f"unknown verb {verb!r}{did_you_mean(verb, VERBS)}")
    if verb == "table":
        from common.encoders.table import overview

        return overview()
    if verb == "fetch":
        return _fetch(chosen)
    for name in chosen:
        if name not in names():
            raise UserError(f"unknown encoder {name!r}{did_you_mean(name, names())}")
    from common.encoders.speed import benchmark

    return benchmark(chosen, seconds)


def _fetch(chosen: Sequence[str]) -> Mapping[str, Any]:
    """{checkpoint: where it lies and its SHA-256}."""
    from common.encoders import checkpoints
    from common.encoders.download import cached, fetch

    known, found = checkpoints.catalogue(), {}
    for name in chosen:
        if name not in known:
            raise UserError(f"unknown checkpoint {name!r}{did_you_mean(name, known)}")
        entry = known[name]
        path = cached(entry.file)
        found[name] = {"file": str(path), "sha256": fetch(entry.address, path, entry.sha256, entry.source)}
        print(f"{name}: {path}")
    return found


if __name__ == "__main__":
    sys.exit(main())
