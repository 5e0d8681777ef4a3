"""Hostile bytes in everything that reads what others wrote: a value of the stated range or our own error, in 50 ms.

The targets are in `tests/helpers/hostile_inputs.py`; `tests/torture/fuzz.py` gives them a million inputs.
"""

import json
from collections.abc import Iterator

import orjson
import pytest
from helpers.hostile_inputs import MAX_BYTES, ROWS, SLOW_SECONDS, SPLIT, TARGETS, attempt, is_slow, without_workers
from helpers.hostile_tokens import FIELDS, NUMBERS, OBJECTS, SIGNS, TAGS, WORDS
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from open_r1.data.geometry.masks import read_segmentation
from open_r1.data.jsonl_index import decode_row
from open_r1.data.record import Record, parse_row
from open_r1.endpoint.replies import parse_object
from open_r1.errors import DataError
from open_r1.rewards.parsing.answer import fold_case
from open_r1.rewards.parsing.detections import parse_detections
from open_r1.rewards.parsing.polygons import parse_polygons
from open_r1.rewards.registry import METHODS

EXAMPLES = 20  # of each target
REPEATED = 100_000  # characters

some_number = st.sampled_from(NUMBERS).map(str)
boxes = st.lists(some_number, min_size=3, max_size=5).map(lambda numbers: f"[{', '.join(numbers)}]")
pieces = st.one_of(*map(st.sampled_from, (NUMBERS, TAGS, WORDS, SIGNS, OBJECTS)), boxes, st.text(max_size=8))
runs = st.tuples(pieces, pieces).map(lambda pair: (pair[0] * (REPEATED // max(1, len(pair[0])))) + pair[1])
sayings = st.one_of(
    st.lists(pieces, max_size=12).map("".join),
    st.lists(pieces, max_size=4).map(lambda parts: f"<think>a</think><answer>{''.join(parts)}</answer>"),
    runs,
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), pieces),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(pieces, inner, max_size=3)),
    max_leaves=6,
)
turns = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("from", "value", "role", "content", "type", "text", "image"), values)
)
rows = st.dictionaries(st.sampled_from(FIELDS), st.one_of(values, st.lists(turns, max_size=3), sayings), max_size=6)
deep = st.tuples(st.sampled_from(FIELDS), st.sampled_from([100, 254, 300, 1000, 5000])).map(
    lambda pair: f'{{"{pair[0]}": {"[" * pair[1]}{"]" * pair[1]}}}'
)
written = st.one_of(rows.map(json.dumps), deep, values.map(json.dumps))
inputs = st.one_of(
    sayings,
    written,
    st.tuples(sayings, st.one_of(st.just(""), sayings, written), st.one_of(st.just(""), written)).map(SPLIT.join),
).map(lambda said: said.encode("utf-8", "surrogatepass")[:MAX_BYTES])


@pytest.fixture(autouse=True)
def workers_away() -> Iterator[None]:
    with without_workers():
        yield


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(data=st.one_of(inputs, st.binary(max_size=64)))
def test_a_value_of_the_stated_range_or_our_own_error_within_50_ms(name: str, data: bytes) -> None:
    try:
        assert attempt(name, data) < SLOW_SECONDS or not is_slow(name, data), "slow"
    except Exception as error:
        error.add_note(f"{name}: {data[:300]!r} ({len(data)} bytes)")
        raise


@pytest.mark.parametrize("field", ["problem", "solution", "id", "extra"])
@pytest.mark.parametrize("levels", [254, 255, 300, 1000])
def test_a_row_nested_more_deeply_than_can_be_written_is_refused_with_its_line(field: str, levels: int) -> None:
    row = {"problem": "Q", "solution": "A", field: None}
    inside = "[" * (levels - 1) + "]" * (levels - 1)
    line = json.dumps(row).replace("null", inside).encode()
    try:
        record = parse_row(decode_row(line, "a.jsonl:7"), "a.jsonl:7", 7)
        assert levels == 254 and orjson.dumps(record.extra)
    except DataError as error:
        assert str(error).startswith("a.jsonl:7: "), error
        assert levels == 254 or "line: got JSON nested over 254 deep, expected less nesting; store the" in str(error)


