"""The segmentation reward and its task: frames, ceilings, and what pays nothing."""

import json
import sys
from dataclasses import replace
from functools import partial

import draw_polygons
import numpy as np
import polygon_ceiling
import pytest
from helpers.cpu_time import cpu_seconds
from PIL import Image

from open_r1.data.geometry.coordinates import from_original
from open_r1.data.geometry.masks import decode_rle, encode_rle, mask_iou_of, read_segmentation
from open_r1.data.geometry.polygons import BASES, Polygon, ceiling, fit_polygon, polygon_json, to_rle
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.report.examination import check_gold
from open_r1.rewards.gold import gold_completion, gold_score
from open_r1.rewards.registry import METHODS, accuracy
from open_r1.rewards.segmentation import answered_polygon, frame_size, mask_iou
from open_r1.tasks.seg import MASK_SHAPES, SEG, OutlinedShapes

HEIGHT, WIDTH = 425, 640
ROWS, COLUMNS = np.indices((HEIGHT, WIDTH)) + 0.5
TURNED = np.square((COLUMNS - 300 + (ROWS - 200)) / 150) + np.square((COLUMNS - 300 - (ROWS - 200)) / 80) < 1
FAMILIES = ("original", "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "internvl")


def record(basis: str = "fourier", terms: int = 16, **extra: object) -> Record:
    """A row with a true mask, its outline and its ceiling."""
    polygon = fit_polygon(TURNED, basis, terms)
    fields = {"segmentation": encode_rle(TURNED), "ceiling": ceiling(polygon, TURNED), "basis": basis, **extra}
    return Record("1", (), "", (), polygon_json(polygon), fields, "a.jsonl:1", "mask_iou")


def answer(polygon: Polygon, **changes: object) -> str:
    fields = {**json.loads(polygon_json(polygon)), **changes}
    return f"<answer>{json.dumps({k: v for k, v in fields.items() if v is not None})}</answer>"


@pytest.mark.parametrize("basis", BASES)
def test_gold_earns_its_ceiling_and_the_doctor_says_so(basis):
    row = record(basis)
    score, best = gold_score(row)
    assert best == row.extra["ceiling"] < 1 and best <= score < best + 1e-4
    assert check_gold(row) == []


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"ceiling": 0.999}, "solution"),  # more than the gold earns
        ({"ceiling": None}, "ceiling"),
        ({"ceiling": "0.9"}, "ceiling"),
        ({"ceiling": True}, "ceiling"),
        ({"ceiling": 0}, "ceiling"),
        ({"segmentation": {"size": [640, 425], "counts": "0"}}, "segmentation"),  # width and height exchanged
        ({"segmentation": [[1, 2, 3]]}, "segmentation"),
    ],
)
def test_the_doctor_names_the_field(extra, field):
    problems = check_gold(record().with_extra(**extra))
    assert [(problem.where, problem.field) for problem in problems] == [("a.jsonl:1", field)]


def test_without_a_mask_the_gold_polygon_is_the_truth():
    row = record(segmentation=None, ceiling=None)
    assert gold_score(row) == (1, 1)
    assert mask_iou(answer(fit_polygon(TURNED, "fourier", 16), coeffs=[0.5, *[0] * 15]), row) < 0.01


@pytest.mark.parametrize(
    "gold",
    [
        "a cat",
        "[1, 2, 3, 4]",
        '{"centre": [5, 5], "coeffs": [2]}',
        '{"centre": [5, 5], "coeffs": [2], "size": [10.5, 20]}',
        '{"centre": [50, 5], "coeffs": [2], "size": [10, 20]}',
        '{"centre": [5, 5], "coeffs": [2], "size": [10, 20]} {"centre": [5, 5], "coeffs": [2], "size": [10, 20]}',
    ],
)
def test_a_gold_that_is_no_polygon_raises(gold):
    with pytest.raises(DataError, match=r"a.jsonl:1: solution: got .*, expected one \{\"centre\""):
        accuracy("<answer>1</answer>", replace(record(), solution=gold))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("limits", [{}, {"max_pixels": 100_000}, {"min_pixels": 1_000_000}])
