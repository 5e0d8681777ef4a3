"""Detection rewards: COCOeval's own numbers, one-to-one matches, and every hole of the predecessors closed."""

import contextlib
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.cpu_time import cpu_seconds
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from open_r1.data.geometry.coordinates import from_original
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.report.examination import check_gold
from open_r1.rewards.average_precision import average_precision
from open_r1.rewards.gold import gold_score
from open_r1.rewards.registry import METHODS
from open_r1.tasks.detection import DetectedShapes
from open_r1.tasks.registry import TASKS

NAMES = ("od_ap", "od_ap50", "odLength", "weighted_sum", "map")
A, B, FAR = (0, 0, 10, 10), (20, 20, 40, 40), (60, 60, 70, 70)
HALF = (0, 0, 10, 5)  # IoU .5 with A
MOST = (0, 0, 10, 8)  # IoU .8 with A


def answer_of(*boxes: tuple, label: str = "cat") -> str:
    """An answer; a box of five numbers and text carries its own label."""
    return json.dumps([{"bbox_2d": list(box[:4]), "label": box[4] if len(box) == 5 else label} for box in boxes])


def record(gold: str, **extra: object) -> Record:
    return Record("7", (), "", (), gold, extra, "a.jsonl:7")


def score(name: str, completion: str, gold: str, **extra: object) -> float:
    return METHODS[name].score(completion, record(gold, **extra))