def test_marks_on_one_letter_are_put_in_order_in_linear_time() -> None:
    """NFC of 50,000 alternating marks took 2 s."""
    marks = "a" + "\u0300\u0316" * 25_000
    assert not is_slow("normalize", marks.encode())
    assert fold_case("a\u0316\u0300") == fold_case("a\u0300\u0316") == "\xe0\u0316"
    assert fold_case("e" + "\u0301" * 99) == "\xe9" + "\u0301" * 98


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ' + "9" * 5000 + "}", "number is infinity"),
        ('{"a": NaN}', "no JSON object alone"),
        ('{"a": 1e999}', "number is infinity"),
        (r'{"a": "\ud800"}', "surrogate"),
        ('{"a":' * 400 + "1" + "}" * 400, "nested too deeply"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "depth limit exceeded"),
    ],
)
def test_a_reply_that_could_not_be_written_again_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_object(text)


def test_half_a_surrogate_pair_in_a_label_stays_escaped() -> None:
    (box,) = parse_detections(r'[{"bbox_2d": [1, 2, 3, 4], "label": "\ud83d"}]')
    assert box.label == r"\ud83d" and box.label.encode()


@pytest.mark.parametrize("size", [5, None, "ab", {"a": 1}, [48, 64, 1], [float("nan"), 64]])
def test_a_mask_of_no_size_is_refused(size: object) -> None:
    with pytest.raises(ValueError, match="a run-length code of size"):
        read_segmentation({"size": size, "counts": "0120"}, (48, 64))


def test_a_polygon_on_an_image_smaller_than_a_pixel_is_none() -> None:
    assert parse_polygons('{"centre": [0, 0], "coeffs": [1e6], "size": [1e-300, 1e-300]}', (48, 64)) == []


BOX_ROW = {"image_wh": [640, 425], "model_family": "qwen2_5_vl"}


@pytest.mark.parametrize(
    ("method", "solution", "fields", "message"),
    [
        (
            "rec",
            "",
            {"min_pixels": "3136"},
            r"rows.jsonl:1: min_pixels: got '3136', expected a positive number of pixel",
        ),
        ("od_ap", "", {"max_pixels": -1}, "max_pixels: got -1"),
        ("od_ap50", "", {"max_pixels": [1]}, r"max_pixels: got \[1\]"),
        ("rec", "", {"image_wh": [1e308, 1e-308]}, r"image_wh: got \[1e\+308, 1e-308\], expected \[width, height\]"),
        ("rec", "", {"image_wh": [10, 2001]}, "within 1:200"),
        ("rec", "", {"image_wh": [True, True]}, "image_wh"),
        ("mask_iou", '{"centre": [5, 5], "coeffs": [1], "size": [1000000, 1000000]}', {}, "at most 64000000"),
        ("mask_iou", '{"centre": [5, 5], "coeffs": [1], "size": [10, 2001]}', {}, "within 1:200"),
    ],
)
def test_rows_that_no_reward_can_use_are_refused_with_their_field(
    method: str, solution: str, fields: dict, message: str
) -> None:
    usable, extra = ROWS[method]
    record = Record("1", (), "", (), solution or usable, {**extra, **BOX_ROW, **fields}, "rows.jsonl:1", method)
    with pytest.raises(DataError, match=message):
        METHODS[method].score("<answer>[1, 2, 30, 40]</answer>", record)


def test_a_family_that_is_no_text_is_unknown() -> None:
    with pytest.raises(ValueError, match="model_family: got model family 5, expected one of original"):
        METHODS["rec"].score("[1, 2, 3, 4]", Record("1", (), "", (), "[1, 2, 3, 4]", {"model_family": 5}))


def test_a_run_length_code_of_endless_numbers_is_refused_at_once():
    with pytest.raises(ValueError, match="a run of more than 60 bits"):
        read_segmentation({"size": [48, 64], "counts": "o" * REPEATED}, (48, 64))  # each bit goes on to the next
