"""``python -m spectile``: the command line."""

import sys

from spectile.flows.commands.app import main

if __name__ == "__main__":
    sys.exit(main())
