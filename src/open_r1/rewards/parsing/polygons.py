"""Reads polygons from model text: {"centre": [x, y], "coeffs": [...], "size": [height, width]}, in its own frame.

Rewards and evaluations use the LAST such object of an answer. `data.geometry.polygons` explains the numbers.
"""

import json
import math
import re

from open_r1.data.geometry.polygons import BASES, Polygon
from open_r1.rewards.parsing.answer import final_text

MAX_POLYGON_CHARS = 20_000  # of a longer text only the end is read
MAX_TERMS = 72
LARGEST_NUMBER = 1e6

_OBJECT = re.compile(r"\{[^{}]{0,4000}\}")


def parse_polygons(text: str, size: tuple[float, float]) -> list[Polygon]:
    """All polygons of a text in order; `size` (height, width) is the frame of those that do not state theirs.

    A polygon has a centre within its size, and 1 to 72 coefficients; each number is finite and at most 1e6, and
    those of its size are at least 1.
    Single quotes are read as double ones. "basis" is "chebyshev" unless stated. Other keys are ignored.

    >>> parse_polygons('{"centre": [5, 5.5], "coeffs": [2, 0.1], "size": [10, 20]}', (1000, 1000))
    [Polygon(centre=(5.0, 5.5), coeffs=(2.0, 0.1), size=(10.0, 20.0), basis='chebyshev')]
    >>> parse_polygons("{'centre': [500, 250], 'coeffs': [90]}", (1000, 1000))[0].size
    (1000, 1000)
    >>> parse_polygons('{"centre": [5, 5], "coeffs": [NaN, 1e999], "size": [10, 20]}', (1000, 1000))
    []
    """
    objects = (match[0] for match in _OBJECT.finditer(text[-MAX_POLYGON_CHARS:]) if "centre" in match[0])
    return [polygon for text in objects if (polygon := _polygon(text, size)) is not None]


def last_polygon(completion: str, size: tuple[float, float]) -> Polygon | None:
    """The polygon of a completion's answer: the last of its final text; None without one.

    >>> last_polygon('<answer>{"centre": [1, 2], "coeffs": [3]}</answer>', (10, 20)).coeffs
    (3.0,)
    """
    polygons = parse_polygons(final_text(completion), size)
    return polygons[-1] if polygons else None


def _polygon(text: str, size: tuple[float, float]) -> Polygon | None:
    try:
        fields = json.loads(text.replace("'", '"'), parse_int=float)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return None
    centre, coeffs = _numbers(fields.get("centre"), 2, 2), _numbers(fields.get("coeffs"), 1, MAX_TERMS)
    frame = _numbers(fields["size"], 2, 2) if "size" in fields else size
    basis = fields.get("basis", "chebyshev")
    if centre is None or coeffs is None or frame is None or basis not in BASES:
        return None
    is_inside = 0 <= centre[0] <= frame[1] and 0 <= centre[1] <= frame[0]
    return (
        Polygon((centre[0], centre[1]), coeffs, (frame[0], frame[1]), basis) if is_inside and min(frame) >= 1 else None
    )


def _numbers(value: object, least: int, most: int) -> tuple[float, ...] | None:
    """The tuple of a list of `least` to `most` numbers within LARGEST_NUMBER; None for anything else."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        return None
    if not all(isinstance(v, float) and math.isfinite(v) and abs(v) <= LARGEST_NUMBER for v in value):
        return None
    return tuple(value)
