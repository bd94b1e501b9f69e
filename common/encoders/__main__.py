"""`python -m common.encoders`: see common/tools/encoders.py."""

import sys

from common.tools.encoders import main

if __name__ == "__main__":
    sys.exit(main())
