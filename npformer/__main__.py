"""Runs the command line as ``python -m npformer``."""

import sys

from npformer.cli import main

if __name__ == "__main__":
    sys.exit(main())
