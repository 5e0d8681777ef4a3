"""Gather what the trials of `run_scripts/torture.sh` measured into one table; print it, or renew the page with it.

python local_scripts/dev/readme/torture_table.py OUT  # prints the table of the trials in OUT, and gathers it there
python local_scripts/dev/readme/torture_table.py  # rewrites the page between its markers from assets/torture.json
python local_scripts/dev/readme/torture_table.py --check        # exit status 1 when the page is not up to date

`OUT/torture.json`, copied to assets/torture.json, is what the page shows: {"machine", "date", "commit", "rows"}.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from readme_sections import Section

REPO = Path(__file__).resolve().parents[3]
SHOWN = REPO / "assets" / "torture.json"
COLUMNS = ("fault", "happens", "test", "figure")
TITLES = ("fault", "what happens", "test that shows it", "figure")


def table(rows: Sequence[dict[str, str]]) -> str:
    """
    >>> print(table([{"fault": "a | b", "happens": "c", "test": "t.py", "figure": "1"}]))
    | fault | what happens | test that shows it | figure |
    |---|---|---|---|
    | a \\| b | c | `t.py` | 1 |
    """
    shown = [{**row, "test": f"`{row['test']}`"} for row in rows]
    cells = [" | ".join(row[name].replace("|", "\\|").replace("\n", " ") for name in COLUMNS) for row in shown]
    return "\n".join([f"| {' | '.join(TITLES)} |", "|---|---|---|---|", *(f"| {row} |" for row in cells)])


def gathered(out: Path) -> dict[str, Any]:
    """What ran, where and when."""
    rows = [row for path in sorted(out.glob("*.json")) if path != out / "torture.json" for row in read_rows(path)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    return {
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "rows": rows,
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of one trial; other files of OUT are no lists of rows."""
    read = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in read if set(COLUMNS) <= set(row)] if isinstance(read, list) else []


def shown() -> str:
    run = json.loads(SHOWN.read_text(encoding="utf-8"))
    where = f"`bash run_scripts/torture.sh`, {run['date']}, commit {run['commit']}: {run['machine']}."
    return f"{where}\n\n{table(run['rows'])}"


def section() -> Section:
    return Section("torture", "assets/docs/reliability.md", "local_scripts/dev/readme/torture_table.py", shown)


def main(out: Path) -> None:
    run = gathered(out)
    (out / "torture.json").write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{run['machine']}; {run['date']}; commit {run['commit']}\n\n{table(run['rows'])}")


if __name__ == "__main__":
    if len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        main(Path(sys.argv[1]))
    else:
        section().run(__doc__)
