"""Each model family's own way to write a box is read where the box is, and no other way is."""

import json
import re

import pytest

from open_r1.data.geometry.conventions import CONVENTIONS
from open_r1.data.geometry.coordinates import SPACES, from_original, rounded
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.rewards.gold import gold_answer
from open_r1.rewards.registry import METHODS
from open_r1.score import main as score_file
from open_r1.score import score_line

WH = (1280, 720)
BOX = (192, 72, 448, 576)  # 0.15, 0.1, 0.35, 0.8 of the sides, so neither square nor on the diagonal
DOCUMENTED = {family: known for family, known in CONVENTIONS.items() if known.space}
WRITINGS = {  # of four numbers, in the order of the space
    "list": "[{}, {}, {}, {}]",
    "list in a list": "[[{}, {}, {}, {}]]",
    "round brackets": "({}, {}, {}, {})",
    "fence": '```json\n[{{"bbox_2d": [{}, {}, {}, {}], "label": "cat"}}]\n```',
    "bbox": '[{{"label": "cat", "bbox": [{}, {}, {}, {}]}}]',
    "corners": "<|box_start|>({},{}),({},{})<|box_end|>",
    "tags": "<ref>cat</ref><box>[[{}, {}, {}, {}]]</box>",
    "spaces": "<ref>cat</ref><box>{} {} {} {}</box>",
    "det": "<|ref|>cat<|/ref|><|det|>[[{}, {}, {}, {}]]<|/det|>",
    "glm": "<|begin_of_box|>[[{}, {}, {}, {}]]<|end_of_box|>",
    "text": "The cat is at [{}, {}, {}, {}].",
}


def numbers(space: str, box: tuple = BOX) -> list:
    return rounded(from_original(box, space, WH), space)


def native(family: str, box: tuple = BOX) -> str:
    """A box in the form that the table shows for a family."""
    known = DOCUMENTED[family]
    by_name = dict(zip(re.findall(r"[xy][12]", known.form), numbers(known.space, box), strict=True))
    return re.sub(r"[xy][12]", lambda match: str(by_name[match[0]]), known.form)


def row(method: str = "rec", gold: str = str(list(BOX)), **extra: object) -> Record:
    return Record("1", (), "", (), gold, {"image_wh": WH, **extra}, "a.jsonl:7", method)


def score(text: str, method: str = "rec", **extra: object) -> float:
    gold = json.dumps([{"bbox_2d": BOX, "label": "cat"}]) if method == "od_ap" else str(list(BOX))
    return METHODS[method].score(text, row(method, gold, **extra))


@pytest.mark.parametrize("family", DOCUMENTED)
def test_a_familys_own_form_earns_the_maximum_and_another_frame_does_not(family: str) -> None:
    text, space = native(family), DOCUMENTED[family].space
    assert score(text, model_family=family) > 0.98  # of rounding
    assert score(f"<think>[0, 0, 1, 1]</think><answer>{text}</answer>", model_family=family) > 0.98
    assert score(text, "point_in_box", model_family=family) == 1
    assert score(text, "point_distance", model_family=family) > 0.99
    for other in {known.space for known in DOCUMENTED.values()} - {space, "relative_1000", "relative_999"}:
        wrong = native(next(name for name, known in DOCUMENTED.items() if known.space == other))
        if {space, other} != {"resized", "original"}:
            assert score(wrong, box_space=space) < 0.5 or "box_2d" in wrong


@pytest.mark.parametrize("family", [name for name, known in DOCUMENTED.items() if "cat" in known.form])
def test_a_familys_own_form_is_a_detection_with_its_label(family: str) -> None:
    assert score(native(family), "od_ap", model_family=family) == 1
    assert score(native(family).replace("cat", "dog"), "od_ap", model_family=family) == 0


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("writing", WRITINGS)
def test_every_writing_is_read_in_every_space(space: str, writing: str) -> None:
    a, b, c, d = numbers(space)
    right, swapped = (WRITINGS[writing].format(*order) for order in ((a, b, c, d), (b, a, d, c)))
    assert score(right, box_space=space) > 0.98
    assert score(swapped, box_space=space) < 0.5  # x and y exchanged
    assert score("no box here", box_space=space) == score("[1, 2]", box_space=space) == 0
    others = [other for other in SPACES if abs(numbers(other)[2] / c - 1) > 0.1]
    assert others and all(score(right, box_space=other) < 0.5 for other in others)