def test_every_frame_comes_back_within_a_pixel(family, limits):
    """A model that outlines the mask in its own frame, with or without stating the frame's size."""
    row = record("fourier", 24, model_family=family, **limits)
    height, width = frame_size(row, (HEIGHT, WIDTH))
    x, y = np.array([300.0, 200.0])
    frame_box = from_original((x, y, WIDTH, HEIGHT), family, (WIDTH, HEIGHT), **limits)
    assert frame_box[2:] == pytest.approx((width, height))
    # a disc of 20 px of the frame, which is an ellipse of the original
    coeffs = [20.0, *[0.0] * 23]
    gold = np.square((COLUMNS - x) * width / WIDTH) + np.square((ROWS - y) * height / HEIGHT) < 20**2
    for stated in ({"size": [height, width]}, {"size": None}):
        text = answer(Polygon(frame_box[:2], tuple(coeffs), (height, width), "fourier"), **stated)
        row_of_disc = row.with_extra(segmentation=encode_rle(gold))
        assert mask_iou(text, row_of_disc) > 0.93, stated
        polygon = answered_polygon(text, row_of_disc)
        centre = [
            polygon["centre"][0] * WIDTH / polygon["size"][1],
            polygon["centre"][1] * HEIGHT / polygon["size"][0],
        ]
        assert centre == pytest.approx([x, y], abs=1)


def test_a_stated_size_wins_over_the_family():
    row = record(model_family="qwen3_vl")
    assert mask_iou(gold_completion(row), row) == pytest.approx(row.extra["ceiling"], abs=1e-4)
    assert mask_iou(answer(fit_polygon(TURNED, "fourier", 16), size=None), row) < 0.4  # pixels read as thousandths


def test_an_unknown_family_is_an_error_of_the_setting():
    with pytest.raises(DataError, match="model_family: got model family 'gpt'"):
        mask_iou("<answer>1</answer>", record(model_family="gpt"))


GOLD = fit_polygon(TURNED, "fourier", 16)


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "lorem ipsum",
        "<answer></answer>",
        f"<think>{polygon_json(GOLD)}</think><answer>I cannot tell</answer>",  # only thought
        f"<answer>{polygon_json(GOLD)}",  # cut off
        answer(GOLD, coeffs=list(GOLD.coeffs[:-1])),
        answer(GOLD, coeffs=[*GOLD.coeffs, 0.0]),
        answer(GOLD, coeffs=[float("nan"), *GOLD.coeffs[1:]]),
        answer(GOLD, coeffs=[float("inf"), *GOLD.coeffs[1:]]),
        answer(GOLD, coeffs=[1e300] * 16),
        answer(GOLD, coeffs=[-100.0, *[0] * 15]),  # a radius below zero all around
        answer(GOLD, coeffs=[0] * 16),
        answer(GOLD, coeffs=[[1]] * 16),
        answer(GOLD, centre=[-5, 20]),
        answer(GOLD, centre=[float("nan"), 20]),
        answer(GOLD, centre=[1]),
        answer(GOLD, centre=None),
        answer(GOLD, coeffs=None),
        answer(GOLD, size=[0, 0]),
        answer(GOLD, size=[-425, -640]),
        answer(GOLD, size=["425", "640"]),
        answer(GOLD, basis="chebyshev"),
        answer(GOLD, basis=None),
        answer(GOLD, basis={"a": 1}),
    ],
)
def test_what_is_no_outline_earns_nothing(completion):
    assert mask_iou(completion, record()) == 0.0


def test_the_last_outline_counts():
    far = answer(GOLD, centre=[5, 5])
    row = record()
    both = (
        "<answer>"
        + polygon_json(GOLD)
        + " no, "
        + json.dumps({**json.loads(polygon_json(GOLD)), "centre": [5, 5]})
        + "</answer>"
    )
    assert mask_iou(both, row) == mask_iou(far, row) < 0.1


