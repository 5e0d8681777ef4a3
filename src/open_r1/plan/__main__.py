"""`python -m open_r1.plan`: see `plan.cli`."""

import sys

from open_r1.plan.cli import main

sys.exit(main())
