"""Run the command line: `python -m surgery_core`."""

import sys

from surgery_core.cli.options import main

sys.exit(main())