def test_a_whole_picture_pays_its_share():
    row = record("chebyshev", 1)
    covering = answer(Polygon((320, 212), (1000.0,), (HEIGHT, WIDTH)))
    assert mask_iou(covering, row) == pytest.approx(TURNED.mean(), abs=1e-3)


@pytest.mark.parametrize(
    "unit",
    [
        "{",
        '{"centre":[1,',
        '{"centre":1}',
        "{'centre': [[[[",
        "}",
        '{"centre": [5, 5], "coeffs": [2], "size": [10, 20]}',
        '"centre"',
        "9",
    ],
)
def test_100_kb_of_hostile_text_is_read_in_time(unit):
    row, text = record(), (unit * 100_000)[:100_000]
    mask_iou("<answer>1</answer>", row)
    assert cpu_seconds(partial(mask_iou, f"<answer>{text}</answer>", row), 0.05) < 0.05


@pytest.mark.parametrize(
    ("coeffs", "size"), [([1e6] * 16, [1e6, 1]), ([1e6, -1e6] * 8, [1, 1e6]), ([1e6, -1e6] * 8, [425, 640])]
)
def test_wild_outlines_are_drawn_in_time(coeffs, size):
    text, row = answer(GOLD, centre=[1, 1], coeffs=coeffs, size=size), record()
    assert 0 <= mask_iou(text, row) < 0.6
    assert cpu_seconds(partial(mask_iou, text, row), 0.05) < 0.05


def test_the_task_names_the_three_keys_and_what_counts():
    for prompt in SEG.prompts.values():
        assert all(f'"{key}"' in prompt for key in ("centre", "coeffs", "size"))
    assert SEG.is_right(0.51) and not SEG.is_right(0.5) and METHODS[SEG.method].maximum == 1


@pytest.mark.parametrize("basis", BASES)
def test_the_generator_gives_masks_of_what_is_drawn(basis):
    generator, categories = OutlinedShapes(basis=basis, terms=12), set()
    for index in range(40):
        example = generator.example(0, "train", index)
        (image,), (question,) = example.images, example.questions
        mask = np.asarray(image).any(axis=2)
        assert image.size == (112, 112) and (decode_rle(question.extra["segmentation"]) == mask).all()
        gold = json.loads(question.answer)
        assert gold["size"] == [112, 112] and len(gold["coeffs"]) == 12 and "12 coefficients" in question.question
        assert gold.get("basis", "chebyshev") == basis == question.extra["basis"]
        assert f"the {question.extra['category']}" not in question.question  # with its colour in between
        categories.add(question.extra["category"])
    assert categories == set(MASK_SHAPES)
    assert generator.example(0, "train", 3) == generator.example(0, "train", 3)
    assert generator.example(0, "train", 3) != generator.example(0, "heldout", 3)


def test_the_reward_rises_with_the_outline():
    """What GRPO needs: a nearer centre and nearer radii pay more."""
    row = record()
    off = [0, 10, 30, 60, 120]
    values = [mask_iou(answer(GOLD, centre=[GOLD.centre[0] + by, GOLD.centre[1]]), row) for by in off]
    assert values == sorted(values, reverse=True) and values[0] - values[-1] > 0.4
    grown = [mask_iou(answer(GOLD, coeffs=[c * by for c in GOLD.coeffs]), row) for by in (1, 1.2, 1.5, 2)]
    assert grown == sorted(grown, reverse=True)


def test_real_instances(shared):
    rows = [json.loads(line) for line in (shared / "coco" / "instances.jsonl").read_text().splitlines()]
    values = []
    for row in rows:
        size = tuple(reversed(row["wh"]))
        segmentation = row.get("polygons") or row["rle"]
        mask = decode_rle(read_segmentation(segmentation, size))
        polygon = fit_polygon(mask, "fourier", 24)
        extra = {"segmentation": segmentation, "ceiling": ceiling(polygon, mask)}
        record = Record("1", (), "", (), polygon_json(polygon), extra, "i.jsonl:1", "mask_iou")
        assert check_gold(record) == []
        values.append(mask_iou_of(to_rle(polygon), encode_rle(mask)))
        x, y, width, height = row["bbox_xywh"]
        assert x - 2 <= polygon.centre[0] <= x + width + 2 and y - 2 <= polygon.centre[1] <= y + height + 2
    assert np.mean(values) > 0.7 and len(values) == 64