def coco_eval(gold: dict[str, np.ndarray], ranked: dict[str, np.ndarray]) -> tuple[float, float]:
    """(AP .5:.95, AP .5) by COCOeval, every detection with score 1."""
    ids = {label: number for number, label in enumerate(gold, start=1)}

    def rows(groups: dict[str, np.ndarray], **fields: object) -> list[dict]:
        boxes = [(ids[label], box.tolist()) for label in groups for box in groups[label]]
        return [
            {
                "id": number,
                "image_id": 1,
                "category_id": label,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                **fields,
            }
            for number, (label, (x1, y1, x2, y2)) in enumerate(boxes, start=1)
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": 1, "width": 512, "height": 512}],
            "categories": [{"id": number, "name": label} for label, number in ids.items()],
            "annotations": rows(gold, iscrowd=0),
        }
        truth.createIndex()
        result = COCOeval(truth, truth.loadRes(rows(ranked, score=1.0)), "bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
    return float(result.stats[0]), float(result.stats[1])


def random_boxes(rng: np.random.Generator, count: int, grid: int) -> np.ndarray:
    corners = rng.integers(0, 12, size=(count, 2)) * grid
    return np.hstack([corners, corners + rng.integers(1, 6, size=(count, 2)) * grid]).astype(float)


@pytest.mark.parametrize("seed", range(60))
def test_average_precision_is_cocoevals(seed: int) -> None:
    """Boxes on a grid, where equal IoUs and IoUs that lie on a threshold occur often; jittered for odd seeds."""
    rng = np.random.default_rng(seed)
    labels = ["cat", "dog", "sea horse"][: rng.integers(1, 4)]
    gold = {label: random_boxes(rng, rng.integers(1, 7), grid=10) for label in labels}
    ranked = {}
    for label, boxes in gold.items():
        near = boxes[rng.integers(len(boxes), size=rng.integers(0, 6))] + rng.integers(-2, 3, size=4)
        near = near + rng.normal(0, 0.7, near.shape) * (seed % 2)
        ranked[label] = rng.permutation(np.vstack([near, random_boxes(rng, rng.integers(1, 5), grid=10)]))
    expected = coco_eval(gold, ranked)
    answer = answer_of(*[(*box, label) for label in labels for box in ranked[label].tolist()])
    truth = answer_of(*[(*box, label) for label in labels for box in gold[label].tolist()])
    assert score("od_ap", answer, truth) == pytest.approx(expected[0], abs=1e-9)
    assert score("od_ap50", answer, truth) == pytest.approx(expected[1], abs=1e-9)
    each = [average_precision(gold[label], ranked[label]) for label in labels]
    assert np.mean(each) == pytest.approx(expected[0], abs=1e-9)


def test_more_than_a_hundred_boxes_are_cut_as_by_cocoeval() -> None:
    rng = np.random.default_rng(0)
    gold, ranked = {"cat": random_boxes(rng, 90, 10)}, {"cat": random_boxes(rng, 150, 10)}
    assert average_precision(gold["cat"], ranked["cat"]) == pytest.approx(coco_eval(gold, ranked)[0], abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_more_than_a_hundred_gold_boxes_of_a_label_earn_the_maximum(name: str) -> None:
    gold = answer_of(*[(k, k, k + 5, k + 5) for k in range(0, 1200, 10)])  # 120 boxes
    assert gold_score(record(gold), name) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "gold", "ap", "ap50", "length", "weighted"),
    [
        ((A, B), (A, B), 1, 1, 1, 1),
        ((B, A), (A, B), 1, 1, 1, 1),
        # IoU .8: right at 7 of the 10 thresholds .5 ... .8; position .7 * .8 + completeness .3
        ((MOST,), (A,), 0.7, 1, 0.7, 0.86),
        # IoU .5: right at one threshold; no match for weighted_sum, which wants more than .5
        ((HALF,), (A,), 0.1, 1, 0.1, 0),
        # one of two found: recall .5, so the 51 of 101 recall points up to .5; .7 * 1/2 + .3 * (1 - (1/2 + 0) / 2)
        ((A,), (A, B), 51 / 101, 51 / 101, 51 / 101, 0.575),
        # false alarm first: precision 1/2 at full recall; odLength * 1/2; .7 + .3 * (1 - (0 + 1/2) / 2)
        ((FAR, A), (A,), 0.5, 0.5, 0.25, 0.925),
        # false alarm last: free in AP, as COCO ranks equal scores by order; the others count it
        ((A, FAR), (A,), 1, 1, 0.5, 0.925),
        # the same box twice is a false alarm: precisions 1, 1/2, 2/3, so 1 up to recall 1/2 (51 points), then 2/3
        ((A, A, B), (A, B), (51 + 50 * 2 / 3) / 101, (51 + 50 * 2 / 3) / 101, (51 + 50 * 2 / 3) / 101 * 2 / 3, 0.95),
        # two answers for one gold box make one hit: the better one is matched by weighted_sum, the first by AP
        ((MOST, A), (A,), (7 * 1 + 3 * 0.5) / 10, 1, (7 * 1 + 3 * 0.5) / 20, 0.7 + 0.3 * 0.75),
        ((FAR,), (A,), 0, 0, 0, 0),
    ],
)
def test_worked_examples(answer: tuple, gold: tuple, ap: float, ap50: float, length: float, weighted: float) -> None:
    scores = [score(name, f"<answer>{answer_of(*answer)}</answer>", answer_of(*gold)) for name in NAMES]
    assert scores == pytest.approx([ap, ap50, length, weighted, ap])


def test_boxes_are_counted_in_any_order_by_length_and_weighted_sum() -> None:
    answers = [answer_of(*boxes) for boxes in ((A, FAR, B), (FAR, B, A), (B, A, FAR))]
    assert len({score("weighted_sum", answer, answer_of(A, B)) for answer in answers}) == 1
    assert all(score("odLength", answer, answer_of(A, B)) <= 2 / 3 for answer in answers)
    assert [round(score("od_ap", answer, answer_of(A, B)), 3) for answer in answers] == [
        round((51 + 50 * 2 / 3) / 101, 3),  # hit, miss, hit
        round(2 / 3, 3),  # miss, hit, hit
        1.0,  # hit, hit, miss
    ]


@pytest.mark.parametrize("name", NAMES)
def test_labels_compare_without_case_and_space(name: str) -> None:
    assert score(name, answer_of(A, label=" Sea  HORSE"), answer_of(A, label="sea horse")) == 1
    assert score(name, answer_of(A, label="sea-lion"), answer_of(A, label="sea horse")) == 0
    assert score(name, "[[0, 0, 10, 10]]", answer_of(A)) == 0  # no label at all


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_boxes_with_named_edges(name: str) -> None:
    answer = '[{"confidence": 0.9, "x_min": 0, "y_min": 0, "x_max": 10, "y_max": 10, "label": "cat", "id": 7}]'
    assert score(name, answer, answer_of(A)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_labels_beyond_ascii_escaped_or_not(name: str) -> None:
    plain, escaped = (json.dumps([{"bbox_2d": A, "label": "猫"}], ensure_ascii=flag) for flag in (False, True))
    assert [score(name, answer, gold) for answer in (plain, escaped) for gold in (plain, escaped)] == [1] * 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["original", "qwen3_vl", "qwen2_5_vl", "internvl"])
