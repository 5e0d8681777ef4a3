"""The area task: what is drawn has the area that is asked for, and rewards read areas as people write them."""

import math
from functools import partial

import numpy as np
import pytest
from helpers.cpu_time import cpu_seconds
from helpers.repository import make_dataset

from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.rewards.gold import gold_completion, gold_score
from open_r1.rewards.parsing.area import has_two_decimals, parse_area
from open_r1.rewards.registry import METHODS, REWARDS
from open_r1.tasks.area import AREA_SHAPES, AXIS, Areas, draw_area
from open_r1.tasks.registry import TASKS
from open_r1.tasks.task import example_rng

GENERATORS = [Areas(), Areas(rotation=45), Areas(low=5), Areas(low=5, rotation=45), Areas(size=112, dark=True)]
AREA = TASKS["area"]


def record(gold: str = "200.00", **extra: object) -> Record:
    return Record("7", (), "", (), gold, extra, "a.jsonl:7", "area")


def shoelace(outline) -> float:
    xs, ys = np.array(outline).T
    return abs(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1))) / 2


@pytest.mark.parametrize("generator", GENERATORS)
def test_shapes_are_inside_the_axes_and_have_their_area(generator: Areas):
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(1000):
        shape = generator.shape(rng)
        outline = np.array(shape.outline)
        assert outline.min() >= -1e-9 and outline.max() <= AXIS + 1e-9
        assert generator.low <= shape.width <= generator.high and generator.low <= shape.height <= generator.high
        assert abs(shape.rotation) <= generator.rotation
        # a polygon of 180 corners has 0.02 % less area than its circle
        assert shape.area == pytest.approx(shoelace(outline), rel=3e-4 if shape.kind == "circle" else 1e-9)
        assert shape.width == shape.height or shape.kind in ("rectangle", "triangle")
        kinds.add(shape.kind)
    assert kinds == set(AREA_SHAPES)


@pytest.mark.parametrize("kind", AREA_SHAPES)
@pytest.mark.parametrize("rotation", [0, 45])
def test_the_picture_has_the_area_of_the_gold_answer(kind: str, rotation: int):
    rng = np.random.default_rng(1)
    shape = next(s for s in iter(lambda: Areas(rotation=rotation).shape(rng), None) if s.kind == kind)
    pixels = np.asarray(draw_area(shape.outline, (255, 0, 255), 448, dark=False)).astype(int)
    inside = (pixels[..., 0] - pixels[..., 1] > 128).sum()  # magenta, up to the black edge
    per_unit = 448 * 13 / 16 / AXIS  # 364 pixels for 50 units
    edge = np.linalg.norm(np.diff([*shape.outline, shape.outline[0]], axis=0), axis=1).sum() * 2 / per_unit
    assert inside / per_unit**2 == pytest.approx(shape.area - edge, rel=0.02)  # half of 4 pixels lies inside


def test_pictures_have_their_size_and_ground():
    light, dark = (g.example(0, "train", 0).images[0] for g in (Areas(), Areas(size=112, dark=True)))
    assert light.size == (224, 224) and dark.size == (112, 112) and light.mode == dark.mode == "RGB"
    assert np.median(np.asarray(light)) == 255 and np.median(np.asarray(dark)) == 0


def test_a_row_depends_on_seed_split_and_index_alone():
    one, again = (Areas().example(3, "train", 9) for _ in range(2))
    assert one.questions == again.questions and one.images[0].tobytes() == again.images[0].tobytes()
    others = [Areas().example(*where).questions for where in ((4, "train", 9), (3, "heldout", 9), (3, "train", 10))]
    assert one.questions not in others


def test_splits_share_no_shape():
    def shapes(split: str) -> set[tuple]:
        rngs = (example_rng(0, Areas.splits, split, i) for i in range(500))
        return {(shape.kind, shape.width, shape.height) for shape in map(Areas().shape, rngs)}

    assert len(shapes("train") | shapes("heldout")) == 1000


def test_it_draws_more_than_200_pictures_a_second():
    Areas().example(0, "train", 0)  # draws the axes once

    def draw() -> None:
        for index in range(100):
            Areas(rotation=45).example(0, "train", index)

    assert cpu_seconds(draw, 0.5) < 0.5


