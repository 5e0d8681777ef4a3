"""How far packed groups are from padded rows in each family, as a Markdown table.

    PYTHONPATH=tests python local_scripts/dev/benchmarks/family_table.py [FAMILY ...]

By the functions of tests/models/test_families.py: tiny random models and their real processors, float32, on the CPU.
"""

import sys

from helpers import families
from helpers.families.exactness import difference, logps_alone, passed
from helpers.families.rows import PACKED

COLUMNS = "| family | packed - rows: log-probs | gradient of a weight | packed - each row alone: log-probs |"


def line(name: str) -> str:
    """A family's line: the largest differences, log-probs in nats, gradients relative."""
    model = families.ready(name)
    rows, packed = passed(model, shared=False), passed(model, shared=True)
    found, alone = difference(rows, packed), (packed.scores.logps - logps_alone(model)).abs().max().item()
    return f"| `{name}` | {found.logps:.1e} | {found.gradient:.1e} | {alone:.1e} |"


if __name__ == "__main__":
    print(f"{COLUMNS}\n|---|---|---|---|")
    for family in sys.argv[1:] or PACKED:
        print(line(family), flush=True)
