"""The length reward is clamped and asks whether the answer is right; the repetition penalty reads every script."""

import json
import math
import random
from functools import partial

import pytest
from helpers.cpu_time import cpu_seconds
from hypothesis import given, settings
from hypothesis import strategies as st

from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.rewards.length import MAX_UNITS, cosine_value
from open_r1.rewards.registry import METHODS, REWARDS
from open_r1.rewards.repetition import MAX_REPETITION_CHARS

length, repetition = REWARDS["length"], REWARDS["repetition"]


def record(gold: str = "3", method: str | None = None, **extra: object) -> Record:
    return Record("7", (), "", (), gold, extra, "a.jsonl:7", method)


BOX = '[{{"bbox_2d": [0, 0, 9, {}], "label": "cat"}}]'


def think(words: int, answer: str) -> str:
    """A completion of exactly `words` words."""
    return "<think> " + "word " * (words - 3) + f"</think> <answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("words", "right", "wrong"),
    [
        # right: .5 + .5 * (1 + cos(pi * words / 1024)) / 2; wrong: -.5 * (1 + cos(pi * words / 1024)) / 2
        (256, 0.5 + 0.25 * (1 + math.sqrt(0.5)), -0.25 * (1 + math.sqrt(0.5))),
        (512, 0.75, -0.25),
        (1024, 0.5, 0.0),
        (2048, 0.5, 0.0),
    ],
)
def test_worked_lengths(words: int, right: float, wrong: float) -> None:
    assert MAX_UNITS == 1024
    assert length(think(words, "3"), record()) == pytest.approx(right)
    assert length(think(words, "4"), record()) == pytest.approx(wrong)


def test_hole_length_is_clamped() -> None:
    """VLM-R1's cosine turns around beyond the limit: at twice the limit it pays like an empty completion."""
    values = [cosine_value(units, 100, 1.0, 0.5) for units in range(0, 400, 10)]
    assert values == sorted(values, reverse=True) and values[10:] == [0.5] * 30
    assert length(think(5000, "3"), record()) == 0.5 and length(think(5000, "4"), record()) == 0.0


def test_hole_length_is_not_blind_to_correctness() -> None:
    for words in (4, 100, 1000, 5000):
        assert length(think(words, "3"), record()) >= 0.5 > 0 >= length(think(words, "4"), record())
    assert length(think(10, "3"), record()) > length(think(900, "3"), record())  # right: shorter is better
    assert length(think(10, "4"), record()) < length(think(900, "4"), record())  # wrong: longer is less bad


@pytest.mark.parametrize(
    ("method", "gold", "right", "wrong"),
    [
        ("yes_no", "Yes", "yes", "no"),
        ("mcq", "(B)", "B", "A"),
        ("rec", "[0, 0, 10, 10]", "[0, 0, 10, 6]", "[0, 0, 10, 5]"),  # IoU .6 and .5
        ("area", "500.00", "480.00", "200.00"),  # range -3..3: 3 - 6 * 20/500 and 3 - 6 * 300/500 = -.6
        ("od_ap50", BOX.format(9), BOX.format(8), "[]"),
    ],
)
def test_right_is_above_the_middle_of_the_rows_own_method(method: str, gold: str, right: str, wrong: str) -> None:
    assert method in METHODS
    assert length(f"<answer>{right}</answer>", record(gold, method)) > 0.9
    assert length(f"<answer>{wrong}</answer>", record(gold, method)) < -0.4


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("one two  three", 3),
        ("两只猫", 3),
        ("สอง", 3),
        ("ねこ が 2", 4),
        ("고양이 둘", 2),
        ("", 0),
        (" \n", 0),
    ],
)
def test_length_counts_words_and_spaceless_characters(text: str, units: int) -> None:
    assert length(text, record("no such answer", max_units=8)) == pytest.approx(cosine_value(units, 8, -0.5, 0.0))


@pytest.mark.parametrize("limit", [0, -1, 2.5, "100", True, None])
def test_max_units_is_checked(limit: object) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:7: max_units: got .*, expected a positive integer"):
        length("3", record(max_units=limit))


def test_length_of_an_unusable_row_is_refused() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:7: solution"):
        length("3", record(" "))
    with pytest.raises(DataError, match=r"a\.jsonl:7: accu_reward_method"):
        length("3", record("3", "mqc"))


LOOP = {
    "words": "the cat is here ",
    "chinese": "这里有一只猫",
    "japanese": "ここにねこがいる",
    "thai": "มีแมวอยู่ที่นี่",
    "korean": "여기에 고양이가 있다 ",
}


@pytest.mark.parametrize("language", LOOP)
def test_loops_are_punished_in_every_script(language: str) -> None:
    once = repetition(LOOP[language], record())
    assert once == 0
    values = [repetition(LOOP[language] * times, record()) for times in (2, 4, 50)]
    assert once > values[0] > values[1] > values[2] >= -1 and values[2] < -0.9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("one", 0),
        ("one two", 0),
        ("one two three", 0),
        ("a a a a", -1 / 2),  # 2 triples, 1 new
        ("a b c a b c", -1 / 4),  # abc bca cab abc
        ("A b c. a B c.", -1 / 4),
        ("猫猫猫猫", -1 / 2),
        ("猫 a 猫", 0),
    ],
)
def test_worked_repetitions(text: str, expected: float) -> None:
    assert repetition(text, record()) == pytest.approx(expected)


def test_a_list_of_different_boxes_is_no_repetition_and_of_equal_boxes_is() -> None:
    boxes = [{"bbox_2d": [k, k, k + 9, k + 9], "label": "cat"} for k in range(40)]
    assert repetition(f"<answer>{json.dumps(boxes)}</answer>", record()) == 0
    # `[`, 40 objects with 39 commas, `]`: 79 triples, of which "[ A ,", "A , A", ", A ,", ", A ]" and so on are new
    assert repetition(json.dumps(boxes[:1] * 40), record()) < -0.9


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_ranges(text: str) -> None:
    assert -1 <= repetition(text, record()) <= 0
    assert -0.5 <= length(text, record("no such answer")) <= 0


def test_the_end_of_a_long_text_is_read() -> None:
    rng = random.Random(0)
    fresh = " ".join(str(rng.random()) for _ in range(4000))
    assert len(fresh) > MAX_REPETITION_CHARS
    assert repetition(fresh, record()) == 0 and repetition(fresh + " no" * MAX_REPETITION_CHARS, record()) < -0.99


@pytest.mark.parametrize("text", ["a ", "猫", "{", "{a", "{" + "a" * 399, "x", " ", "{}", "\x00", "a{猫"])
def test_hostile_text_takes_less_than_50_ms(text: str) -> None:
    hostile = (text * 100_000)[:100_000]
    for reward in (repetition, length):
        assert -1 <= reward(hostile, record("B", "mcq")) <= 0
        assert cpu_seconds(partial(reward, hostile, record("B", "mcq")), 0.05) < 0.05
