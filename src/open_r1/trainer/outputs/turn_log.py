"""The turns of a completion as `rollouts.jsonl` holds them, with the boxes that were asked for.

`{"text", "answers": [{"name", "text", "images": [file], "error", "asked": outline or null}]}`: what the model wrote,
and what the tools that it called answered; an outline's `image` counts the prompt's pictures, then those of tools. The
last has `"limit"`, a flag with its value, where that kept the answers to its calls out.
"""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from open_r1.data.record import Record
from open_r1.rewards.base import Outline
from open_r1.tools.asked_boxes import asked_outline
from open_r1.tools.messages import ModelTurn
from open_r1.tools.toolbox import ToolAnswer

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
        logged.append({"text": turn.text, "answers": answers} | ({"limit": turn.limit} if turn.limit else {}))
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
