"""How far packed groups are from padded rows in each family, as a Markdown table.

    PYTHONPATH=tests python local_scripts/dev/benchmarks/family_table.py [--tool_turns | --videos] [FAMILY ...]

By the functions of tests/models/test_families.py: tiny random models and their real processors, float32, on the CPU.
With `--videos` of prompts with videos, alone, several, and beside pictures, as tests/models/test_video_families.py.
With `--tool_turns` by those of tests/trainer/test_tool_turns.py: completions with pictures of tools, against each
conversation alone.
"""

import argparse

from helpers import families
from helpers.families import GROUPS
from helpers.families.exactness import difference, logps_alone, passed
from helpers.families.prompts import CLIP_GROUPS
from helpers.families.rows import NATIVE_VIDEOS, NO_TOOL_PICTURES, PACKED, ROW_BY_ROW, TRAINED
from helpers.families.tool_turns import passed_alone, passed_with_turns, tool_rows

COLUMNS = "| family | packed - rows: log-probs | gradient of a weight | packed - each row alone: log-probs |"
RULE = "|---|---|---|---|"
TURN_COLUMNS = (
    "| family | rows - each alone: log-probs | gradient of a weight | packed - alone: log-probs | gradient |"
)


def line(name: str, videos: bool = False) -> str:
    """A family's line: the largest differences, log-probs in nats, gradients relative."""
    model, groups = families.ready(name), CLIP_GROUPS if videos else GROUPS
    rows, packed = passed(model, False, groups), passed(model, True, groups)
    found, alone = difference(rows, packed), (packed.scores.logps - logps_alone(model, groups)).abs().max().item()
    return f"| `{name}` | {found.logps:.1e} | {found.gradient:.1e} | {alone:.1e} |"


def line_of_turns(name: str) -> str:
    """The same of completions with tool turns; a family that takes no pictures of tools has its reason."""
    if name in NO_TOOL_PICTURES:
        return f"| `{name}` | refused: {NO_TOOL_PICTURES[name]} | | | |"
    model = families.ready(name)
    rows = tool_rows(model)
    alone, found = passed_alone(model, rows), []
    for shared in (False, True) if name not in ROW_BY_ROW else (False,):
        found.append(difference(alone, passed_with_turns(model, rows, shared)))
    cells = [f"{one.logps:.1e} | {one.gradient:.1e}" for one in found] + ["row by row | "] * (2 - len(found))
    return f"| `{name}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool_turns", action="store_true", help="completions with pictures of tools")
    parser.add_argument("--videos", action="store_true", help="prompts with videos")
    parser.add_argument("families", nargs="*", help="names of tests/helpers/families, by default all")
    args = parser.parse_args()
    print(f"{TURN_COLUMNS}\n{RULE}---|" if args.tool_turns else f"{COLUMNS}\n{RULE}")
    for family in args.families or (TRAINED if args.tool_turns else NATIVE_VIDEOS if args.videos else PACKED):
        print(line_of_turns(family) if args.tool_turns else line(family, args.videos), flush=True)