@pytest.fixture
def rows(tmp_path):
    """Three rows of drawn shapes with their pictures: `rows.jsonl`."""
    lines = []
    for index in range(3):
        example = OutlinedShapes(basis="fourier", terms=16).example(0, "train", index)
        example.images[0].save(tmp_path / f"{index}.png")
        question = example.questions[0]
        turns = [{"from": "human", "value": "<image>" + question.question}, {"from": "gpt", "value": question.answer}]
        lines.append({"id": f"row/{index}", "image": f"{index}.png", "conversations": turns, **question.extra})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path, lines


def run(script, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    script.main()


def count(path, color: str) -> int:
    """Pixels of about this colour."""
    levels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(np.asarray(Image.open(path).convert("RGB")).astype(int) - levels).max(axis=2) < 12).sum())


def test_gold_and_predictions_are_drawn(rows, monkeypatch, capsys):
    """The fork's script drew nothing: it read a field that its rows lack."""
    folder, lines = rows
    predictions = [f"<answer>{lines[0]['conversations'][1]['value'].replace('[', '[ ')}</answer>", "I see nothing"]
    text = "".join(json.dumps({"id": f"row/{i}", "completion": one}) + "\n" for i, one in enumerate(predictions))
    (folder / "said.jsonl").write_text(text)
    flags = ["--image-root", folder, "--output", folder / "vis", "--predictions", folder / "said.jsonl"]
    run(draw_polygons, monkeypatch, folder / "rows.jsonl", *flags)
    files = sorted((folder / "vis").iterdir())
    assert [path.name for path in files] == ["00000_row_0.png", "00001_row_1.png", "00002_row_2.png"]
    # the legend's line is about 20 x 2 px; an outline is much longer
    green, red = ([count(path, color) for path in files] for color in (draw_polygons.GOLD, draw_polygons.ANSWERED))
    assert red[0] > 300 > red[1] >= 0 == red[2]  # drawn over its gold; not readable: the legend alone; none
    assert min(green[1:]) > 300
    assert "3 pictures, 2 predictions" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"id": "row/0"}', '{"id": "row/0", "completion": 1}', '{"id": "x", "completion": "a"}']
)
def test_bad_predictions_are_refused(rows, monkeypatch, text):
    folder, _ = rows
    (folder / "said.jsonl").write_text(text + "\n")
    flags = ["--image-root", folder, "--output", folder / "vis", "--predictions", folder / "said.jsonl"]
    with pytest.raises(DataError, match=r"said.jsonl.*: prediction: got .*, expected .*id"):
        run(draw_polygons, monkeypatch, folder / "rows.jsonl", *flags)


@pytest.mark.slow
def test_the_table_is_measured(tmp_path, monkeypatch, capsys):
    row = {"wh": [WIDTH, HEIGHT], "rle": encode_rle(TURNED)}
    (tmp_path / "instances.jsonl").write_text(json.dumps(row) + "\n")
    flags = ["--instances", tmp_path / "instances.jsonl", "--per_shape", 2]
    run(polygon_ceiling, monkeypatch, *flags, "--figure", tmp_path / "a.png", "--examples", tmp_path / "b.png")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    heads, of_file = lines[0], next(line for line in lines if line[0] == "COCO (1)")
    assert float(of_file[heads.index("fourier 24")]) == pytest.approx(
        ceiling(fit_polygon(TURNED, "fourier", 24), TURNED), abs=5e-4
    )
    assert {line[0] for line in lines[2:] if line} >= {"drawn shapes (10)", *(f"{shape} (2)" for shape in MASK_SHAPES)}
    assert Image.open(tmp_path / "a.png").size > (0, 0) and Image.open(tmp_path / "b.png").size > (0, 0)
    run(polygon_ceiling, monkeypatch, *flags, "--benchmark", "--seconds", 0.1)
    assert "instances/s" in capsys.readouterr().out
