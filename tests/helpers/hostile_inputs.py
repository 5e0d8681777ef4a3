"""Every parser of foreign input as a function of bytes that checks the result; for tests and the fuzzer.

A target takes any bytes and asserts that the value has the stated type and range. `attempt` runs one; it may raise
only our own errors. To add a parser, add a line to `TARGETS`. `SPLIT` separates the parts of an input: the completion,
the row's gold answer, and its other fields as JSON; a missing part is taken from `ROWS`.
"""

import json
import linecache
import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from helpers.cpu_time import slowness
from open_r1.data.geometry import masks, polygons
from open_r1.data.geometry.coordinates import from_original, to_original
from open_r1.data.jsonl_index import decode_row, index_file
from open_r1.data.paths import ImageFolder, split_paths
from open_r1.data.record import Record, parse_row
from open_r1.endpoint import replies
from open_r1.errors import DataError, UsageError
from open_r1.rewards.base import no_outlines
from open_r1.rewards.drawing import gold_outlines
from open_r1.rewards.gold import gold_completion, gold_score
from open_r1.rewards.parsing import (
    absence,
    answer,
    area,
    boxes,
    chars,
    detections,
    numbers,
    option_texts,
    options,
    points,
    units,
    yes_no,
)
from open_r1.rewards.parsing import polygons as outlines
from open_r1.rewards.registry import METHODS, REWARDS, parsed
from open_r1.rewards.sandbox import math_verify as verifier

SPLIT = "\x1e"
SLOW_SECONDS = 0.05  # of CPU time, of one call
MAX_BYTES = 120_000  # of an input
SIZE = (48, 64)  # height, width of the masks that answer are laid on
Target = Callable[[bytes], object]

_BOX, _BOXES = "[10, 20, 320, 400]", '[{"bbox_2d": [10, 20, 320, 400], "label": "cat"}]'
_SIZED = {"image_wh": [640, 425], "model_family": "qwen3_vl"}
_POLYGON = '{"centre": [32, 24], "coeffs": [10, 1.5, -2], "size": [48, 64]}'
ROWS: dict[str, tuple[str, dict[str, Any]]] = {  # a usable row of each method: its solution, its other fields
    "default": ("Kick stand", {}),
    "math": ("5√{3}cm", {}),
    "mcq": ("B", {"options": ["9 cm", "12 cm", "cat"]}),
    "mcq_partial": ("A, C", {"options": ["9 cm", "12 cm", "cat"]}),
    "yes_no": ("Yes", {}),
    "all_match": ("no defect", {}),
    "digits": ("[0, 1]", {}),
    "rec": (_BOX, _SIZED),
    "iou": (_BOX, {"image_wh": [640, 425], "model_family": "qwen2_5_vl", "max_pixels": 100_000}),
    "mask_iou": (_POLYGON, {"segmentation": [[5, 5, 40, 5, 40, 40]], "ceiling": 0.5, **_SIZED}),
    "od_ap": (_BOXES, _SIZED),
    "od_ap50": (_BOXES, _SIZED),
    "odLength": (_BOXES, _SIZED),
    "weighted_sum": (_BOXES, _SIZED),
    "map": ("None", _SIZED),
    "point_in_box": (f"[{_BOX}, [400, 20, 600, 90]]", _SIZED),
    "point_distance": ("[320, 200]", _SIZED),
    "cer": ("Total: 12,50 €", {}),
    "anls": ('["12 March", "March 12"]', {}),
    "decode": ("cat dog", {"coded": "xyz_abc"}),
    "area": ("200.00", {}),
}


