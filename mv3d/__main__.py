"""`python -m mv3d`."""

import sys

from mv3d.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
