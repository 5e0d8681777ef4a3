"""What a trial leaves: rows of the table that `run_scripts/torture.sh` prints."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the table: what goes wrong, what then happens, the test that shows it, what this run measured."""

    fault: str
    happens: str
    test: str
    figure: str


def write(out: str | Path, name: str, rows: Sequence[Row]) -> None:
    Path(out).mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False)
    (Path(out) / f"{name}.json").write_text(text + "\n", encoding="utf-8")
