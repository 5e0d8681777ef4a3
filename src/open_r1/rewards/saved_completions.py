"""Reads saved completions for grading: the completion and its record. (torch-free)"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from open_r1.data.gold_answers import solution_text
from open_r1.data.record import Record
from open_r1.data.row_formats import Turn
from open_r1.data.video.fields import videos_of
from open_r1.data.video.types import Video
from open_r1.errors import DataError, data_error, shorten
from open_r1.rewards.parsing.boxes import parse_boxes
from open_r1.rewards.registry import is_remote
from open_r1.rewards.turns import CompletionMessages, checked_messages, completion_text

RESULTS = ("score", "parsed", "reward_values", "error")


def read_saved(row: dict[str, Any], where: str, box_space: str | None = None) -> tuple[str, Record]:
    """(graded text of the completion, record to grade it against) of a row; a gold box of `gold_format` xywh becomes
    xyxy, and `box_space` wins over the row's own.

    Raises DataError for fields that are missing or of a wrong type.
    """
    if "completion" not in row:
        raise data_error(where, "completion", "no such field", "the model's text", "write it as text")
    text, record = completion_text(saved_completion(row, where)), _record(row, where)
    return text, record.with_extra(box_space=box_space) if box_space else record


def saved_completion(row: dict[str, Any], where: str) -> CompletionMessages:
    """The completion of a row: a text, or the chat messages of one with tool turns. Raises DataError as
    `checked_messages`."""
    value = row["completion"]
    return value if isinstance(value, str) else checked_messages(value, where)


def judged_completions(
    lines: Iterable[tuple[str, bytes]], method: str, box_space: str | None = None
) -> list[tuple[str, Record]]:
    """The completions that a judge grades, with their records, of lines (place, bytes); `method` is that of rows
    without their own. A row that cannot be read is left to its grading, which says why."""
    found = []
    for where, line in lines:
        try:
            completion, record = read_saved(decode_saved(line, where), where, box_space)
        except (ValueError, TypeError):
            continue
        if is_remote("accuracy", replace(record, accu_reward_method=record.accu_reward_method or method)):
            found.append((completion, record))
    return found


def decode_saved(line: bytes, where: str) -> dict[str, Any]:
    """The JSON object of a line without the results of an earlier scoring; raises DataError for anything else."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise data_error(where, "line", f"broken JSON ({error})", "one JSON object", "correct it") from error
    if not isinstance(row, dict):
        raise data_error(where, "line", shorten(row), "one JSON object", "write each row as {...}")
    return {key: value for key, value in row.items() if key not in RESULTS}


def _record(row: dict[str, Any], where: str) -> Record:
    gold = solution_text(_gold(row, where), "gold", where)
    extra = {key: value for key, value in row.items() if key not in ("completion", "gold", "accu_reward_method")}
    method = row.get("accu_reward_method") and str(row["accu_reward_method"])
    turns = (Turn("user", row["question"]),) if isinstance(row.get("question"), str) else ()
    return Record(where, _images(row), str(Path(where).parent), turns, gold, extra, where, method, _videos(row, where))


def _images(row: dict[str, Any]) -> tuple[str, ...]:
    """The pictures of a row, which a judge may see: paths beside the file of the rows; () for any other value."""
    value = row.get("images", row.get("image"))
    paths = value if isinstance(value, list) else [value]
    return tuple(paths) if all(isinstance(path, str) and path for path in paths) else ()


def _videos(row: dict[str, Any], where: str) -> tuple[Video, ...]:
    """The videos of a row, which a judge may see frames of; () for a value that names none."""
    try:
        return videos_of(row, where)
    except DataError:
        return ()


def _gold(row: dict[str, Any], where: str) -> Any:
    """The gold answer; a box of any `gold_format` as [x1, y1, x2, y2]."""
    form, gold = row.get("gold_format", "xyxy"), row.get("gold")
    if form not in ("xyxy", "xywh"):
        raise data_error(where, "gold_format", shorten(form), "xyxy or xywh", "write one of them")
    if form == "xyxy":
        return gold
    boxes = parse_boxes(str(gold))
    if len(boxes) != 1:
        raise data_error(where, "gold", shorten(gold), "one box [x, y, width, height]", "correct the gold")
    x, y, width, height = boxes[0].xyxy
    return [x, y, x + width, y + height]
