"""`python -m open_r1.survey`: see `survey.flags` and assets/docs/survey.md."""

import sys

from open_r1.survey.run import main

sys.exit(main())