def test_answers_are_in_the_familys_frame(name: str, family: str) -> None:
    boxes = [(160, 0, 320, 425), (10, 20, 300, 400)]
    limits = {"max_pixels": 100_000}
    own = [from_original(box, family, (640, 425), max_pixels=100_000) for box in boxes]
    extra = {"model_family": family, "image_wh": [640, 425], **limits}
    assert score(name, answer_of(*own), answer_of(*boxes), **extra) == pytest.approx(1)
    assert gold_score(record(answer_of(*boxes), **extra), name) == (1, 1)
    boxes_read = METHODS[name].parse(answer_of(*own), record(answer_of(*boxes), **extra))
    assert np.array([row["bbox_2d"] for row in boxes_read]) == pytest.approx(np.array(boxes))


def test_size_and_family_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"a\.jsonl:7: image_wh: got"):
        score("od_ap", "no answer", answer_of(A), model_family="qwen3_vl")
    with pytest.raises(DataError, match="model_family: got model family 'gpt'"):
        score("od_ap", answer_of(A), answer_of(A), model_family="gpt", image_wh=[9, 9])


@pytest.mark.parametrize(
    "gold",
    [
        "banana",
        "[0, 0, 10, 10]",
        answer_of((9, 9, 1, 1)),
        answer_of((0, 0, 0, 5)),
        '[{"bbox_2d": [1, 2, 3], "label": "cat"}]',
        '[{"bbox_2d": [1, 2, 3, 4]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": " "}]',
        '[{"bbox_2d": [1, 2, 3, true], "label": "cat"}]',
        '{"bbox_2d": [1, 2, 3, 4]}',
        '{"bbox": [1, 2, 3, 4], "box": [1, 2, 3, 4], "label": "cat"}',
        '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"},',
    ],
)
def test_malformed_gold_names_row_and_field(gold: str) -> None:
    for name in NAMES:
        with pytest.raises(DataError, match=r"a\.jsonl:7: solution: got .*expected a JSON list of .*bbox_2d"):
            score(name, answer_of(A), gold)


