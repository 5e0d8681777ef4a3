"""Gold earns the maximum, garbage the minimum, and every hole named in the predecessors is closed."""

import json
from pathlib import Path

import pytest
from helpers.repository import SHARED as DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.rewards.custom import load_reward
from open_r1.rewards.gold import gold_completion, gold_score
from open_r1.rewards.referring import box_iou
from open_r1.rewards.registry import METHODS, REWARDS, accuracy, get_method, get_rewards
from open_r1.rewards.trl_adapter import BatchReward, RewardError
from open_r1.rewards.turns import completion_text

GOLDS = {
    "default": ["3", "-1.5", "140°", "5√{3}", "(B)", "C", "B. 12 cm", "red car", "50%", "[0, 1]", "No Defect", "C++"],
    "math": ["3", r"\frac{1}{2}", "4πcm", "x=3", "<answer> 3 </answer>"],
    "mcq": ["A", "(A)", "A)", "A. 12 cm", "answer is (B)", "J", "Z", "A, C", "ABD", '["B","D"]'],
    "mcq_partial": ["A", "A, C", "ABD"],
    "yes_no": ["Yes", "no", "No.", "True", "是", "错"],
    "all_match": ["Navigation Logic Error", "No Defect"],
    "digits": ["13", "[0, 1]", "[7]"],
    "rec": ["[1, 2, 30, 40]", '{"bbox_2d": [1.5, 2, 30, 40], "label": "cat"}', "(1,2),(30,40)"],
    "iou": ["[1, 2, 30, 40]"],
    **dict.fromkeys(
        ("od_ap", "od_ap50", "odLength", "weighted_sum", "map"),
        (
            '[{"bbox_2d": [1.3, 2, 30, 40], "label": "Cat"}, {"bbox_2d": [5, 5, 9, 9], "label": "a dog"}]',
            '```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]\n```',
        ),
    ),
    "decode": ["CAT", "cat_dog", "cat dog", "<think><chars>c a t</chars></think><answer>cat</answer>"],
    "mask_iou": ['{"centre": [50, 40], "coeffs": [20, 3.5], "size": [80, 100]}'],
    "point_in_box": [
        "[1, 2, 30, 40]",
        "[[1, 2, 30, 40], [50, 60, 70, 80]]",
        '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}]',
    ],
    "point_distance": ["[1, 2, 30, 40]", '{"bbox": [1, 2, 30, 40]}', "<box>(1,2),(30,40)</box>"],
    "cer": ["第一行第二行", "XYZ"],  # no character in common with GARBAGE: each right one pays
    "anls": ["12 March 1999", '["12 March", "March 12"]', '[1999, "\'99"]'],
    "area": ["616.50", "1,234.00", "20.25 cm²"],
}
CASES = [(method, gold) for method, golds in GOLDS.items() for gold in golds]
GARBAGE = [
    *("", " \n", "banana", "None", "null", "\x00\ud800\x07", "<answer></answer>", "<think></think><answer> </answer>"),
    *("<answer>" * 500, "<think>" * 500 + "</think>" * 500, "<answer>banana</answer>" * 3),
]


def record(gold: str, method: str | None = None, **extra: object) -> Record:
    return Record("7", (), "", (), gold, extra, "a.jsonl:7", method)


def score(method: str, completion: str, gold: str, **extra: object) -> float:
    return METHODS[method].score(completion, record(gold, **extra))


def rows(name: str) -> list[dict]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real data is absent: {path}")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_method_has_its_cases() -> None:
    assert set(GOLDS) == set(METHODS) - {"llm"}  # asks an endpoint: tests/rewards/test_judge.py


@pytest.mark.parametrize(("method", "gold"), CASES)
def test_gold_scores_the_maximum(method: str, gold: str) -> None:
    assert gold_score(record(gold, method)) == (METHODS[method].maximum,) * 2
    assert METHODS[method].parse(gold_completion(record(gold)), record(gold)) is not None


@pytest.mark.parametrize(("method", "gold"), CASES)
def test_garbage_scores_the_minimum(method: str, gold: str) -> None:
    assert {score(method, garbage, gold) for garbage in GARBAGE} == {METHODS[method].minimum}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(CASES))
def test_random_bytes_score_the_minimum(noise: bytes, case: tuple[str, str]) -> None:
    method, gold = case
    text = "".join(chr(byte) for byte in noise if not chr(byte).isalnum())  # letters and digits could be right
    assert score(method, f"<answer>{text}</answer>", gold) == METHODS[method].minimum


