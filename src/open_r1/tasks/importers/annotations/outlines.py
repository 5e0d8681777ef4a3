"""Corners of the shapes that annotation tools draw: turned rectangles, ellipses, circles. (torch-free)

Angles are in degrees, clockwise, as y grows downwards.
"""

import math
from collections.abc import Sequence

from open_r1.data.geometry.coordinates import Box
from open_r1.tasks.importers.items import Corner

ELLIPSE_CORNERS = 36  # of an ellipse's outline


def ellipse_corners(centre: Corner, radii: Corner, angle: float = 0.0) -> tuple[Corner, ...]:
    """The outline of an ellipse.

    >>> [tuple(map(round, corner)) for corner in ellipse_corners((50, 40), (20, 10))[::9]]
    [(70, 40), (50, 50), (30, 40), (50, 30)]
    """
    angles = (2 * math.pi * k / ELLIPSE_CORNERS for k in range(ELLIPSE_CORNERS))
    points = ((centre[0] + radii[0] * math.cos(t), centre[1] + radii[1] * math.sin(t)) for t in angles)
    return tuple(turn(point, centre, angle) for point in points)


def rectangle_corners(box: Box, angle: float, around: Corner) -> tuple[Corner, ...]:
    """The corners of a box turned around a point, clockwise from its upper left one.

    >>> [tuple(map(round, corner)) for corner in rectangle_corners((0, 0, 20, 10), 90, (0, 0))]
    [(0, 0), (0, 20), (-10, 20), (-10, 0)]
    """
    x1, y1, x2, y2 = box
    return tuple(turn(corner, around, angle) for corner in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)))


def turn(point: Corner, around: Corner, angle: float) -> Corner:
    """A point turned clockwise around another one."""
    if not angle:
        return point
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = point[0] - around[0], point[1] - around[1]
    return around[0] + x * cos - y * sin, around[1] + x * sin + y * cos


def box_around(corners: Sequence[Corner]) -> Box:
    """The box around corners."""
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def pairs_of(numbers: Sequence[float]) -> tuple[Corner, ...]:
    """x, y, x, y, ... as corners.

    >>> pairs_of([1, 2, 3, 4])
    ((1, 2), (3, 4))
    """
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
