"""`zoom` cuts the box that the model means, in every box space, and says what it expected of any other."""

import pytest
from PIL import Image

from open_r1.data.geometry.coordinates import SPACES, from_original
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.tools.zoom import ENLARGED, ToolFrame, tool_frame, zoom

SCENE = Image.new("RGB", (640, 420))
SCENE.paste((255, 0, 0), (160, 105, 320, 210))
FRAMES = {space: ToolFrame(space) for space in SPACES}


@pytest.mark.parametrize("space", SPACES)
def test_the_red_field_is_cut_out_and_enlarged_in_every_space(space: str) -> None:
    box = from_original((160, 105, 320, 210), space, SCENE.size)
    (crop,) = zoom([SCENE], FRAMES[space], list(box))
    assert crop.size == (640, 420) and crop.getcolors() == [(640 * 420, (255, 0, 0))]


@pytest.mark.parametrize("limits", [{"max_pixels": 100_000}, {"max_pixels": 100_000, "factor": 32}, {}])
def test_boxes_in_resized_pixels_follow_the_processors_limits(limits: dict[str, int]) -> None:
    box = from_original((160, 105, 320, 210), "resized", SCENE.size, **limits)
    (crop,) = zoom([SCENE], ToolFrame("resized", limits), list(box))
    assert crop.getpixel((crop.width // 2, crop.height // 2)) == (255, 0, 0)
    assert abs(crop.width - 640) <= 8


SIZES = [
    ((112, 112), (0, 14, 56, 42), (112, 56)),
    ((112, 56), (0, 0, 56, 28), (112, 56)),
    ((112, 56), (0, 0, 112, 56), (112, 56)),
    ((640, 420), (0, 0, 640, 42), (640, 42)),
    ((640, 420), (0, 0, 1, 1), (420, 420)),
    ((640, 420), (0, 0, 640, 10), (1792, 28)),
    ((4000, 3000), (0, 0, 2000, 1500), (2000, 1500)),
]


@pytest.mark.parametrize(("scene", "box", "expected"), SIZES)
def test_a_crop_is_enlarged_until_it_fills_its_picture(scene: tuple, box: tuple, expected: tuple) -> None:
    (crop,) = zoom([Image.new("RGB", scene)], ToolFrame(), list(box))
    assert crop.size == expected


def test_the_enlarged_area_is_bounded() -> None:
    (crop,) = zoom([Image.new("RGB", (4000, 3000))], ToolFrame(), [0, 0, 100, 75])
    assert crop.width * crop.height == pytest.approx(ENLARGED, rel=0.01)


OUTSIDE = {
    "beyond the right": [0, 0, 641, 420],
    "beyond the bottom": [0, 0, 640, 421],
    "before the left": [-1, 0, 10, 10],
    "above": [0, -0.5, 10, 10],
    "empty": [10, 10, 10, 20],
    "swapped": [20, 20, 10, 10],
    "no numbers": [],
    "three numbers": [0, 0, 10],
    "five numbers": [0, 0, 10, 10, 0],
    "huge": [0, 0, 1e299, 1e299],
    "all huge": [1e299, 1e299, 1e299, 1e299],
    "a million": [0] * 1_000_000,
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_box_outside_or_empty_is_refused_with_the_pictures_size(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"^got .*expected \[x1, y1, x2, y2\] .*which is 640 wide and 420 high$"
    ) as caught:
        zoom([SCENE], ToolFrame(), OUTSIDE[name])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("space", "size", "order"),
    [
        ("relative_1000", "1000 wide and 1000 high", "[x1, y1, x2, y2]"),
        ("relative_1", "1 wide and 1 high", "[x1, y1, x2, y2]"),
        ("yx_1000", "1000 wide and 1000 high", "[y1, x1, y2, x2]"),
        ("resized", "644 wide and 420 high", "[x1, y1, x2, y2]"),
    ],
)
def test_a_refusal_speaks_the_models_space(space: str, size: str, order: str) -> None:
    with pytest.raises(ValueError) as caught:
        zoom([SCENE], FRAMES[space], [0, 0, 2000, 2000])
    assert size in str(caught.value) and order in str(caught.value)


def test_the_picture_is_chosen_by_its_number_from_1() -> None:
    small = Image.new("RGB", (56, 28), (0, 0, 255))
    (crop,) = zoom([SCENE, small], ToolFrame(), [0, 0, 28, 14], image=2)
    assert crop.size == (56, 28) and crop.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("image", [0, -1, 3, 2**53])
def test_a_picture_that_is_not_there_is_refused(image: int) -> None:
    with pytest.raises(ValueError, match="expected a number from 1 to 2"):
        zoom([SCENE, SCENE], ToolFrame(), [0, 0, 10, 10], image=image)


def test_a_row_without_pictures_and_a_box_without_breadth_are_refused() -> None:
    with pytest.raises(ValueError, match="no picture"):
        zoom([], ToolFrame(), [0, 0, 10, 10])
    with pytest.raises(ValueError, match="sides within 1:200"):
        zoom([Image.new("RGB", (640, 420))], ToolFrame(), [0, 0, 640, 1])


def test_the_frame_is_that_of_the_rows_rewards() -> None:
    extra = {"model_family": "qwen2_5_vl", "image_wh": (640, 420), "min_pixels": 3136, "max_pixels": 100_000}
    frame = tool_frame(Record("1", (), "", (), "", extra))
    assert frame == ToolFrame("resized", {"min_pixels": 3136, "max_pixels": 100_000})
    assert tool_frame(Record("1", (), "", (), "", {"box_space": "yx_1000"})) == ToolFrame("yx_1000")
    with pytest.raises(DataError, match="box_space"):
        tool_frame(Record("1", (), "", (), "", {"model_family": "smolvlm"}, "a.jsonl:1"))