@pytest.mark.parametrize("space", SPACES)
def test_numbers_with_names_are_what_they_name(space: str) -> None:
    """Gemini's key is y first wherever it stands, and names say which number is an x."""
    x1, y1, x2, y2 = from_original(BOX, {"yx_1000": "relative_1000"}.get(space, space), WH)
    assert score(json.dumps({"box_2d": [y1, x1, y2, x2]}), box_space=space) == pytest.approx(1)
    assert score(f"x1={x1}, y1={y1}, x2={x2}, y2={y2}", box_space=space) == pytest.approx(1)
    centre = f"click(x={(x1 + x2) / 2}, y={(y1 + y2) / 2})"
    assert score(centre, "point_distance", box_space=space) == pytest.approx(1)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("method", ["rec", "od_ap", "point_in_box", "point_distance"])
def test_the_gold_written_in_a_space_earns_the_maximum(space: str, method: str) -> None:
    gold = json.dumps([{"bbox_2d": BOX, "label": "cat"}]) if method == "od_ap" else str(list(BOX))
    record = row(method, gold, box_space=space)
    assert METHODS[method].score(gold_answer(record), record) > 0.98
    assert METHODS[method].score("nothing", record) == 0


def test_a_list_behind_one_label_has_that_label() -> None:
    boxes = [numbers("relative_1000"), numbers("relative_1000", (640, 360, 1280, 720))]
    gold = json.dumps([{"bbox_2d": box, "label": "cat"} for box in (BOX, (640, 360, 1280, 720))])
    record = row("od_ap", gold, box_space="relative_1000")
    for text in (f"<ref>cat</ref><box>{boxes}</box>", f"<|ref|>cat<|/ref|><|det|>{boxes}<|/det|>"):
        assert METHODS["od_ap"].score(text, record) == 1
    assert METHODS["od_ap"].score(f"<ref>cat</ref><box>[{boxes[0]}]</box> and {boxes[1]}", record) < 1


def test_the_asked_space_wins_over_the_familys() -> None:
    text = str(numbers("relative_1"))
    assert score(text, model_family="qwen3_vl") == 0
    assert score(text, model_family="qwen3_vl", box_space="relative_1") > 0.98


@pytest.mark.parametrize("family", [name for name, known in CONVENTIONS.items() if not known.space] + ["gpt"])
def test_a_family_without_a_published_form_is_a_defect_of_the_row(family: str) -> None:
    with pytest.raises(DataError, match=r"a.jsonl:7: model_family: got .*published.*; set --box_space"):
        score("[1, 2, 3, 4]", model_family=family)
    assert score(str(list(BOX)), model_family=family, box_space="original") == 1


def test_resized_follows_the_factor_of_the_processor() -> None:
    for factor in (28, 32, 40):
        box = [round(side) for side in from_original(BOX, "resized", WH, factor=factor)]
        assert score(str(box), box_space="resized", resize_factor=factor) > 0.99


@pytest.mark.parametrize("family", DOCUMENTED)
def test_saved_completions_are_scored_in_the_familys_form(family: str) -> None:
    saved = {"completion": native(family), "gold": list(BOX), "image_wh": WH, "model_family": family}
    scored = score_line(json.dumps(saved).encode(), "a.jsonl:1", "rec")
    assert scored["score"] > 0.98 and scored["parsed"] == pytest.approx(BOX, abs=2)


def test_score_takes_a_space_for_all_rows(tmp_path, capsys) -> None:
    rows = tmp_path / "rows.jsonl"
    saved = {"completion": str(numbers("yx_1000")), "gold": list(BOX), "image_wh": WH, "model_family": "smolvlm"}
    rows.write_text(json.dumps(saved) + "\n")
    command = ["--reward_method", "rec", "--rows", str(rows), "--out", str(tmp_path / "out.jsonl")]
    assert score_file([*command, "--box_space", "yx_1000"]) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["score"] > 0.98
    assert score_file(command) == 1 and "--box_space" in (tmp_path / "out.jsonl").read_text()
    capsys.readouterr()


def test_every_convention_is_whole() -> None:
    for family, known in CONVENTIONS.items():
        assert known.space in (None, *SPACES) and known.source and known.form, family
