"""The corpus: answers as models write them, each with the value that a person gives and why, through `score`."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from helpers.answers import CORPUS, read, score

from open_r1.rewards.registry import METHODS

PAIRS = 200  # of each file
MOST_FALSE_PAY = 0.03  # golds that name one option by its letter and by its text are none
KEYS = {"method", "gold", "completion", "expected", "why"}  # further keys are what the method needs


def worth(row: dict) -> float:
    """The value of a row in its method's range: 1 is the maximum, 0 the minimum."""
    method = METHODS[row["method"]]
    return method.minimum + row["expected"] * (method.maximum - method.minimum)


def is_paid(row: dict) -> bool:
    """Whether a scored row earned its method's maximum."""
    return row.get("score", 0) >= METHODS[row["method"]].maximum - 1e-3


def misjudged(row: dict) -> str | None:
    """What went wrong with a scored row, None where nothing did."""
    if "error" not in row and row["score"] == pytest.approx(worth(row), abs=1e-3):
        return None
    got = row.get("error") or f"{row['score']:g}, read as {row['parsed']!r}"
    return f"{row['gold']!r} <- {row['completion'][-300:]!r}: {worth(row):g} ({row['why']}), got {got}"


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_answer_is_worth_what_a_person_gives(path: Path, tmp_path: Path) -> None:
    rows, wrong = read(path), []
    for method in sorted({row["method"] for row in rows}):
        scored = score([row for row in rows if row["method"] == method], method, tmp_path)
        wrong += filter(None, map(misjudged, scored))
    assert not wrong, f"{len(wrong)} of {len(rows)} rows of {path.name}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_rows_are_whole_and_said_once(path: Path) -> None:
    rows = read(path)
    assert [row for row in rows if not row.keys() >= KEYS or not row["why"] or not 0 <= row["expected"] <= 1] == []
    assert [row["method"] for row in rows if row["method"] not in METHODS] == []
    said = Counter(json.dumps({**row, "why": "", "expected": 0}, sort_keys=True) for row in rows)
    assert [row for row, times in said.items() if times > 1] == []
    assert {row["expected"] for row in rows} >= {0, 1}, "right and wrong answers"


@pytest.mark.slow
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_an_answer_to_another_row_is_not_paid(path: Path, tmp_path: Path) -> None:
    """Of pairs of rows whose golds differ; they differ where neither gold is paid as an answer to the other."""
    pairs = [pair for pair in _pairs(read(path)) if pair[0]["gold"] != pair[1]["gold"]]
    swapped = [{**row, "completion": other["completion"]} for row, other in pairs]
    as_answers = [{**row, "completion": _text(other["gold"])} for row, other in pairs]
    by_method = sorted({row["method"] for row in swapped})
    paid = false = 0
    for method in by_method:
        mine = [index for index, row in enumerate(swapped) if row["method"] == method]
        answers = score([swapped[index] for index in mine], method, tmp_path)
        golds = score([as_answers[index] for index in mine], method, tmp_path)
        differ = [answer for answer, gold in zip(answers, golds, strict=True) if not is_paid(gold)]
        paid += sum(map(is_paid, differ))
        false += len(differ)
    print(f"{path.stem}: {paid} of {false} answers to another row's gold are paid ({paid / max(false, 1):.2%})")
    assert paid <= MOST_FALSE_PAY * false


def _pairs(rows: list[dict]) -> list[tuple[dict, dict]]:
    """Pairs of a row and another one of its method that is right, drawn at random."""
    draw = random.Random(0)
    right = [row for row in rows if row["expected"] == 1]
    pairs = [(draw.choice(rows), draw.choice(right)) for _ in range(PAIRS)]
    return [(row, other) for row, other in pairs if row["method"] == other["method"]]


def _text(gold: object) -> str:
    return gold if isinstance(gold, str) else json.dumps(gold)