@pytest.mark.parametrize(
    ("method", "gold"),
    [
        ("mcq", "banana"),
        ("yes_no", "maybe"),
        ("rec", "[1, 2, 3]"),
        ("rec", "[9, 9, 1, 1]"),
        ("digits", "one"),
        ("rec", "[1,2,3,4] [1,2,3,4]"),
        ("default", "<answer></answer>"),
        ("math", " "),
        ("all_match", ""),
        *(("point_in_box", gold) for gold in ("[1, 2]", "[9, 9, 1, 1]", "[[1, 2, 3, 4], [9, 9, 1, 1]]", "the button")),
        *(("point_distance", gold) for gold in ("[1, 2, 3]", "the button", "[9, 9, 1, 1]", "(1, 2) or (3, 4)")),
        *(("anls", gold) for gold in ("[]", "[null]", '["a", ""]', "x" * 20_001)),
        ("cer", "x" * 20_001),
    ],
)
def test_malformed_gold_names_row_and_field(method: str, gold: str) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:7: solution: got "):
        gold_score(record(gold), method)


# Ways to be paid for nothing that earlier projects had, one test each.


@pytest.mark.parametrize(
    ("gold", "near"),
    [("1000", "1001"), ("3.14", "3.141"), ("cat", "cats"), ("1/3", "1/4"), ("-3", "3"), ("Bus 42", "Bus 43")],
)
def test_hole_near_misses_are_not_paid(gold: str, near: str) -> None:
    assert score("default", f"<answer>{near}</answer>", gold) == 0
    assert score("default", f"<answer>{gold}</answer>", gold) == 1


@pytest.mark.parametrize("method", ["default", "mcq"])
@pytest.mark.parametrize("answer", ["A", "(A)", "A)", "A. foo", "The answer is (A)", r"\boxed{A}"])
def test_hole_gold_in_brackets_matches(method: str, answer: str) -> None:
    assert score(method, f"<answer>{answer}</answer>", "(A)") == 1
    assert score(method, f"<answer>{answer}</answer>", "(B)") == 0


def test_hole_no_inside_know() -> None:
    assert score("yes_no", "<answer>I know</answer>", "no") == 0


@pytest.mark.parametrize("method", METHODS)
def test_hole_nothing_against_nothing(method: str) -> None:
    for empty in ("", "<answer></answer>", " "):
        with pytest.raises(DataError):
            METHODS[method].score(empty, record(empty))


def test_hole_none_gold_is_paid_to_none_only() -> None:
    assert [score("default", answer, "None") for answer in ("None", "banana", "", "<answer>")] == [1, 0, 0, 0]


def test_hole_last_box_in_training_and_eval() -> None:
    both = "<answer>[0,0,10,10] no: [20,20,30,30]</answer>"
    assert [score("rec", both, gold) for gold in ("[0,0,10,10]", "[20,20,30,30]")] == [0, 1]
    assert METHODS["rec"].parse(both, record("[0,0,10,10]")) == (20, 20, 30, 30)


def test_hole_several_numbers_are_no_answer() -> None:
    answers = ["7 or 8", "6, 7, 8", "<answer>1 2 3 4 5 6 7 8</answer>", "B. 8"]
    assert [score("default", answer, "8") for answer in answers] == [0, 0, 0, 0]


def test_text_after_thinking_without_tags_is_read() -> None:
    assert score("default", "<think>7</think> 8", "8") == score("default", "8", "8") == 1
    assert score("default", "<think>8", "8") == 0


@pytest.mark.parametrize(
    ("answer", "gold", "extra", "expected"),
    [
        ("12 cm", "B", {"options": ["9 cm", "12 cm"]}, 1),
        ("B", "12 cm", {"choices": ["9 cm", "12 cm"]}, 1),
        ("9 cm", "12 cm", {"options": {"A": "9 cm", "B": "12 cm"}}, 0),
        ("C", "B", {"options": ["9 cm", "12 cm"]}, 0),
        ("12 cm", "B. 12 cm", {}, 1),
        ("A", "B. 12 cm", {}, 0),
        ("80°", "D", {"options": ["30", "40", "60", "80"]}, 1),
        ("x = 80", "D", {"options": ["30", "40", "60", "80"]}, 1),
        ("x = 60", "D", {"options": ["30", "40", "60", "80"]}, 0),
        ("60 or 80", "D", {"options": ["30", "40", "60", "80"]}, 0),
        ("C. 80", "D", {"options": ["30", "40", "60", "80"]}, 0),
        (r"\frac{1}{2}", "A", {"options": ["0.5", "0.6"]}, 1),
    ],
)
def test_options_by_letter_or_text(answer: str, gold: str, extra: dict, expected: float) -> None:
    assert score("mcq", f"<answer>{answer}</answer>", gold, **extra) == expected
    assert score("default", f"<answer>{answer}</answer>", gold, **extra) == expected


