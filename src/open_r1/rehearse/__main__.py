"""`python -m open_r1.rehearse`: see `rehearse.cli`."""

import sys

from open_r1.rehearse.cli import main

sys.exit(main())
