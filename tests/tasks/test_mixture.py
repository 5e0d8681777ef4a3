"""The mixture: parts by their shares, named in a field alone; answers right, wrong and unreadable on purpose."""

import json
from collections import Counter

import pytest

from open_r1.tasks.mixture import MixedRows


@pytest.fixture(scope="module")
def questions():
    generator = MixedRows()
    return [generator.example(0, "train", index).questions[0] for index in range(400)]


def test_parts_have_their_shares_and_stand_in_a_field_alone(questions):
    counts = Counter(question.extra["part"] for question in questions)
    assert counts["hopeless"] == pytest.approx(240, abs=40) and counts["trivial"] == pytest.approx(100, abs=35)
    assert counts["learnable"] == pytest.approx(60, abs=28)
    kinds = Counter(question.extra["kind"] for question in questions)
    assert min(kinds.values()) > 15 and set(kinds) == {"coded", "wrong_label", "one_digit", "list", "sum"}
    assert not any(word in question.question for question in questions for word in ("hopeless", "trivial", "learn"))


def test_answers_are_of_their_part(questions):
    by_kind = {kind: [q for q in questions if q.extra["kind"] == kind] for kind in ("one_digit", "sum", "wrong_label")}
    assert all(q.answer.strip("[]").isdigit() for q in by_kind["one_digit"])
    assert all(0 <= int(q.answer) <= 27 for q in by_kind["sum"])
    assert all(len(json.loads(q.answer)) == 3 for q in by_kind["wrong_label"])
    methods = {q.extra["kind"]: q.extra["accu_reward_method"] for q in questions}
    assert methods["one_digit"] == "default" and methods["list"] == methods["wrong_label"] == "digits"


def test_shares_are_options_and_are_checked():
    learnable = MixedRows(hopeless=0.0, trivial=0.0)
    assert {learnable.example(0, "heldout", i).questions[0].extra["part"] for i in range(20)} == {"learnable"}
    with pytest.raises(ValueError, match=r"got hopeless 0\.9 and trivial 0\.2, expected shares of at most 1 in all"):
        MixedRows(hopeless=0.9, trivial=0.2)
