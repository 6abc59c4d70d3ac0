"""``python -m reglab``: the same as ``reglab``."""

import sys

from reglab.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
