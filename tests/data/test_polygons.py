"""Masks, their polygons, and how a model's text is read as one."""

import json

import numpy as np
import pytest
from helpers.cpu_time import cpu_seconds
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from open_r1.data.geometry.masks import decode_rle, encode_rle, mask_iou_of, rasterise, read_segmentation
from open_r1.data.geometry.polygons import (
    BASES,
    RAYS,
    Polygon,
    ceiling,
    deepest_point,
    fit_polygon,
    outline_points,
    polygon_json,
    radii,
    to_rle,
)
from open_r1.rewards.parsing.polygons import parse_polygons
from open_r1.tasks.seg import MASK_SHAPES, draw_mask

ROWS, COLUMNS = np.indices((120, 160)) + 0.5


def disc(x: float, y: float, radius: float) -> np.ndarray:
    return np.hypot(COLUMNS - x, ROWS - y) < radius


def ellipse(x: float, y: float, a: float, b: float, degrees: float = 0.0) -> np.ndarray:
    turn = np.radians(degrees)
    u = (COLUMNS - x) * np.cos(turn) + (ROWS - y) * np.sin(turn)
    v = -(COLUMNS - x) * np.sin(turn) + (ROWS - y) * np.cos(turn)
    return np.square(u / a) + np.square(v / b) < 1


def bar(degrees: float, length: float = 100.0, width: float = 25.0) -> np.ndarray:
    turn = np.radians(degrees)
    u = (COLUMNS - 80) * np.cos(turn) + (ROWS - 60) * np.sin(turn)
    v = -(COLUMNS - 80) * np.sin(turn) + (ROWS - 60) * np.cos(turn)
    return (abs(u) < length / 2) & (abs(v) < width / 2)


@pytest.mark.parametrize("basis", BASES)
def test_a_disc_is_its_radius(basis):
    polygon = fit_polygon(disc(70.5, 50.5, 30), basis)
    assert polygon.centre == (70.5, 50.5) and polygon.size == (120, 160) and len(polygon.coeffs) == 8
    assert polygon.coeffs[0] == pytest.approx(30, abs=0.3) and max(map(abs, polygon.coeffs[1:])) < 0.3
    assert ceiling(polygon, disc(70.5, 50.5, 30)) > 0.98


def test_chebyshev_is_even_and_fourier_is_not():
    # 4:1 bars: at 0 and 90 degrees both are their own mirror image, at 45 only Fourier can turn with it
    upright = {basis: ceiling(fit_polygon(bar(0), basis, 16), bar(0)) for basis in BASES}
    tilted = {basis: ceiling(fit_polygon(bar(45), basis, 16), bar(45)) for basis in BASES}
    assert min(upright.values()) > 0.8
    assert tilted["chebyshev"] < 0.5 and tilted["fourier"] > 0.8


def test_the_chebyshev_form_is_that_of_the_fork():
    polygon = Polygon((50.0, 40.0), (10.0, 3.0, 2.0), (80, 100))
    theta = np.pi / 3  # r = 10 + 3 cos 60 + 2 cos 120 = 10 + 1.5 - 1 = 10.5
    corner = outline_points(polygon, number=6)[1]
    assert corner == pytest.approx((50 + 10.5 * np.cos(theta), 40 + 10.5 * np.sin(theta)))


def test_fourier_numbers_are_a0_a1_b1_a2():
    # at 90 degrees r = 10 + 3 cos 90 + 2 sin 90 + 1 cos 180 = 10 + 0 + 2 - 1 = 11
    assert outline_points(Polygon((50, 40), (10, 3, 2, 1), (80, 100), "fourier"), number=4)[1] == pytest.approx(
        (50, 51)
    )


@pytest.mark.parametrize("basis", BASES)
def test_more_terms_come_no_less_near(basis):
    for degrees in (0, 20, 70):
        mask = ellipse(80, 60, 50, 25, degrees)
        values = [ceiling(fit_polygon(mask, basis, terms), mask) for terms in (1, 8, 24)]
        assert values[0] < values[1] <= values[2] + 0.02, (degrees, values)


def test_as_many_terms_as_rays_reach_the_rays():
    mask = ellipse(80, 60, 50, 25, 30)
    centre = deepest_point(mask)
    # an even number of rays leaves the last sine out, which is 0 on all of them
    polygon = fit_polygon(mask, "fourier", RAYS, RAYS)
    arms = np.hypot(*(outline_points(polygon, number=RAYS) - centre).T)
    assert np.allclose(arms, radii(mask, centre), atol=0.05 * RAYS)


