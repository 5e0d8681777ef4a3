"""Outlines of answers and gold answers on a picture: their corners for a page, or drawn.

Each accuracy method declares its `outlines` in `open_r1.rewards.registry.METHODS`.
"""

from collections.abc import Iterable
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from open_r1.data.record import Record
from open_r1.rewards.base import Outline, no_outlines
from open_r1.rewards.gold import gold_completion
from open_r1.rewards.parsing.points import Point
from open_r1.rewards.pictures import in_pixels
from open_r1.rewards.registry import method_of

GOLD, ANSWERED = "#2ecc40", "#ff4136"
CASING = "#000000"  # drawn under every line: readable on any ground
SMOOTH = 3  # lines are drawn this many times larger and scaled down, for soft edges


def answered_outlines(completion: str, record: Record) -> tuple[Outline, ...]:
    """The outlines that the record's accuracy method reads from a completion; () where it has none.

    It needs the extra fields of rewards: `image_wh`, `box_space` or `model_family`, and the pixel limits.

    >>> row = Record("1", ("a.png",), "", (), "[0, 0, 9, 9]", {"image_wh": [100, 100]}, accu_reward_method="rec")
    >>> answered_outlines("<answer>[0, 0, 50, 100]</answer>", row)[0].points
    ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    """
    return method_of(record).outlines(completion, record) if record.images else ()


def gold_outlines(record: Record) -> tuple[Outline, ...]:
    """The outlines of the gold answer, which is in pixels of the original image for every model.

    >>> row = Record("1", ("a.png",), "", (), "[0, 0, 50, 100]", {"image_wh": [100, 100]}, accu_reward_method="rec")
    >>> gold_outlines(row)[0].points[2]
    (0.5, 1.0)
    >>> gold_outlines(Record("1", ("a.png",), "", (), "3"))
    ()
    """
    if not has_outlines(record):
        return ()
    placed = in_pixels(record)
    own = method_of(record).gold_outlines
    return own(placed) if own else answered_outlines(gold_completion(placed), placed)


def has_outlines(record: Record) -> bool:
    """Whether answers to the record are places on its pictures.

    >>> has_outlines(Record("1", ("a.png",), "", (), "3"))
    False
    >>> has_outlines(Record("1", ("a.png",), "", (), "[0, 0, 9, 9]", accu_reward_method="rec"))
    True
    """
    return bool(record.images) and method_of(record).outlines is not no_outlines


def draw_outlines(
    image: Image.Image, gold: Iterable[Outline] = (), answered: Iterable[Outline] = (), number: int = 0
) -> Image.Image:
    """A copy (RGB, same size) of the record's picture `number` with outlines: gold ones green, answered ones red and
    dashed.

    >>> box = Outline(((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)))
    >>> drawn = draw_outlines(Image.new("RGB", (100, 100)), gold=[box])
    >>> drawn.getpixel((50, 25)), drawn.getpixel((50, 50))
    ((46, 204, 64), (0, 0, 0))
    """
    layer = Image.new("RGBA", (image.width * SMOOTH, image.height * SMOOTH))
    pen, width = ImageDraw.Draw(layer), SMOOTH * max(2, round(min(image.size) / 160))
    for outlines, color, dash in ((gold, GOLD, 0), (answered, ANSWERED, 4 * width)):
        for one in outlines:
            if one.image == number:
                _outline(pen, [(x * layer.width, y * layer.height) for x, y in one.points], color, width, dash)
                _label(pen, one, layer.size, color, width)
    canvas = image.convert("RGBA")
    canvas.alpha_composite(layer.resize(image.size, Image.Resampling.BOX))
    return canvas.convert("RGB")


def _outline(pen: ImageDraw.ImageDraw, points: list[Point], color: str, width: int, dash: int) -> None:
    closed = [*points, *points[:1]]
    pen.line(closed, fill=CASING, width=2 * width, joint="curve")
    for line in dashes(closed, dash) if dash else [closed]:
        pen.line(line, fill=color, width=width, joint="curve")


def dashes(points: list[Point], length: float) -> list[list[Point]]:
    """The dashes of a line: every second piece of `length` along each side.

    >>> dashes([(0, 0), (10, 0)], 4)
    [[(0.0, 0.0), (4.0, 0.0)], [(8.0, 0.0), (10.0, 0.0)]]
    """
    pieces = []
    for (x1, y1), (x2, y2) in pairwise(points):
        side = max(abs(x2 - x1), abs(y2 - y1), 1e-9)
        starts = [i * 2 * length / side for i in range(int(side / (2 * length)) + 1)]
        ends = [min(start + length / side, 1.0) for start in starts]
        pieces += [[(x1 + (x2 - x1) * t, y1 + (y2 - y1) * t) for t in span] for span in zip(starts, ends, strict=True)]
    return pieces


def _label(pen: ImageDraw.ImageDraw, one: Outline, size: tuple[int, int], color: str, width: int) -> None:
    """The label at the first corner, on a dark ground."""
    if not one.label or not one.points:
        return
    place = (one.points[0][0] * size[0] + width, one.points[0][1] * size[1] + width)
    font = ImageFont.load_default(size=max(12 * SMOOTH, size[1] / 28))
    text = one.label[:60]
    pen.rectangle(pen.textbbox(place, text, font=font), fill=CASING)
    pen.text(place, text, fill=color, font=font)