def test_bad_options_and_letters_beyond_them() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:7: options: got 5"):
        score("mcq", "A", "A", options=5)
    with pytest.raises(DataError, match=r"A to B"):
        score("mcq", "A", "D", options=["x", "y"])


@pytest.mark.parametrize(("answer", "expected"), [("no  DEFECT\n", 1), ("No Defect.", 0), ("No Defect found", 0)])
def test_all_match_is_exact_but_for_case_and_space(answer: str, expected: float) -> None:
    assert score("all_match", f"<answer>{answer}</answer>", "No Defect") == expected


@pytest.mark.parametrize(
    ("answer", "expected"), [("[2,4]", 1), ("[4, 2]", 0), ("2, 4", 0), ("[2, 4, 4]", 0), ("6", 0), ("[2,\x1d4]", 1)]
)
def test_digits(answer: str, expected: float) -> None:
    assert score("digits", f"<answer>{answer}</answer>", "[2, 4]") == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 5), 0.5),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((0, 0, 10, 10), (0, 0, 0, 10), 0),
        ((5, 5, 5, 5), (5, 5, 5, 5), 0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
    ],
)
def test_iou(a: tuple, b: tuple, expected: float) -> None:
    assert box_iou(a, b) == box_iou(b, a) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("family", "box"),
    [("original", "[160, 0, 320, 425]"), ("qwen3_vl", "[250, 0, 500, 1000]"), ("qwen2_5_vl", "[161, 0, 322, 420]")],
)
@pytest.mark.parametrize("size", [{"image_wh": [640, 425]}, {"width": 640, "height": 425}])
def test_rec_converts_from_the_familys_frame(family: str, box: str, size: dict) -> None:
    assert score("rec", box, "[160, 0, 320, 425]", model_family=family, **size) == pytest.approx(1)
    assert gold_score(record("[160, 0, 320, 425]", "rec", model_family=family)) == (1, 1)


def test_rec_without_size_or_with_an_unknown_family() -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl:7: image_wh: got"):
        score("rec", "[1, 2, 3, 4]", "[1, 2, 3, 4]", model_family="qwen2_vl")
    with pytest.raises(DataError, match="model_family: got model family 'gpt'"):
        score("rec", "[1, 2, 3, 4]", "[1, 2, 3, 4]", model_family="gpt", image_wh=[9, 9])


@pytest.mark.parametrize(("mode", "think", "direct"), [("think", 1, 0), ("direct", 0, 1), (None, 1, 0)])
def test_format_follows_the_prompt_mode(mode: str | None, think: float, direct: float) -> None:
    extra = {"prompt_mode": mode} if mode else {}
    assert REWARDS["format"]("<think>a</think><answer>b</answer>\n", record("b", **extra)) == think
    assert REWARDS["format"]("<answer>b</answer>", record("b", **extra)) == direct


def test_registry_names_the_nearest() -> None:
    assert get_rewards(["accuracy", "format"]) == [REWARDS["accuracy"], REWARDS["format"]]
    assert get_method(None) is METHODS["default"]
    with pytest.raises(ValueError, match=r"expected one of accuracy, format, .*; did you mean 'accuracy'"):
        get_rewards(["acuracy"])
    with pytest.raises(DataError, match=r"a\.jsonl:7: accu_reward_method: got 'mqc', .* did you mean 'mcq'"):
        accuracy("A", record("A", "mqc"))


# Real data.


