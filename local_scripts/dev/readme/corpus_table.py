"""Write the table of the corpus of answers in assets/docs/rewards.md: what each kind asks of a reward, and its rows.

python local_scripts/dev/readme/corpus_table.py            # rewrites the page between its markers
python local_scripts/dev/readme/corpus_table.py --check    # exit status 1 when the page is not up to date
"""

import json
from pathlib import Path

from readme_sections import Section

CORPUS = Path(__file__).parents[3] / "tests" / "rewards" / "corpus"
KINDS = {
    "boxes": "a box in any writing, corners as pairs, several pictures",
    "default": "numbers, fractions, letters and options by the gold's kind",
    "detections": "lists of boxes with labels; sentences that there is nothing",
    "digits": "integers and lists in their order",
    "letters": "the option that the final statement chooses; hedges, eliminations, formulas; several right options",
    "mathematics": "expressions compared whole: variables, relations, intervals, lists, units, prose",
    "points": "clicks: a point in a box, a distance",
    "text_distance": "text that was read, by the share of wrong characters",
    "words": "the stated words, not a text that holds them",
    "yes_no": "yes or no in prose, true and false, Chinese",
}


def table() -> str:
    """One row a file of the corpus, with its methods and the number of its rows."""
    lines = [
        "| `tests/rewards/corpus/` | what it asks | methods | rows | of these worth nothing |",
        "|---|---|---|---|---|",
    ]
    for path in sorted(CORPUS.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        methods = ", ".join(f"`{method}`" for method in sorted({row["method"] for row in rows}))
        wrong = sum(row["expected"] == 0 for row in rows)
        lines.append(f"| `{path.name}` | {KINDS[path.stem]} | {methods} | {len(rows)} | {wrong} |")
    return "\n".join(lines)


def section() -> Section:
    return Section("corpus", "assets/docs/rewards.md", "local_scripts/dev/readme/corpus_table.py", table)


if __name__ == "__main__":
    section().run(__doc__)
