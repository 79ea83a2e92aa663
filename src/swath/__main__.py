"""``python -m swath``: the command line, for launchers that start modules."""

import sys

from swath.cli import main

sys.exit(main())