@pytest.mark.parametrize(
    "options", [{"low": 0}, {"low": 30, "high": 20}, {"high": 51}, {"high": 36, "rotation": 45}, {"size": 8}]
)
def test_impossible_options_are_refused(options: dict):
    with pytest.raises(ValueError, match="so that every shape fits the axes"):
        Areas(**options)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("200.00", "200.00", 3),
        ("200", "200.00", 3),
        ("220.00", "200.00", 2.4),  # 3 - 6 * 20 / 200
        ("180.00", "200.00", 2.4),
        ("300.00", "200.00", 0),
        ("400.00", "200.00", -3),
        ("9999999", "200.00", -3),
        ("-200.00", "200.00", -3),
        ("0.00", "200.00", -3),
        ("18.00", "10.00", 1.5),  # small shapes: 3 - 6 * 8 / 32
        ("26.00", "10.00", 0),
        ("1,234.00", "1234.00", 3),
        ("about 200", "200.00", 3),
        ("1e999", "200.00", -3),
        ("NaN", "200.00", -3),
        ("Infinity", "200.00", -3),
        ("9" * 399, "200.00", -3),
        ("200.00 or 210.00", "200.00", -3),
        ("20000%", "200.00", -3),
        ("", "200.00", -3),
        ("large", "200.00", -3),
    ],
)
def test_areas_pay_by_their_relative_error(answer: str, gold: str, expected: float):
    assert METHODS["area"].score(f"<answer>{answer}</answer>", record(gold)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written",
    [
        "616.50",
        "616.50 cm²",
        "616.50 cm^2",
        "616.50 cm2",
        "616.50 square units",
        "616.50 square units.",
        "616.50 sq. units",
        "616.50 units²",
        "616.50 units^2",
        r"$616.50\text{ cm}^2$",
        r"\boxed{616.50}",
        "**616.50**",
        "Area = 616.50",
        "The area of the rectangle is 616.50",
        "≈ 616.50",
        "is approximately 616.50 units squared",
        "616.50 pixels^{2}",
    ],
)
def test_areas_are_read_with_units_and_words(written: str):
    assert parse_area(written) == 616.5 and has_two_decimals(written)


@pytest.mark.parametrize("written", ["20 x 30", "cm²", "616.50.1", "area", "616.50 apples", "616,50", "1/0"])
def test_other_texts_are_no_area(written: str):
    assert parse_area(written) is None and not has_two_decimals(written)


@pytest.mark.parametrize(("answer", "paid"), [("1.00", 0.5), ("1.0", 0), ("1", 0), ("1.000", 0), ("x.00", 0), ("", 0)])
def test_two_decimals_pay_whatever_the_value(answer: str, paid: float):
    assert REWARDS["two_decimals"](f"<answer>{answer}</answer>", record()) == paid


def test_the_tags_pay_half():
    think, direct = "<think>a</think><answer>1.00</answer>", "<answer>1.00</answer>"
    assert (
        REWARDS["area_format"](think, record()) == REWARDS["area_format"](direct, record(prompt_mode="direct")) == 0.5
    )
    assert REWARDS["area_format"](direct, record()) == 0


@pytest.mark.parametrize(("error", "right"), [(0, True), (0.0999, True), (0.1, True), (0.101, False), (1, False)])
def test_within_ten_percent_counts_as_right(error: float, right: bool):
    answer = f"<answer>{200 * (1 + error):.3f}</answer>"
    assert AREA.is_right(METHODS["area"].score(answer, record())) == right


@pytest.mark.parametrize("gold", ["", "0.00", "-3", "big", "1e999"])
def test_a_gold_that_is_no_area_names_row_and_field(gold: str):
    with pytest.raises(DataError, match=r"a\.jsonl:7: solution: got .* expected a"):
        METHODS["area"].score("<answer>1.00</answer>", record(gold))


def test_gold_earns_the_maximum_and_garbage_the_minimum(tmp_path):
    options = ("--size", 112, "--dark", "--low", 5, "--rotation", 45, "--rows", 40, "--heldout_rows", 20)
    make_dataset("area", tmp_path, *options)
    rows = load_records([tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"], tmp_path, reward_methods=AREA.method)
    assert len(rows) == 60 and math.isclose(len({row.solution for row in rows}), 60, abs_tol=2)
    for row in rows:
        assert gold_score(row) == (3, 3)
        assert [REWARDS[name](gold_completion(row), row) for name in AREA.rewards] == [3, 0.5, 0.5]
        for garbage in ("", "banana", "<answer></answer>", "<answer>" * 500):
            assert [REWARDS[name](garbage, row) for name in AREA.rewards] == [-3, 0, 0]


@pytest.mark.parametrize("piece", ["9", "9.", "cm ", " ", "\\text{", "area of the ", "<answer>1", "square units "])
def test_hostile_text_takes_little_time(piece: str):
    for text in (piece * (100_000 // len(piece)), f"<answer>{piece * (390 // len(piece))}</answer>"):
        assert METHODS["area"].score(text, record()) < -2.9
        for reward in (METHODS["area"].score, REWARDS["two_decimals"]):
            assert cpu_seconds(partial(reward, text, record()), 0.04) < 0.04
