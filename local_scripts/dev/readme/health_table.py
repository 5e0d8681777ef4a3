"""Write the README's table of metrics: what is healthy, what to do outside of it, and the names of `--stop_on`.

python local_scripts/dev/readme/health_table.py            # rewrites README.md between its markers
python local_scripts/dev/readme/health_table.py --check    # exit status 1 when README.md is not up to date
"""

from readme_sections import Section

from open_r1.report.diagnoses import DIAGNOSES
from open_r1.report.metric_ranges import table


def names() -> str:
    rows = [f"| `{name}` | {d.title} | `{d.metric}` |" for name, d in DIAGNOSES.items()]
    return "\n".join(["| `--stop_on` | finding | seen in |", "|---|---|---|", *rows])


def section() -> Section:
    return Section("health", "local_scripts/dev/readme/health_table.py", lambda: f"{table()}\n\n{names()}")


if __name__ == "__main__":
    section().run(__doc__)
