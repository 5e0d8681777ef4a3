"""The corpus: answers as models write them, each with the value that a person gives and why, through `score`."""

import json
from collections import Counter
from pathlib import Path

import pytest

from open_r1.rewards.registry import METHODS
from open_r1.score import main

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("*.jsonl"))
KEYS = {"method", "gold", "completion", "expected", "why"}  # further keys are what the method needs


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def score(rows: list[dict], method: str, folder: Path) -> list[dict]:
    """The rows, scored by the command that users call, with one of the methods."""
    source, out = folder / f"{method}.jsonl", folder / f"{method}-scored.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["--reward_method", method, "--rows", str(source), "--out", str(out)])
    return read(out)


def worth(row: dict) -> float:
    """The value of a row in its method's range: 1 is the maximum, 0 the minimum."""
    method = METHODS[row["method"]]
    return method.minimum + row["expected"] * (method.maximum - method.minimum)


def misjudged(row: dict) -> str | None:
    """What went wrong with a scored row, None where nothing did."""
    if "error" not in row and row["score"] == pytest.approx(worth(row), abs=1e-3):
        return None
    got = row.get("error") or f"{row['score']:g}, read as {row['parsed']!r}"
    return f"{row['gold']!r} <- {row['completion'][-300:]!r}: {worth(row):g} ({row['why']}), got {got}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_answer_is_worth_what_a_person_gives(path: Path, tmp_path: Path) -> None:
    rows, wrong = read(path), []
    for method in sorted({row["method"] for row in rows}):
        scored = score([row for row in rows if row["method"] == method], method, tmp_path)
        wrong += filter(None, map(misjudged, scored))
    assert not wrong, f"{len(wrong)} of {len(rows)} rows of {path.name}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_rows_are_whole_and_said_once(path: Path) -> None:
    rows = read(path)
    assert [row for row in rows if not row.keys() >= KEYS or not row["why"] or not 0 <= row["expected"] <= 1] == []
    assert [row["method"] for row in rows if row["method"] not in METHODS] == []
    said = Counter(json.dumps({**row, "why": "", "expected": 0}, sort_keys=True) for row in rows)
    assert [row for row, times in said.items() if times > 1] == []
    assert {row["expected"] for row in rows} >= {0, 1}, "right and wrong answers"