def test_the_centre_is_the_deepest_point_and_of_a_bar_its_middle():
    assert deepest_point(disc(70.5, 50.5, 30) | bar(0)) == pytest.approx((70.5, 50.5), abs=1)
    assert deepest_point(bar(0)) == pytest.approx((80, 60), abs=1)
    assert deepest_point(np.ones((600, 400), bool)) == pytest.approx((200, 300), abs=6)  # on a grid of 5 px
    thread = np.zeros((600, 600), bool)
    thread[::5, 0] = thread[0, :] = True
    x, y = deepest_point(thread)
    assert thread[int(y), int(x)]


def test_the_radius_where_a_ray_leaves_and_comes_back():
    mask = np.zeros((21, 100), bool)
    mask[:, :40] = mask[:, 60:80] = True
    centre = (10.5, 10.5)
    radius = {reach: radii(mask, centre, 4, reach)[0] for reach in ("first", "last", "area")}
    # inside from 0 to 29.5 and from 49.5 to 69.5: area radius sqrt(29.5^2 + 69.5^2 - 49.5^2) = 57.0
    assert radius == pytest.approx({"first": 29.5, "last": 69.5, "area": 57.03}, abs=0.5)


def test_the_ceiling_is_that_of_the_rounded_text():
    mask = ellipse(80, 60, 50, 25, 30)
    polygon = fit_polygon(mask, "fourier", 16)
    polygon_read = parse_polygons(polygon_json(polygon), (0, 0))[0]
    assert polygon_read == polygon and ceiling(polygon_read, mask) == ceiling(polygon, mask)
    assert 0 <= mask_iou_of(to_rle(polygon), encode_rle(mask)) - ceiling(polygon, mask) < 1e-4
    numbers = [*polygon.coeffs, *polygon.centre]
    assert all(round(number, 1) == number for number in numbers)


def test_decoded_pixels_lie_where_the_mask_lies():
    # a discretisation that is half a pixel off would shift the centroid by 0.5 and the area by a perimeter's half
    mask = disc(70.5, 50.5, 30)
    again = decode_rle(to_rle(fit_polygon(mask)))
    centroids = [np.argwhere(m).mean(axis=0) for m in (mask, again)]
    assert np.abs(centroids[0] - centroids[1]).max() < 0.3 and abs(again.sum() / mask.sum() - 1) < 0.02


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from(sorted(MASK_SHAPES)), basis=st.sampled_from(BASES))
def test_every_shape_has_an_outline_that_is_read_again(seed, shape, basis):
    mask = draw_mask(shape, np.random.default_rng(seed), 112)
    assert mask.any() and not mask[0].any() and not mask[:, 0].any() and not mask[-1].any() and not mask[:, -1].any()
    polygon = fit_polygon(mask, basis)
    assert 0 < ceiling(polygon, mask) <= 1
    assert parse_polygons(polygon_json(polygon), (0, 0)) == [polygon]


def test_another_size_scales_both_sides():
    mask = ellipse(80, 60, 50, 25, 30)
    polygon = fit_polygon(mask, "fourier", 16)
    stretched = decode_rle(to_rle(polygon, (240, 160)))
    assert stretched.shape == (240, 160)
    assert mask_iou_of(encode_rle(stretched[::2]), to_rle(polygon)) > 0.97  # every second row of twice the height


