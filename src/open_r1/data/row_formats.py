"""Parses the three formats of a row into its turns, gold answer and image tags. (torch-free)

- VLM-R1: {"image": str | [str], "conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}
- R1-V:   {"image" or "images": ..., "problem": str, "solution": ...}
- chat:   {"messages": [{"role": "user", "content": str | [{"type": "text" | "image" | "video", ...}]}, ...]}

A question and its answer may also stand under the names of QUESTION_NAMES and ANSWER_NAMES, where a row has one of
each, and the gold answer of a conversation that ends with the user under one of ANSWER_NAMES. Turns may be in either
form. A turn by "tool" answers the call with which the assistant's turn before it ends.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from open_r1.data.gold_answers import ANSWER_NAMES, CONVERT, is_text, only_answer, shown_json, solution_text
from open_r1.data.row_checks import check_no_history, check_one_gold, check_options_shown, check_turn_order
from open_r1.data.video.fields import part_video
from open_r1.data.video.types import Video
from open_r1.errors import data_error, shorten

IMAGE_TAG, VIDEO_TAG = "<image>", "<video>"
_TAG = re.compile(f"{IMAGE_TAG}|{VIDEO_TAG}")
EXTERNAL_FIELDS = {"url", "path", "base64", "image_url"}  # of an image part: chat templates would fetch or read them
QUESTION_NAMES = (
    "problem",
    "question",
    "query",
    "prompt",
    "instruction",
    "input",
)  # R1-V, EasyR1, ms-swift, TRL, Alpaca
TURN_KEYS = ("from", "value"), ("role", "content")  # of the speaker and the text
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
ROLES |= dict.fromkeys(("tool", "tool_response", "observation"), "tool")  # chat, ms-swift, LLaMA-Factory


@dataclass(frozen=True)
class Turn:
    """One message of a conversation; `text` keeps its `<image>` and `<video>` tags where these belong."""

    role: str  # "system" | "user" | "assistant" | "tool", which answers a call of the assistant
    text: str


class Slot(NamedTuple):
    """A tag in a turn; `file`: what its content part names, None where it is one of the row's own, in order;
    `is_part`: whether a content part says that it is no text."""

    tag: str
    file: str | Video | None = None
    is_part: bool = False


class Dialogue(NamedTuple):
    """The turns and gold answer of a row; `slots`: the tags of the turns, in order, with what their parts name.

    `fields` are those of the row that it was read from.
    """

    turns: tuple[Turn, ...]
    solution: str
    slots: list[Slot]
    fields: tuple[str, ...]


def slots_of(text: str) -> list[Slot]:
    """The slots of a text's tags.

    >>> [slot.tag for slot in slots_of("<video>Is it <image>?")]
    ['<video>', '<image>']
    """
    return [Slot(tag) for tag in _TAG.findall(text)]


def row_format(row: dict, where: str) -> str:
    """The key of `ROW_FORMATS` whose format a row has. Raises DataError where it has none of them."""
    for has in (lambda name: row.get(name) is not None, row.__contains__):  # null is what a table leaves in a row
        if found := next(filter(has, ("conversations", "messages")), None):
            return found
        if any(map(has, QUESTION_NAMES)) or has("solution"):
            return "problem"
    expected = "'conversations' (VLM-R1), 'problem' and 'solution' (R1-V), or 'messages' (chat)"
    remedy = f"name them by --fields problem=...,solution=..., or convert the file: {CONVERT}"
    raise data_error(where, "line", f"fields {shorten(sorted(row))}", expected, remedy)


def named_field(row: dict, names: tuple[str, ...], where: str) -> str | None:
    """The one of `names` that a row has: ours, the first, or the only one; None where all are null or missing.

    Raises DataError where several others have a value.
    """
    found = [name for name in names if row.get(name) is not None]
    if len(found) < 2 or found[0] == names[0]:
        return found[0] if found else None
    got = " and ".join(map(repr, found))
    remedy = f"say which one it is: --fields {names[0]}={found[0]}"
    raise data_error(where, names[0], f"{got}, without {names[0]!r}", "one of them", remedy)


def _conversations(row: dict, where: str) -> Dialogue:
    return _dialogue(row, "conversations", where)


def _messages(row: dict, where: str) -> Dialogue:
    return _dialogue(row, "messages", where)


def _problem(row: dict, where: str) -> Dialogue:
    check_no_history(row, where, f"convert the file: {CONVERT}")
    question, extra = _question(row, where)
    answer = named_field(row, ANSWER_NAMES, where) or ANSWER_NAMES[0]
    if isinstance(row.get(question), list):
        return _dialogue(row, question, where)
    text = _prompt_text(row.get(question), question, where)
    if extra:
        text = f"{text}\n{_prompt_text(row[extra], extra, where)}"
    if (question, answer) != (QUESTION_NAMES[0], ANSWER_NAMES[0]):
        check_options_shown(row, text, where)
    solution = solution_text(only_answer(row.get(answer), answer, where), answer, where)
    return Dialogue((Turn("user", text),), solution, slots_of(text), (question, extra, answer))


def _question(row: dict, where: str) -> tuple[str, str]:
    """(field of the question, field of what follows it): Alpaca's `instruction` may have an `input`."""
    if row.get("instruction") and "input" in row and all(row.get(name) is None for name in QUESTION_NAMES[:4]):
        return "instruction", "input" if row["input"] else ""
    return named_field(row, QUESTION_NAMES, where) or QUESTION_NAMES[0], ""