# Ways to be paid for nothing that earlier projects had, one test each.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gold", ["None", "[]", "no objects", "<answer> None </answer>", "```json\n[]\n```"])
def test_hole_none_gold_is_paid_to_an_explicit_none_only(name: str, gold: str) -> None:
    explicit = ("None", "[]", "```json\n[ ]\n```", "no objects.", "<think>[1,2,3,4]</think><answer>None</answer>")
    other = ("", "banana", "<answer></answer>", "<answer>None", answer_of(A), "[1, 2, 3]", "There are [] cats", "null")
    assert [score(name, answer, gold) for answer in explicit] == [1] * len(explicit)
    assert [score(name, answer, gold) for answer in other] == [0] * len(other)
    assert METHODS[name].parse("None", record(gold)) == [] and METHODS[name].parse("banana", record(gold)) is None
    assert check_gold(Record("7", (), "", (), gold, {}, "a.jsonl:7", name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_hole_unparsable_output_and_missing_boxes_are_not_paid(name: str) -> None:
    for answer in ("banana", "", "None", "[]", '[{"bbox_2d": [1, 2', "[[[[", "<answer></answer>"):
        assert score(name, answer, answer_of(A, B)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_hole_nothing_against_nothing_is_no_answer(name: str) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:7: solution"):
        score(name, "", "")


def test_hole_labels_not_in_gold_count_against() -> None:
    answer = answer_of((*A, "cat"), (*FAR, "dog"))
    # mean over cat (1) and dog (0); odLength halves it again; .7 + .3 * (1 - (0 + 1/2) / 2)
    assert [score(name, answer, answer_of(A)) for name in NAMES] == pytest.approx([0.5, 0.5, 0.25, 0.925, 0.5])
    assert all(score(name, answer_of(A, label="dog"), answer_of(A)) == 0 for name in NAMES)


def test_hole_the_last_answer_is_read_and_thinking_is_not() -> None:
    text = f"<think>{answer_of(A)}</think><answer>{answer_of(FAR)}</answer><answer>{answer_of(A)}</answer>"
    assert score("map", text, answer_of(A)) == 1
    assert score("map", f"<think>```json\n{answer_of(A)}\n```</think><answer>None</answer>", answer_of(A)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_boxes_without_an_area_or_of_any_size_are_false_alarms(name: str) -> None:
    for odd in ((10, 10, 0, 0), (5, 5, 5, 5), (0, 10, 10, 0), (-(10**8), 0, 10**8, 10**8)):
        assert score(name, answer_of(odd), answer_of(A)) == 0
        assert score(name, answer_of(odd, A), answer_of(A)) < 1


@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_boxes_take_less_than_10_ms_and_hostile_text_less_than_100(name: str) -> None:
    rng = np.random.default_rng(0)
    many = answer_of(*[(*box, "cat" if k % 2 else "dog") for k, box in enumerate(random_boxes(rng, 100, 10).tolist())])
    hostile = (
        many * 20,
        "[1,2,3,4]" * 11_000,
        '{"label":"' * 10_000,
        "```json" * 14_000,
        answer_of(A) * 2500,
        " " * 100_000,
    )
    for text, limit in ((many, 0.01), *((text[:100_000], 0.1) for text in hostile)):
        assert cpu_seconds(partial(score, name, text, many), limit) < limit, text[:40]


# Real data and the generator.


def test_coco_instances_as_detections_earn_the_maximum(shared: Path) -> None:
    rows = [json.loads(line) for line in (shared / "coco" / "instances.jsonl").read_text().splitlines()]
    images = {row["file"]: [] for row in rows}
    for row in rows:
        x, y, w, h = row["bbox_xywh"]
        images[row["file"]].append((x, y, x + w, y + h, row["category"]))
    assert len(images) == 6
    for boxes in images.values():
        for name in NAMES:
            assert gold_score(record(answer_of(*boxes)), name) == (1, 1)
            assert score(name, answer_of(*boxes[1:]), answer_of(*boxes)) < 1


@pytest.mark.parametrize("split", DetectedShapes.splits)
def test_generated_golds_are_what_is_drawn(split: str) -> None:
    empty = 0
    for index in range(120):
        example = DetectedShapes().example(0, split, index)
        (question,), (image,) = example.questions, example.images
        row = record(question.answer, **question.extra)
        assert gold_score(row, "od_ap") == (1, 1)
        boxes = METHODS["od_ap"].parse(question.answer, row)
        assert {box["label"] for box in boxes} <= set(question.extra["labels"])
        assert all(label in question.question for label in question.extra["labels"])
        pixels = np.asarray(image)
        for box in boxes:  # tight: the item touches each side of its box, and nothing of its colour lies just outside
            x1, y1, x2, y2 = map(int, box["bbox_2d"])
            inside = pixels[y1:y2, x1:x2].any(axis=2)
            assert inside[-1].any() and inside[:, -1].any() and inside[:, 0].any() and inside[0].any()
        empty += not boxes
    assert 1 <= empty <= 30  # 12 expected


def test_generated_rows_depend_on_seed_split_and_index_alone() -> None:
    first, again, other = (DetectedShapes().example(seed, "train", 5) for seed in (0, 0, 1))
    assert first.questions == again.questions != other.questions
    assert np.array_equal(first.images[0], again.images[0])


def test_task() -> None:
    task = TASKS["od"]
    assert METHODS[task.method] is METHODS["od_ap"] and task.rewards == ("accuracy", "format")
    assert [task.is_right(value) for value in (0.49, 0.5, 1)] == [False, True, True]
    assert all(prompt.count("{question}") == 1 for prompt in task.prompts.values())
