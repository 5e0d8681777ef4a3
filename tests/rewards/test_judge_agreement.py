"""Whether verifiable methods agree with a judge: asked are all whose form the gold has."""

import json
from dataclasses import replace

import pytest
from helpers.fake_endpoint import serving
from helpers.judged_rows import honest, judged_row

from open_r1.data.record import Record
from open_r1.rewards.base import Method
from open_r1.rewards.judge import agreement
from open_r1.rewards.judge import method as judge
from open_r1.rewards.judge.agreement import gold_verdict, verifiable_forms
from open_r1.rewards.methods import VERIFIABLE
from open_r1.rewards.registry import METHODS

PLACE = {"image_wh": (640, 425), "box_space": "original"}
SQUARE = [[100, 100], [300, 100], [300, 300], [100, 300]]
# gold, extra fields -> right answers, wrong answers, and those that no method can tell
KINDS = [
    ("(B)", {}, ["B", "The answer is (B)."], ["C", "A"], ["none of them"]),
    ("A, C", {}, ["A and C"], ["A, B"], ["the first and the third"]),
    ("2", {"options": ["red", "blue"]}, ["2"], ["3"], ["the second one"]),
    ("No", {}, ["no, it is not"], ["Yes"], ["hardly"]),
    ("7", {}, ["seven of them", "7.0"], ["8", "7.2", "70 cars"], ["a few", "nearly ten or so"]),
    ("12 cm", {}, ["120 mm", "0.12 m"], ["12 m", "13 cm"], ["as long as a hand"]),
    ("x^2+1", {}, ["1+x^2"], ["x^2", "2x+1"], ["a parabola"]),
    ("[3, 1, 2]", {}, ["[3,1,2]"], ["[1, 2, 3, 4]"], ["three numbers"]),
    ('["Coca Cola", "Coke"]', {}, ["coke", "The answer is Coca Cola."], [], ["Pepsi", "a drink"]),
    ("12 March 1999", {}, ["The answer is 12 March 1999."], [], ["in spring", "12 March 1998"]),
    ("[1, 2, 130, 140]", PLACE, ["[1, 2, 130, 140]"], ["[300, 200, 400, 400]"], ["[9, 9, 121, 120]", "on the left"]),
    (
        json.dumps([{"bbox_2d": [1, 2, 130, 140], "label": "dog"}]),
        PLACE,
        ['[{"bbox_2d": [1, 2, 130, 140], "label": "dog"}]'],
        ['[{"bbox_2d": [400, 300, 500, 400], "label": "dog"}]'],
        ["a dog"],
    ),
    ("(212, 133)", PLACE, ["(212, 133)", "click(212, 134)"], ["(500, 400)"], ["in the middle"]),
]


@pytest.mark.parametrize(("gold", "extra", "right", "wrong", "unknown"), KINDS, ids=[gold for gold, *_ in KINDS])
def test_methods_of_the_golds_form_say_what_is_right(gold, extra, right, wrong, unknown):
    row = Record("7", ("a.png",) if extra is PLACE else (), "", (), gold, extra, "a.jsonl:7", "llm")
    assert verifiable_forms(row) or right == ["The answer is 12 March 1999."]
    said = {text: gold_verdict(f"<answer>{text}</answer>", row) for text in (*right, *wrong, *unknown)}
    assert said == dict.fromkeys(right, True) | dict.fromkeys(wrong, False) | dict.fromkeys(unknown, None)


def test_boxes_are_read_in_the_space_of_the_answer():
    row = Record("7", ("a.png",), "", (), "[64, 0, 128, 425]", {**PLACE, "box_space": "relative_1000"}, "", "llm")
    assert gold_verdict("[100, 0, 200, 1000]", row) is True and gold_verdict("[500, 0, 600, 1000]", row) is False
    unknown = replace(row, extra={"image_wh": (640, 425), "model_family": "of no known space"})
    assert gold_verdict("[100, 0, 200, 1000]", unknown) in (None, False)  # and no error: the judge needs no space


def test_every_method_says_which_golds_have_its_form():
    """It refuses a gold of words, or says of it that it has no form; so a new method takes part as it is."""
    words = Record("7", (), "", (), "quo vadis semper", {}, "a.jsonl:7")
    assert verifiable_forms(words) == []
    assert set(METHODS) - set(VERIFIABLE) == {"llm"}
    rows = [replace(words, solution=gold, extra=extra) for gold, extra, *_ in KINDS]
    forms = {name for row in rows for name in verifiable_forms(row)}
    beside = {"default", "all_match", "cer", "decode", "area", "mask_iou"}  # words; another scale; gold masks
    assert forms | beside >= set(VERIFIABLE)


def test_a_method_that_is_added_takes_part(monkeypatch):
    def colour(completion: str, record: Record) -> float:
        return float("red" in completion)

    row = judged_row("a red car")
    assert gold_verdict("It's red", row) is None
    added = Method(colour, has_form=lambda record: "red" in record.solution)
    monkeypatch.setitem(agreement.VERIFIABLE, "colour", added)
    assert gold_verdict("It's red", row) is True and gold_verdict("It's blue", row) is None


@pytest.mark.parametrize(
    ("gold", "answer", "compared"),
    [
        ("[1, 2, 130, 140]", "box [300, 200, 400, 400]", 1),
        ("(B)", "surely C", 1),
        ("7", "8 cars", 1),
        ("a dog", "8", 0),
    ],
)
def test_a_judge_that_errs_is_seen_for_golds_of_every_form(use, gold, answer, compared):
    with serving(honest("box surely cars 8")) as server:
        use(server)
        row = replace(judged_row(gold, **PLACE), images=())
        assert judge.llm(answer, row) == 1.0
        metrics = judge.judge_metrics()
    assert metrics.get("judge/compared", 0) == compared and metrics.get("judge/agreement", 0.0) == 0.0


def test_what_a_rubric_decides_is_not_compared(use, tmp_path):
    (tmp_path / "rubric.md").write_text("Right if it names a number.")
    with serving(honest("8")) as server:
        use(server, JUDGE_RUBRIC=str(tmp_path / "rubric.md"))
        assert judge.llm("8", judged_row("7")) == 1.0 and "judge/compared" not in judge.judge_metrics()
