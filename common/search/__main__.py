"""`python -m common.search benchmark`: how long searching takes, exactly and by a graph of near neighbours."""

import argparse
import json
import sys
from collections.abc import Sequence

from common.run.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 after a user's error."""
    parser = argparse.ArgumentParser(prog="python -m common.search", description=__doc__)
    parser.add_argument("verb", choices=["benchmark"])
    parser.add_argument("--rows", type=int, default=1_000_000, help="vectors (default: 1000000)")
    parser.add_argument("--dim", type=int, default=384, help="of a vector (default: 384)")
    parser.add_argument("--queries", type=int, default=100, help="searches, one by one (default: 100)")
    parser.add_argument("--exact", action="store_true", help="without the graph")
    parser.add_argument("--json", action="store_true", help="print the result as JSON in the last line")
    given = parser.parse_args(arguments)
    from common.search.benchmark import measure, show

    try:
        found = measure(given.rows, given.dim, given.queries, given.exact)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(found)
    if given.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
