"""`rollouts.jsonl` -> `rollouts.html`: one self-contained page of sampled groups, pictures, rewards, advantages."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from open_r1.report.lines import read_lines

MOST_GROUPS = 400  # more would make a page of tens of MB; groups are then taken evenly over training

PAGES = Environment(loader=PackageLoader("open_r1.report", "pages"), autoescape=True, undefined=StrictUndefined)


def write_rollouts(folder: Path) -> Path | None:
    """Write `folder/rollouts.html`; None where no rollouts were logged. Model text is escaped, nothing is fetched."""
    path = folder / "rollouts.jsonl"
    if not path.exists():
        return None
    groups = thin(read_lines(path), MOST_GROUPS)
    for group in groups:
        group["images"] = [data_uri(folder / "rollout_images" / name) for name in group["images"]]
        group["completions"].sort(key=lambda c: -c["advantage"])
        group["reward_names"] = list(group["completions"][0]["rewards"])
        group["spread"] = sum(abs(c["advantage"]) > 1e-6 for c in group["completions"])
    page = PAGES.get_template("rollouts.html").render(groups=groups, title=folder.resolve().name)
    (folder / "rollouts.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    return folder / "rollouts.html"


def thin(groups: list[Any], most: int) -> list[Any]:
    """At most `most` entries, evenly spaced, first and last kept.

    >>> thin(list(range(10)), 4)
    [0, 3, 6, 9]
    """
    if len(groups) <= most:
        return groups
    return [groups[round(i * (len(groups) - 1) / (most - 1))] for i in range(most)]


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
