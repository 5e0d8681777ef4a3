"""Write the table of metrics in assets/docs/reading_a_run.md: what is healthy, what to do, the names of `--stop_on`.

python local_scripts/dev/readme/health_table.py            # rewrites the page between its markers
python local_scripts/dev/readme/health_table.py --check    # exit status 1 when the page is not up to date
"""

from readme_sections import Section

from open_r1.report.diagnoses import DIAGNOSES
from open_r1.report.metric_ranges import table


def names() -> str:
    rows = [f"| `{name}` | {d.title} | `{d.metric}` |" for name, d in DIAGNOSES.items()]
    return "\n".join(["| `--stop_on` | finding | seen in |", "|---|---|---|", *rows])


def section() -> Section:
    script = "local_scripts/dev/readme/health_table.py"
    return Section("health", "assets/docs/reading_a_run.md", script, lambda: f"{table()}\n\n{names()}")


if __name__ == "__main__":
    section().run(__doc__)