def _dialogue(row: dict, name: str, where: str) -> Dialogue:
    """A list of turns. The last one, by the assistant, becomes the solution, or else one of ANSWER_NAMES is it."""
    items = row[name]
    check_no_history(row, where, f"write them as the first turns of {name!r}")
    if not isinstance(items, list) or not items:
        raise data_error(where, name, shown_json(items), "a non-empty list of turns", "write one object for each turn")
    keys = TURN_KEYS[0] if name == "conversations" else TURN_KEYS[1]
    turns, slots = [], []
    for i, item in enumerate(items):
        turn, turn_slots = _turn(item, f"{name}[{i}]", keys, where)
        turns.append(turn)
        if i + 1 < len(items) or turn.role != "assistant":  # tags in the gold answer do not count
            slots += turn_slots
    fields: tuple[str, ...] = (name,)
    if turns[-1].role == "user" and (answer := named_field(row, ANSWER_NAMES, where)):
        gold = solution_text(only_answer(row[answer], answer, where), answer, where)
        turns.append(Turn("assistant", gold))
        fields = (name, answer)
    elif turns[-1].role == "assistant":
        check_one_gold(row, turns[-1].text, name, where)
    check_turn_order([turn.role for turn in turns], name, where)
    return Dialogue(tuple(turns[:-1]), turns[-1].text, slots, fields)


def _turn(item: object, name: str, keys: tuple[str, str], where: str) -> tuple[Turn, list[Slot]]:
    """(turn, slots of its tags) of one entry; raises DataError for an entry that is no turn."""
    if isinstance(item, dict) and keys[0] not in item:
        keys = next((other for other in TURN_KEYS if other[0] in item), keys)
    role_key, text_key = keys
    if not isinstance(item, dict):
        raise data_error(
            where, name, shown_json(item), f"an object with '{role_key}' and '{text_key}'", "correct the turn"
        )
    role = item.get(role_key)
    if not isinstance(role, str) or role not in ROLES:
        raise data_error(
            where, f"{name}.{role_key}", shorten(role), f"one of {', '.join(ROLES)}", "rename the speaker"
        )
    text, slots, name = item.get(text_key), None, f"{name}.{text_key}"
    if text_key == "content" and isinstance(text, list) and all(isinstance(p, dict) and "type" in p for p in text):
        text, slots = _join_parts(text, name, where)
    if isinstance(text, str) and text.startswith('[{"type"'):
        raise data_error(where, name, f"{shorten(text)}, parts as a text", "a list of parts", "write the list itself")
    if ROLES[role] == "assistant":
        text = solution_text(text, name, where)
    else:
        text = _prompt_text(text, name, where)
    return Turn(ROLES[role], text), slots_of(text) if slots is None else slots


def _join_parts(parts: list[dict], name: str, where: str) -> tuple[str, list[Slot]]:
    """(text, slots) of chat content parts: the text has a tag for each part of a picture or video."""
    texts: list[str] = []
    slots: list[Slot] = []
    for i, part in enumerate(parts):
        kind, text, path = part["type"], part.get("text"), part.get("image")
        if kind == "text" and isinstance(text, str):
            texts.append(text)
            slots += slots_of(text)
        elif kind == "image" and not EXTERNAL_FIELDS & part.keys() and (path is None or is_text(path)):
            texts.append(IMAGE_TAG)
            slots.append(Slot(IMAGE_TAG, path))
        elif kind == "video":
            texts.append(VIDEO_TAG)
            slots.append(Slot(VIDEO_TAG, part_video(part, f"{name}[{i}]", where), is_part=True))
        else:
            expected = '{"type": "text", "text": str} or {"type": "image" or "video"[, "image" or "video": path]}'
            raise data_error(where, f"{name}[{i}]", shorten(part), expected, "rewrite the part")
    return "".join(texts), slots


def _prompt_text(value: object, name: str, where: str) -> str:
    if is_text(value):
        return value
    raise data_error(where, name, shown_json(value), "non-empty text", "write the text, or remove the turn or row")


ROW_FORMATS: dict[str, Callable[[dict, str], Dialogue]] = {
    "conversations": _conversations,
    "messages": _messages,
    "problem": _problem,
}