def text(data: bytes) -> str:
    """Bytes as text; what is no UTF-8 becomes lone surrogates."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


def parts(data: bytes, method: str) -> tuple[str, Record]:
    """(completion, record) of an input."""
    completion, _, rest = text(data).partition(SPLIT)
    solution, _, fields = rest.partition(SPLIT)
    usable, extra = ROWS[method]
    with suppress(orjson.JSONDecodeError, TypeError):  # no JSON, or no object
        extra = {**extra, **orjson.loads(fields)} if fields else extra
    return completion, Record("1", ("a.png",), "", (), solution or usable, extra, "rows.jsonl:1", method)


def is_text(value: object) -> None:
    assert isinstance(value, str), value


def is_text_or_nothing(value: object) -> None:
    assert value is None or isinstance(value, str), value


def is_bool(value: object) -> None:
    assert isinstance(value, bool), value


def is_box(value: object) -> None:
    assert isinstance(value, boxes.AnswerBox) and len(value.xyxy) == 4 and all(map(math.isfinite, value.xyxy)), value
    is_text_or_nothing(value.label)


def is_boxes(value: object) -> None:
    for box in value or ():
        is_box(box)


def is_number(value: object) -> None:
    assert value is None or type(value) is Fraction, value


def is_json(value: object) -> None:
    json.dumps(value, allow_nan=False)


def is_utf8(text_out: str) -> bool:
    return text_out.isascii() or text_out.encode("utf-8", "replace").decode() == text_out


def can_be_written(value: object, source: str) -> None:
    """Asserts that a value can be written as UTF-8 where its source can."""
    with suppress(UnicodeEncodeError):
        source.encode()
        assert is_utf8(str(value)), value


def reads(parse: Callable[[str], object], check: Callable[[Any], None], data: bytes) -> None:
    """Runs a parser of text and checks its result."""
    value, source = parse(text(data)), text(data)
    check(value)
    can_be_written(value, source)


def read_row(data: bytes) -> None:
    record = parse_row(decode_row(data, "a.jsonl:1"), "a.jsonl:1", 1, "img", None, ImageFolder(_folder()).problem)
    assert record.id and record.solution.strip() and record.turns[-1].role == "user"
    assert all(isinstance(turn.text, str) and turn.text.strip() for turn in record.turns)
    assert all(isinstance(path, str) for path in record.images)
    for value in (record.id, record.solution, *record.images, *(turn.text for turn in record.turns)):
        value.encode()


def read_file(data: bytes) -> None:
    path = Path(_folder()) / "rows.jsonl"
    path.write_bytes(data[:20_000])  # thousands of bad lines are thousands of messages
    index, problems = index_file(str(path), _folder(), Path(_folder()) / "cache")
    assert len(index.lines_N) or problems
    str(DataError(problems)).encode("utf-8", "surrogateescape")
    for offset, length in zip(index.offsets_N.tolist(), index.lengths_N.tolist(), strict=True):
        parse_row(decode_row(data[offset : offset + length], ""), "", 1)


def read_path(data: bytes) -> None:
    path = ImageFolder(_folder()).resolve(text(data), "a.jsonl:1")
    assert Path(path).resolve().is_relative_to(Path(_folder()).resolve())


def read_paths(data: bytes) -> None:
    assert all(part.strip() for part in split_paths(text(data)))


def read_polygon(data: bytes) -> None:
    for polygon in outlines.parse_polygons(text(data), SIZE)[-3:]:
        corners = polygons.outline_points(polygon, SIZE)
        assert corners.shape == (polygons.CORNERS, 2) and np.isfinite(corners).all()
        assert masks.decode_rle(polygons.to_rle(polygon, SIZE)).shape == SIZE
        assert outlines.parse_polygons(polygons.polygon_json(polygon), SIZE) == [polygon]


def read_segmentation(data: bytes) -> None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = text(data)  # not JSON: what stands in a row's field is a text
    rle = masks.read_segmentation(value, SIZE)
    assert masks.decode_rle(rle).shape == SIZE and 0 <= masks.mask_iou_of(rle, rle) <= 1


def convert(data: bytes) -> None:
    """A box to pixels of the original image, in any family's frame and for any size, and back."""
    sides = [min(abs(int(number)), 10**9) for number in np.frombuffer(data[: len(data) // 8 * 8][:64], np.int64)]
    if len(sides) == 8 and min(sides[4:6]) > 0:
        family = text(data[64:]) or "qwen2_5_vl"
        box = to_original(sides[:4], family, tuple(sides[4:6]), sides[6] + 1, sides[7] + 1)
        assert all(map(math.isfinite, from_original(box, family, tuple(sides[4:6]), sides[6] + 1, sides[7] + 1)))


def grade(name: str, data: bytes) -> None:
    score = METHODS[name].score(*parts(data, name))
    assert isinstance(score, float) and METHODS[name].minimum <= score <= METHODS[name].maximum, score


def show(name: str, data: bytes) -> None:
    """What a method reads, as JSON."""
    completion, record = parts(data, name)
    value = parsed(completion, record)
    is_json(value)
    can_be_written(json.dumps(value, ensure_ascii=False), completion + record.solution)


def draw(name: str, data: bytes) -> None:
    completion, record = parts(data, name)
    for outline in (*METHODS[name].outlines(completion, record), *gold_outlines(record)):
        assert all(0 <= side <= 1 for point in outline.points for side in point), outline


def grade_gold(name: str, data: bytes) -> None:
    """Grades a row's own gold answer: it is refused, or scores within the range."""
    _, record = parts(SPLIT.encode() + data, name)
    score, best = gold_score(record)
    assert METHODS[name].minimum <= score <= METHODS[name].maximum and best <= METHODS[name].maximum
    is_text(gold_completion(record))


def pay(name: str, method: str, data: bytes) -> None:
    """A reward's value, of a row of one method."""
    value = REWARDS[name](*parts(data, method))
    assert value is None or (isinstance(value, float) and -3 <= value <= 3), value


@cache
def _kept() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="hostile-")


@cache
def _folder() -> str:
    """A folder with one image, a folder, a link that leaves it, and a link to itself."""
    root = Path(_kept().name)
    (root / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        (root / name).write_bytes(b"x")
    (root / "out").symlink_to("/")
    (root / "loop").symlink_to("loop")
    return str(root)


TARGETS: dict[str, Target] = {
    "row": read_row,
    "file": read_file,
    "image path": read_path,
    "paths": read_paths,
    "extract_answer": partial(reads, answer.extract_answer, is_text_or_nothing),
    "final_text": partial(reads, answer.final_text, is_text),
    "thought": partial(reads, answer.thinking_text, is_text),
    "think format": partial(reads, answer.has_think_format, is_bool),
    "answer format": partial(reads, answer.has_answer_format, is_bool),
    "normalize": partial(reads, answer.normalize, is_text),
    "bare": partial(reads, answer.without_markup, is_text),
    "option": partial(reads, options.parse_option, is_text_or_nothing),
    "option_key": partial(reads, option_texts.option_key, is_text),
    "yes or no": partial(reads, yes_no.parse_yes_no, is_text_or_nothing),
    "number": partial(reads, numbers.parse_number, is_number),
    "area": partial(reads, area.parse_area, is_number),
    "two decimals": partial(reads, area.has_two_decimals, is_bool),
    "boxes": partial(reads, boxes.parse_boxes, is_boxes),
    "bare boxes": partial(reads, boxes.stated_boxes, is_boxes),
    "no object": partial(reads, absence.states_no_object, is_bool),
    "point": partial(reads, points.last_point, lambda point: is_json(point and point.xy)),
    "detections": partial(reads, detections.parse_detections, is_boxes),
    "chars": partial(reads, chars.parse_chars, is_text_or_nothing),
    "message": partial(reads, chars.parse_message, is_text_or_nothing),
    "units": partial(reads, partial(units.count_units, limit=1024), lambda count: is_json(count)),
    "statements": partial(reads, units.repetition_units, is_json),
    "reply": partial(reads, replies.parse_object, is_json),
    "eaten backslash": partial(reads, replies.has_lost_backslash, is_bool),
    "reasoning": partial(reads, replies.split_reasoning, is_json),
    "polygon": read_polygon,
    "segmentation": read_segmentation,
    "coordinates": convert,
    **{f"score of {name}": partial(grade, name) for name in ROWS},
    **{f"parse of {name}": partial(show, name) for name in ROWS},
    **{f"outlines of {name}": partial(draw, name) for name in ROWS if METHODS[name].outlines is not no_outlines},
    **{f"gold of {name}": partial(grade_gold, name) for name in ROWS},
    **{f"reward {name}": partial(pay, name, "decode" if "decode" in name else "area") for name in REWARDS},
}


def attempt(name: str, data: bytes) -> float:
    """CPU seconds of one target's call; raises every error that is not our own."""
    start = time.thread_time()
    try:
        TARGETS[name](data)
    except Exception as error:
        if not is_ours(error):
            raise
    return time.thread_time() - start


def is_ours(error: Exception) -> bool:
    """Whether an error is a UsageError, or a ValueError that our code raises and the function's docstring names."""
    if isinstance(error, UsageError):
        return True
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [(code, line) for code, line in frames if "/open_r1/" in code.co_filename]
    if type(error) is not ValueError or not ours or frames[-1] != ours[-1]:
        return False
    source_line = linecache.getline(ours[-1][0].co_filename, ours[-1][1]).strip()
    return source_line.startswith("raise ValueError") and "ValueError" in str(ours[0][0].co_consts[0])


def is_slow(name: str, data: bytes, again: int = 5) -> bool:
    """Whether a call takes over `SLOW_SECONDS` each time, as the machine is now, on which any call is slow once."""
    return all(attempt(name, data) > SLOW_SECONDS * slowness() for _ in range(again))


@contextmanager
def without_workers() -> Iterator[None]:
    """Replaces math-verify by False: its worker processes have tests of their own."""
    verify = verifier.verify
    verifier.verify = lambda gold, answer, *_: False
    try:
        yield
    finally:
        verifier.verify = verify
