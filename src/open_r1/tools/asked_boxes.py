"""The boxes that calls ask for, and the pictures of a completion with them: those of the prompt, then of tools."""

from collections.abc import Sequence

from PIL import Image

from open_r1.data.record import Record
from open_r1.rewards.base import Outline
from open_r1.rewards.drawing import draw_outlines
from open_r1.tools.call_forms import ToolCall
from open_r1.tools.calls import MalformedCall
from open_r1.tools.messages import ModelTurn
from open_r1.tools.zoom import tool_frame

STRIP_GAP = 6  # pixels between two pictures


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


def shown_pictures(
    turns: Sequence[ModelTurn], record: Record, pictures: Sequence[Image.Image], factor: int = 1
) -> list[Image.Image]:
    """The prompt's `pictures`, then those of tools, `factor` times as large, with the boxes that were asked for on
    each."""
    seen, asked = list(pictures), []
    for turn in turns:
        for call, answer in zip(turn.calls, turn.answers, strict=False):  # a limit kept answers out
            outline = asked_outline(call, record, seen)
            asked += [] if outline is None else [outline]
            seen += answer.pictures
    large = [p.resize((p.width * factor, p.height * factor), Image.Resampling.NEAREST) for p in seen]
    return [draw_outlines(picture, (), asked, number) for number, picture in enumerate(large)]


def strip_of(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures beside one another, as high as the highest.

    >>> strip_of([Image.new("RGB", (20, 10)), Image.new("RGB", (30, 40))]).size
    (56, 40)
    """
    width = sum(picture.width + STRIP_GAP for picture in pictures) - STRIP_GAP
    strip, left = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white"), 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + STRIP_GAP
    return strip
