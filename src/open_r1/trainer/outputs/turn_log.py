"""The turns of a completion as `rollouts.jsonl` holds them, with the boxes that were asked for.

`{"text", "answers": [{"name", "text", "images": [file], "error", "asked": outline or null}]}`: what the model wrote,
and what the tools that it called answered; an outline's `image` counts the prompt's pictures, then those of tools.
"""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from open_r1.data.record import Record
from open_r1.rewards.base import Outline
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.calls import MalformedCall
from open_r1.tools.messages import ModelTurn
from open_r1.tools.toolbox import ToolAnswer
from open_r1.tools.zoom import tool_frame

Save = Callable[[Image.Image], str]


def logged_turns(
    turns: Sequence[ModelTurn], record: Record, pictures: Sequence[Image.Image], save: Save
) -> list[dict[str, Any]]:
    """The turns of a completion whose prompt holds `pictures`; `save` stores a picture and returns its file name."""
    seen, logged = list(pictures), []
    for turn in turns:
        answers = []
        for call, answer in zip(turn.calls, turn.answers, strict=False):  # a limit kept answers out
            answers.append(logged_answer(answer, asked_outline(call, record, seen), save))
            seen += answer.pictures
        logged.append({"text": turn.text, "answers": answers})
    return logged


def logged_answer(answer: ToolAnswer, asked: Outline | None, save: Save) -> dict[str, Any]:
    """One answer."""
    return {
        "name": answer.name,
        "text": "".join(part for part in answer.parts if isinstance(part, str)),
        "images": [save(picture) for picture in answer.pictures],
        "error": answer.error,
        "asked": asked and {"points": asked.points, "label": asked.label, "image": asked.image},
    }


def asked_outline(call: ToolCall | MalformedCall, record: Record, pictures: Sequence[Image.Image]) -> Outline | None:
    """The box of a call's `bbox_2d` on its picture, as shares of its sides; None for a call without a box on one."""
    arguments = call.arguments if isinstance(call, ToolCall) else {}
    box, number, label = arguments.get("bbox_2d"), arguments.get("image", 1), arguments.get("label", "")
    if not isinstance(box, list) or not isinstance(number, int) or not 1 <= number <= len(pictures):
        return None
    picture = pictures[number - 1]
    try:
        left, top, right, bottom = tool_frame(record).to_pixels([float(side) for side in box], picture)
    except (TypeError, ValueError):  # what the tool refuses has no place on the picture
        return None
    x1, x2 = (round(x / picture.width, 4) for x in (left, right))
    y1, y2 = (round(y / picture.height, 4) for y in (top, bottom))
    return Outline(((x1, y1), (x2, y1), (x2, y2), (x1, y2)), label if isinstance(label, str) else "", number - 1)