@pytest.mark.parametrize("coeffs", [(0.0,) * 8, (-5.0,), (1e6,), (0, 0, 0, 0, 0, 0, 0, 1e6), (-1e6, 1e6) * 4])
def test_wild_coefficients_are_drawn_in_time(coeffs):
    rle = to_rle(Polygon((320, 240), coeffs, (480, 640)))
    assert cpu_seconds(lambda: to_rle(Polygon((320, 240), coeffs, (480, 640))), 0.05) < 0.05
    assert (coco.area(rle) == 0) == (max(coeffs) <= 0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fit_polygon(np.zeros((5, 5), bool)), "mask: got no pixel"),
        (lambda: fit_polygon(disc(70, 50, 9), terms=73), "terms: got 73, expected 1 to 72"),
        (lambda: fit_polygon(disc(70, 50, 9), terms=0), "terms: got 0"),
        (
            lambda: fit_polygon(disc(70, 50, 9), "legendre"),
            "basis: got 'legendre', expected one of chebyshev, fourier",
        ),
        (lambda: radii(disc(70, 50, 9), (70, 50), reach="max"), "reach: got 'max'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_coco_rectangle_has_the_pixels_that_it_names():
    mask = decode_rle(rasterise(np.array([[2, 1], [7, 1], [7, 4], [2, 4]]), (6, 10)))
    pixels = np.zeros((6, 10), bool)
    pixels[1:4, 2:7] = True
    assert (mask == pixels).all()


def test_all_forms_of_a_segmentation_are_one_mask():
    mask = disc(70.5, 50.5, 30)
    column_major = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(column_major)) + 1
    counts = np.diff([0, *edges, column_major.size]).tolist()
    assert column_major[0] == 0  # so that the first run is one of absent pixels
    compressed = encode_rle(mask)
    for form in (compressed, {"size": [120, 160], "counts": counts}):
        assert (decode_rle(read_segmentation(form, (120, 160))) == mask).all()


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        (None, "neither polygons"),
        ([], "neither polygons"),
        ([[1, 2, 3, 4]], "three pairs"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three pairs"),
        ([[1, 2, 3, 4, 5, float("nan")]], "no number within"),
        ([[1, 2, 3, 4, 5, 1e9]], "no number within"),
        ([[1, 2, 3, 4, 5, "6"]], "no number within"),
        ([[900, 900, 950, 900, 950, 950]], "without a pixel"),
        ({"size": [60, 80], "counts": "abc"}, "size"),
        ({"size": [120, 160], "counts": "0120"}, "do not fill 120 x 160"),
        ({"size": [120, 160], "counts": "\x7f" * 50}, "do not fill"),
        ({"size": [120, 160], "counts": "é"}, "neither text nor a list"),
        ({"size": [120, 160], "counts": [5, -5, 19200]}, "do not fill"),
        ({"size": [120, 160], "counts": [19200]}, "without a pixel"),
    ],
)
def test_a_bad_segmentation_says_what_is_wrong(segmentation, says):
    with pytest.raises(ValueError, match=says):
        read_segmentation(segmentation, (120, 160))


GOOD = '{"centre": [5, 6.5], "coeffs": [2, 0.1], "size": [10, 20]}'


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (GOOD, 1),
        (f"```json\n{GOOD}\n```", 1),
        (GOOD.replace('"', "'"), 1),
        (f"{GOOD} or rather {GOOD}", 2),
        (GOOD.replace(', "size": [10, 20]', ""), 1),
        (GOOD.replace("}", ', "basis": "fourier"}'), 1),
        (GOOD.replace("}", ', "label": "cat"}'), 1),
        (GOOD.replace("}", ', "basis": "legendre"}'), 0),
        (GOOD.replace("}", ', "basis": ["fourier"]}'), 0),
        (GOOD.replace("2,", "NaN,"), 0),
        (GOOD.replace("2,", "Infinity,"), 0),
        (GOOD.replace("2,", "1e999,"), 0),
        (GOOD.replace("2,", "9" * 400 + ","), 0),
        (GOOD.replace("2,", "2e6,"), 0),
        (GOOD.replace("2,", "true,"), 0),
        (GOOD.replace("2,", '"2",'), 0),
        (GOOD.replace("[2, 0.1]", "[]"), 0),
        (GOOD.replace("[2, 0.1]", str([1.0] * 73)), 0),
        (GOOD.replace("[5, 6.5]", "[5]"), 0),
        (GOOD.replace("[5, 6.5]", "[-1, 5]"), 0),  # outside of its image
        (GOOD.replace("[5, 6.5]", "[5, 11]"), 0),
        (GOOD.replace("[10, 20]", "[0, 20]"), 0),
        (GOOD.replace("[10, 20]", "null"), 0),
        (GOOD.removesuffix("}"), 0),
        ("[1, 2, 3]", 0),
        ('{"centre": ' + "[" * 3000 + "}", 0),
    ],
)
def test_polygons_in_text(text, number):
    result = parse_polygons(text, (1000, 1000))
    assert len(result) == number, result


def test_a_size_that_is_not_stated_is_the_frame():
    bare = json.dumps({"centre": [500, 700], "coeffs": [20]})
    assert parse_polygons(bare, (1000, 800))[0].size == (1000, 800)
    assert parse_polygons(bare, (600, 1000)) == []  # the centre would lie below the image
