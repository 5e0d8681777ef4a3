"""`python -m open_r1.replay`: see `replay.flags` and assets/docs/replay.md."""

import sys

from open_r1.replay.run import main

sys.exit(main())
