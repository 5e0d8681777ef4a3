"""Write the tree of rooms and modules in assets/docs/architecture.md from the files of src/open_r1.

python local_scripts/dev/readme/rooms_tree.py            # rewrites the page between its markers
python local_scripts/dev/readme/rooms_tree.py --check    # exit status 1 when the page is not up to date
"""

import textwrap
from collections.abc import Iterable
from pathlib import Path

from readme_sections import REPO, Section

PACKAGE = REPO / "src" / "open_r1"
BOTTOM_TO_TOP = (
    *("data", "endpoint", "rewards", "tools", "tasks", "report", "config"),
    *("models", "rollout", "plan", "trainer", "evaluation", "rehearse", "survey", "replay"),
)
MARGIN, WIDTH = 24, 120  # columns


def modules(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))


def entry(label: str, names: Iterable[str]) -> str:
    """A folder and its modules, on as many lines as they need.

    >>> print(entry("  plan/", ["cli", "dims"]))
      plan/                 cli dims
    """
    return textwrap.fill(
        " ".join(names), WIDTH, initial_indent=label.ljust(MARGIN), subsequent_indent=" " * MARGIN
    ).rstrip()


def room(folder: Path, indent: str = "  ") -> list[str]:
    """The lines of a folder and of the folders in it."""
    inner = sorted(path.parent for path in folder.glob("*/__init__.py"))
    lines = [entry(f"{indent}{folder.name}/", modules(folder))]
    return lines + [line for part in inner for line in room(part, indent + "  ")]


def tree() -> str:
    doors = entry("src/open_r1/", [f"{name}.py" for name in modules(PACKAGE)])
    lines = [line for name in BOTTOM_TO_TOP for line in room(PACKAGE / name)]
    return "\n".join(["```", doors, *lines, "```"])


def section() -> Section:
    return Section("rooms", "assets/docs/architecture.md", "local_scripts/dev/readme/rooms_tree.py", tree)


if __name__ == "__main__":
    section().run(__doc__)
