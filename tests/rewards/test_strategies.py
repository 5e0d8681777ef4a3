"""The table of cheap strategies: each on rows of each accuracy method earns no more than a guess is worth."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from open_r1.data.record import Record
from open_r1.data.row_formats import Turn
from open_r1.errors import DataError
from open_r1.report.attack_table import attack_findings
from open_r1.rewards.attacks import RIGHT_ANSWER, AttackedReward, attacked, gold_pairs, other_golds, try_strategies
from open_r1.rewards.gold import in_format
from open_r1.rewards.gold_table import gold_key, gold_table, listed_options
from open_r1.rewards.parsing.answer import final_text
from open_r1.rewards.registry import ABOUT_FORM, METHODS, REWARDS
from open_r1.rewards.strategies import BY_LETTERS, STRATEGIES
from open_r1.rewards.trl_adapter import BatchReward

pytestmark = pytest.mark.usefixtures("all_is_tried")

DETECTION = ("od_ap", "od_ap50", "odLength", "weighted_sum", "map")
OPTIONS = {"options": ["a red car", "two blue cars", "a bus", "nothing of it"]}


def box(n: int) -> str:
    return str([3 * n, 2 * n, 3 * n + 25, 2 * n + 20])


def detected(n: int) -> str:
    return f'[{{"bbox_2d": {box(n)}, "label": "cat"}}, {{"bbox_2d": {box(n + 9)}, "label": "dog"}}]'


def polygon(n: int) -> str:
    return f'{{"centre": [{20 + 4 * n}, {30 + 2 * n}], "coeffs": [{9 + n}, 1], "size": [90, 120]}}'


# golds and further fields of the rows of each method that grades on this machine
ROWS: dict[str, list[tuple[str, dict]]] = {
    "default": [(gold, {}) for gold in ("7", "12", "a red car", "blue", "3/4", "-5", "Paris", "2.5 cm")],
    "math": [(gold, {}) for gold in ("7", "12 cm", "x^2+1", r"\frac{3}{4}", "50%", r"5\sqrt{3}", "(1,4)", "140°")],
    "mcq": [("ABCD"[n % 4], OPTIONS) for n in range(8)],
    "mcq_partial": [(("A, C", "B", "B, D", "A")[n % 4], OPTIONS) for n in range(8)],
    "yes_no": [("Yes" if n % 2 else "No", {}) for n in range(8)],
    "all_match": [(f"the {word} button", {}) for word in ("left", "right", "upper", "lower", "red", "blue")],
    "digits": [(gold, {}) for gold in ("7", "[0, 1]", "[3]", "12", "[4, 4, 2]", "5")],
    **{name: [(box(n), {}) for n in range(12)] for name in ("rec", "iou")},
    **{
        name: [(detected(n), {}) for n in range(9)] for name in ("od_ap", "od_ap50", "odLength", "weighted_sum", "map")
    },
    "mask_iou": [(polygon(n), {}) for n in range(10)],
    "point_in_box": [(str([9 * n, 7 * n, 9 * n + 8, 7 * n + 6]), {}) for n in range(12)],
    "point_distance": [(f"[{12 + 8 * n}, {70 - 5 * n}]", {}) for n in range(12)],
    "cer": [(text, {}) for text in ("Open daily from 9 to 5", "No entry", "Fresh bread and cakes", "Platform 4")],
    "anls": [(text, {}) for text in ("12 March 1999", '["Acme Ltd", "Acme Limited"]', "$ 4,200.00", "Rotterdam")],
    "decode": [(word, {"coded": "xqzwv"}) for word in ("tiger", "house", "plane", "night")],
    "area": [(f"{180 + 90 * n}.50", {}) for n in range(10)],
}
EXACT = ("math", "mcq", "yes_no", "all_match", "digits", "decode")  # without partial credit
HOSTILE_GOLDS = (
    "\ud800",
    "[" * 2000,
    "1e999",
    "<think>3",
    "\x00",
    "](",
    '{"label": "',
    "${a[0]!r}",
    "9" * 5000,
    "%s {}",
)


def row(number: int, gold: str, method: str | None = None, **extra: object) -> Record:
    where, size = f"t.jsonl:{number}", {"image_wh": (120, 90), "model_family": "original", "prompt_mode": "think"}
    turns = (Turn("user", "<image>Which of these do you see?"),)
    return Record(str(number), ("p.png",), "", turns, gold, {**size, **extra}, where, method)


def rows_of(method: str) -> list[Record]:
    return [row(n, gold, method, **extra) for n, (gold, extra) in enumerate(ROWS[method], 1)]


def target_of(records: list[Record], reward: str = "accuracy") -> AttackedReward:
    (target,) = attacked([BatchReward(reward)], records, ask_judge=False)
    return target


def quietly(items: list, title: str, total: int) -> list:
    return items


def test_each_method_that_grades_here_has_rows() -> None:
    assert set(ROWS) == {name for name, method in METHODS.items() if not method.is_remote}


@pytest.mark.slow
@pytest.mark.parametrize("method", ROWS)
def test_no_strategy_earns_more_than_a_guess(method: str) -> None:
    target = target_of(rows_of(method))
    earnings = {earning.strategy: earning for earning in try_strategies(target, quietly)}
    right = earnings[RIGHT_ANSWER]
    assert (right.mean, right.share) == pytest.approx((METHODS[method].maximum, 1.0))
    assert attack_findings(earnings.values(), [target], 0.5, ()) == []
    if method in EXACT:
        lucky = 1 / len(target.golds.keys)
        assert {e.strategy: e.share for e in earnings.values() if lucky < e.share and e.strategy != RIGHT_ANSWER} == {}
        assert other_golds(target, quietly).paid == ()


@pytest.mark.parametrize("mode", ["think", "direct"])
def test_the_right_answer_and_a_guess_have_the_format(mode: str) -> None:
    target = target_of([r.with_extra(prompt_mode=mode) for r in rows_of("mcq")], "format")
    earned = {earning.strategy: earning.mean for earning in try_strategies(target, quietly)}
    assert earned[RIGHT_ANSWER] == earned["most_frequent"] == earned["every_option"] == 1.0
    assert earned["empty"] == earned["no_content"] == earned["repeated_tags"] == 0.0


def test_every_strategy_applies_to_a_row_and_tells_what_it_does() -> None:
    applied = set()
    of_a_judge = [replace(record, accu_reward_method="llm") for record in rows_of("default")]
    for records in (*map(rows_of, ROWS), of_a_judge):
        golds = gold_table(records)
        applied |= {name for name, s in STRATEGIES.items() for r in records if s.complete(r, golds) is not None}
    assert applied == set(STRATEGIES)
    titles = [strategy.title for strategy in STRATEGIES.values()]
    assert all(titles) and len(set(titles)) == len(titles)


@pytest.mark.parametrize("gold", HOSTILE_GOLDS, ids=range(len(HOSTILE_GOLDS)))
def test_hostile_golds_and_options_break_no_strategy(gold: str) -> None:
    records = [row(1, gold, options=[gold, "b"]), row(2, "4", choices={"A": None, "B": gold}), row(3, "4", options=7)]
    records += [row(4, "[0, 0, 1, 1]", "rec", image_wh=(1, 1)), row(5, gold, "all_match", image_wh=None)]
    golds = gold_table(records)
    for record in records:
        for name, strategy in STRATEGIES.items():
            completion = strategy.complete(record, golds)
            assert completion is None or isinstance(completion, str), name


def test_a_row_without_options_picture_or_question_is_answered_by_what_is_left() -> None:
    record = Record("1", (), "", (), "blue", {}, "t.jsonl:1")
    applying = {name for name, s in STRATEGIES.items() if s.complete(record, gold_table([record])) is not None}
    assert "empty" in applying and not applying & {"every_letter", "picture_name", "whole_image", "question_copied"}
    assert "hedge" not in applying  # no other gold


def test_boxes_of_strategies_are_in_the_form_of_the_gold() -> None:
    records = rows_of("od_ap")
    text = STRATEGIES["whole_image"].complete(records[0], gold_table(records))
    boxes = '[{"bbox_2d": [0, 0, 120, 90], "label": "cat"}, {"bbox_2d": [0, 0, 120, 90], "label": "dog"}]'
    assert text == in_format(boxes, records[0])
    bare = rows_of("rec")
    assert final_text(STRATEGIES["centre_box"].complete(bare[0], gold_table(bare))) == "[30, 22, 90, 68]"


@pytest.mark.parametrize(
    ("golds", "keys"),
    [
        (("3", "03", "3.0", "３", "<answer> 3 </answer>"), 1),
        (("3", "3 cm", "30", "x=3"), 4),
        (("B", "(B)", "B.", "Ｂ", "B. two blue cars", "two blue cars", "Two blue cars."), 1),
        (("A", "B", "C", "a bus", "D. nothing"), 4),
        (("B, A", "AB", '["A", "B"]'), 1),
        (("Yes", "yes.", "YES"), 1),
        (("x", "-x", "x+1", "x-1"), 4),
        (("[1, 2]", "[1,2]"), 1),
        (("(1,4)", "[1,4]", "x<3", "x>3"), 4),
    ],
)
def test_golds_that_a_person_takes_for_equal_have_one_key(golds: tuple[str, ...], keys: int) -> None:
    fields: Mapping = OPTIONS if any("B" in gold for gold in golds) else {}
    assert len({gold_key(row(1, gold, **fields)) for gold in golds}) == keys


def test_boxes_of_any_form_have_one_key() -> None:
    golds = ("[1, 2, 30, 40]", '{"bbox": [1, 2, 30, 40]}', "<box>(1,2),(30,40)</box>", "[1.0, 2.0, 30.0, 40]")
    assert len({gold_key(row(1, gold, "rec")) for gold in golds}) == 1
    assert gold_key(row(1, golds[0], "rec")) != gold_key(row(1, "[1, 2, 30, 41]", "rec"))
    assert len({gold_key(row(1, gold, "od_ap")) for gold in ("None", "[]", "no objects")}) == 1


def test_an_answer_that_says_the_same_is_no_false_pair() -> None:
    records = [row(1, "[0, 0, 20, 20]", "point_in_box"), row(2, "[5, 5, 15, 15]", "point_in_box")]  # one centre
    assert other_golds(target_of(records), quietly).pairs == 0


def test_a_blank_gold_is_the_rows_error() -> None:
    with pytest.raises(DataError, match=r"t\.jsonl:1"):
        gold_key(row(1, " "))


def test_options_of_any_shape_are_texts() -> None:
    shapes = (
        {"options": [1, 2]},
        {"choices": {"A": 1, "B": 2}},
        {"options": (1, 2)},
        {"options": [], "choices": [1, 2]},
    )
    assert [listed_options(row(1, "A", **shape)) for shape in shapes] == [["1", "2"]] * 4
    assert [listed_options(row(1, "A", options=odd)) for odd in (None, "AB", 7, {})] == [[]] * 4


def test_pairs_are_all_or_a_fixed_sample() -> None:
    assert sorted(gold_pairs(3, 10)) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert gold_pairs(0, 9) == gold_pairs(1, 9) == []
    drawn = gold_pairs(50, 100)
    assert drawn == gold_pairs(50, 100) and len(set(drawn)) == 100 and all(i != j for i, j in drawn)


def test_rewards_of_the_form_are_rewards() -> None:
    assert set(REWARDS) > ABOUT_FORM and set(BY_LETTERS) < set(METHODS)
    # each of the others pays for what is right only: nothing for another row's gold
    assert not try_strategies(target_of(rows_of("mcq"), "environment"), quietly)  # a text has been in none
    for name in set(REWARDS) - ABOUT_FORM - {"environment"}:
        records = rows_of("decode" if name.startswith("decode") else "mcq")
        target = target_of(records, name)
        earned = {earning.strategy: earning for earning in try_strategies(target, quietly)}
        assert earned[RIGHT_ANSWER].mean > 0.9 and earned["another_gold"].share < 0.4, name
