"""`python -m common.encoders`: the table of models. `python -m common.encoders benchmark [MODEL ...]`: their speed."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from common.encoders import names
from common.errors import UserError, did_you_mean


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 after a user's error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m common.encoders", description=__doc__)
    parser.add_argument("verb", nargs="?", default="table", metavar="VERB", help="table (the default) or benchmark")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models to measure (default: one of each family)")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each figure of the benchmark (default: 2)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON in the last line")
    options = parser.parse_args(arguments)
    try:
        result = _run(options.verb, options.models, options.seconds)
        if options.json:
            print(json.dumps(result))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(verb: str, chosen: Sequence[str], seconds: float) -> Mapping[str, Any]:
    if verb not in ("table", "benchmark"):
        raise UserError(f"unknown verb {verb!r}{did_you_mean(verb, ('table', 'benchmark'))}")
    for name in chosen:
        if name not in names():
            raise UserError(f"unknown encoder {name!r}{did_you_mean(name, names())}")
    if verb == "benchmark":
        from common.tools.encoder_speed import benchmark

        return benchmark(chosen, seconds)
    from common.encoders.overview import overview

    return overview()


if __name__ == "__main__":
    sys.exit(main())