@pytest.mark.parametrize(
    ("name", "field", "method"),
    [
        ("coco/rec.jsonl", None, "rec"),
        ("gui/gui_multi-image.jsonl", None, "all_match"),
        ("mathv/testmini60.jsonl", "answer", "default"),
        ("geometry3k/index.jsonl", "answer", "mcq"),
        ("geoqa/geoqa_test_prompts.jsonl", "ground_truth", "default"),
        ("geoqa/geoqa_test_prompts.jsonl", "ground_truth", "math"),
        ("superclevr/qa.jsonl", "solution", "default"),
    ],
)
def test_real_gold_earns_the_maximum_and_garbage_nothing(name: str, field: str | None, method: str) -> None:
    for row in rows(name):
        gold = row[field] if field else row["conversations"][-1]["value"]
        rec = record(str(gold), method, **{key: row[key] for key in ("options", "choices") if row.get(key)})
        assert gold_score(rec) == (1, 1), row
        assert accuracy("<answer>banana</answer>", rec) == 0, row


def test_r1_v_counting_scores_are_reproduced() -> None:
    logs = rows("completions/superclevr_counting_logs.jsonl")
    after = [row for row in logs if "grpo100" in row["source"]]
    before = [row for row in logs if "grpo100" not in row["source"]]
    shares = [
        sum(score("default", row["completion"], str(row["gold"])) for row in part) / 200 for part in (before, after)
    ]
    assert shares == [0.48, 0.825]
    scores = [METHODS["default"].parse(row["completion"], record(str(row["gold"]))) for row in logs]
    assert scores == [row["upstream_extracted"] for row in logs]


def test_real_mcq_completions_are_read_without_an_error() -> None:
    logs = rows("completions/grpo_mcq_completions.jsonl")
    for row in logs:
        scores = [score("mcq", row["completion"], letter) for letter in "ABCD"]
        assert sum(scores) <= 1
        well_formed = row["kind"] == "wellformed"
        assert REWARDS["format"](row["completion"], record("A")) == well_formed or well_formed, row
    assert sum(REWARDS["format"](row["completion"], record("A")) for row in logs) == 12


# TRL's batch contract.


def chat(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def test_adapter_takes_trls_arguments() -> None:
    reward = BatchReward("accuracy")
    records = [record("3"), record("B", "mcq"), record("3")]
    completions = [
        chat("<answer>3</answer>"),
        "<answer>A</answer>",
        [{"role": "assistant", "content": [{"type": "text", "text": "3"}]}],
    ]
    values = reward(
        prompts=[""] * 3, completions=completions, completion_ids=[[1]] * 3, record=records, trainer_state=None
    )
    assert values == [1.0, 0.0, 1.0]
    assert reward.__name__ == "accuracy"
    assert completion_text(chat("x")) == "x"


def test_adapter_names_the_row_that_failed() -> None:
    with pytest.raises(RewardError, match=r"a\.jsonl:7: reward accuracy: DataError: a.jsonl:7: solution"):
        BatchReward("accuracy")(["", ""], ["A", "A"], record=[record("A", "mcq"), record("banana", "mcq")])
    with pytest.raises(ValueError, match="shorter"):
        BatchReward("accuracy")(["", ""], ["A", "A"], record=[record("A")])


USER_FILE = """
def ours(completion, record): return None if record.solution == "skip" else len(completion)
def seeing(completion, record, images): return images[0]
def batch(completions, solution, level, **columns):
    return [len(chat[0]["content"]) + extra for chat, extra in zip(completions, level)]
def short(completions): return [1.0]
def other(text, gold): return 1.0
"""


def test_user_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    records = [record("3", level=1), record("skip", level=2)]
    arguments = {
        "prompts": ["", ""],
        "completions": [chat("ab"), chat("abc")],
        "record": records,
        "images": [[5], [6]],
    }
    values = {name: BatchReward(f"{path}:{name}")(**arguments) for name in ("ours", "seeing", "batch")}
    assert values == {"ours": [2.0, None], "seeing": [5.0, 6.0], "batch": [3.0, 5.0]}
    with pytest.raises(RewardError, match=r"a\.jsonl:7 and 1 more: reward .*:short: returned 1 values, expected"):
        BatchReward(f"{path}:short")(**arguments)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("{path}:other", ValueError, r"got other\(text, gold\), expected \(completion: str, record.*\(completions"),
        ("{path}:missing", ValueError, "has no function 'missing'"),
        ("{path}", ValueError, "expected .*:function"),
        ("nowhere/file.py:f", FileNotFoundError, "nowhere/file.py"),
        ("formt", ValueError, "did you mean 'format'"),
    ],
)
def test_user_files_refused(tmp_path: Path, spec: str, error: type[Exception], message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    with pytest.raises(error, match=message):
        load_reward(spec.format(path=path))
