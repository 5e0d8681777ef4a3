"""Properties of the math reward, over the rows of its corpus: what keeps a verdict, and what another gold earns."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import pytest
from helpers.cpu_time import cpu_seconds

from open_r1.data.record import Record
from open_r1.rewards.math import score_math
from open_r1.rewards.parsing.formula_spans import is_prose

ROWS = [json.loads(line) for line in (Path(__file__).parent / "corpus/mathematics.jsonl").read_text().splitlines()]
BEFORE = ("The picture shows 5 points and a circle.\n\n", "First, triangle ABC has 3 sides.\n")


def verdicts(pairs: list[tuple[str, str]]) -> list[float]:
    """The rewards of (gold, completion) pairs."""
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda pair: score_math(pair[1], Record("1", (), "", (), pair[0])), pairs))


@pytest.mark.parametrize("before", BEFORE)
def test_a_sentence_before_the_answer_keeps_its_verdict(before: str) -> None:
    rows = [row for row in ROWS if row["completion"] and "\n" not in row["completion"]]
    changed = verdicts([(row["gold"], before + row["completion"]) for row in rows])
    wrong = [row["completion"] for row, score in zip(rows, changed, strict=True) if score != row["expected"]]
    assert len(rows) > 300 and wrong == []


@pytest.mark.parametrize("written", ["<think>so</think><answer>{}</answer>", "**{}**", "The answer is {}.", "$${}$$"])
def test_ways_to_write_one_formula_get_one_verdict(written: str) -> None:
    rows = [row for row in ROWS if row["gold"].isascii() and row["expected"] and not is_prose(row["gold"])]
    rows = [row for row in rows if "$" not in row["gold"]]
    scores = verdicts([(row["gold"], written.format(row["gold"])) for row in rows])
    assert [row["gold"] for row, score in zip(rows, scores, strict=True) if score != 1.0] == []


@pytest.mark.slow
def test_what_is_equal_is_equal_both_ways() -> None:
    plain = [row for row in ROWS if not is_prose(row["completion"]) and not set("=≈.\n") & set(row["completion"])]
    plain = [row for row in plain if row["completion"] and "or" not in row["completion"] and row["gold"].isascii()]
    scores = verdicts([(row["completion"], row["gold"]) for row in plain if "=" not in row["gold"]])
    expected = [row["expected"] for row in plain if "=" not in row["gold"]]
    assert len(scores) > 150 and scores == expected


@pytest.mark.slow
def test_the_answer_to_another_row_is_not_paid() -> None:
    golds = [
        "12",
        "12.5",
        "x+1",
        "3x",
        "3y",
        "x<3",
        "x>3",
        "(3,4)",
        "(4,3)",
        "[0,1)",
        "(0,1)",
        "1:2",
        "2:3",
        "5!",
        "4π",
    ]
    golds += ["2√3", "3√2", r"\frac{3}{8}", "30 cm", "30 m", "5 kg", "7 or 8", "x=3", "y=4", "no solution", "x^2-1"]
    pairs = list(permutations(golds, 2))
    paid = [pair for pair, score in zip(pairs, verdicts(pairs), strict=True) if score]
    assert len(pairs) == 650 and paid == []


@pytest.mark.parametrize(
    "answer", ["(" * 900 + "7" + ")" * 900, "1.2.3 hours 30 minutes", "1.2. h 3 min", "[" * 30 + "1, 2"]
)
def test_nested_brackets_and_broken_numbers_are_other_answers(answer: str) -> None:
    assert verdicts([("7", answer)]) == [0.0] and cpu_seconds(lambda: verdicts([("7", answer)]), 0.5) < 0.5
