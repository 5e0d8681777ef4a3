"""Write the table of planned and rehearsed peaks in assets/docs/rehearsal.md.

python local_scripts/dev/readme/rehearsed_table.py            # rewrites the page between its markers
python local_scripts/dev/readme/rehearsed_table.py --check    # exit status 1 when the page is not up to date

The rehearsed peaks are those in assets/benchmarks/rehearsed_peaks.json, the planned ones are computed.
"""

import json
from typing import Any

from readme_sections import REPO, Section

from open_r1.plan.dims import read_dims
from open_r1.plan.memory import GIB, total_bytes, training_bytes
from open_r1.plan.settings import PlannedRun

RESULTS = REPO / "assets/benchmarks/rehearsed_peaks.json"
HEAD = "| Qwen2.5-VL | run | tokens of prompt, completion | rehearsed GiB | planned GiB | off |"


def planned_peak(facts: dict[str, Any]) -> float:
    """The planner's bytes at the peak of an update, without CUDA's own, for a setting of the results."""
    dims, _ = read_dims(str(REPO / "assets/configs" / f"Qwen2.5-VL-{facts['size']}"))
    parts = training_bytes(dims, PlannedRun(**facts["run"]))
    return total_bytes(parts) - parts["base"]


def line(facts: dict[str, Any]) -> str:
    """A setting as a line of the table."""
    planned, run = planned_peak(facts), facts["run"]
    cells = [facts["size"], facts["name"], f"{run['prompt_tokens']}, {run['completion_tokens']}"]
    cells += [f"{facts['peak'] / GIB:.1f}", f"{planned / GIB:.1f}", f"{planned / facts['peak'] - 1:+.1%}"]
    return f"| {' | '.join(cells)} |"


def table() -> str:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines = [HEAD, "|---|---|---|---|---|---|", *map(line, results["settings"].values())]
    return "\n".join([*lines, "", f"(`{results['command']}`, {results['date']}.)"])


if __name__ == "__main__":
    Section("peaks", "assets/docs/rehearsal.md", "local_scripts/dev/readme/rehearsed_table.py", table).run(__doc__)
