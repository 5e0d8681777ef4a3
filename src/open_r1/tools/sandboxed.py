"""What a worker does for a call: runs the function, and makes plain parts of what it returns. (torch-free)"""

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from open_r1.data.geometry.coordinates import MAX_ASPECT, MIN_SIDE
from open_r1.data.images import MAX_PIXELS_DECODED, as_shown
from open_r1.errors import shorten
from open_r1.tools.call_forms import Json
from open_r1.tools.limits import MAX_ANSWER_PICTURES, MAX_TOOL_TEXT
from open_r1.tools.registry import Tool, load_tool, tool_function
from open_r1.tools.zoom import ToolFrame

AnswerPart = str | Image.Image
RETURNS = "expected a text, a PIL picture, or a list of both"


class UnusableAnswer(TypeError):
    """What a tool returned cannot be shown to a model."""


@dataclass(frozen=True)
class ToolOutcome:
    """What became of a call: `parts`; or the `refusal` of a tool that raised ValueError, whose message is for the
    model; or its `fault`, with the `trace` of the error. `over`: it was the last of its environment's episode."""

    parts: tuple[AnswerPart, ...] = ()
    refusal: str | None = None
    fault: str | None = None
    trace: str = ""
    over: bool = False


def check_tool(source: str) -> None:
    """Raises what `load_tool` raises; a worker can send that."""
    load_tool(source)


def run_tool(
    source: str,
    arguments: Mapping[str, Json],
    images: Sequence[Image.Image],
    frame: ToolFrame | None,
    max_pixels: int | None,
) -> ToolOutcome:
    """The outcome of one call of the tool `source`; `arguments` are as its signature types them."""
    return outcome_of_tool(load_tool(source), tool_function(source), arguments, images, frame, max_pixels)


def outcome_of_tool(
    tool: Tool,
    fn: Callable[..., object],
    arguments: Mapping[str, Json],
    images: Sequence[Image.Image],
    frame: ToolFrame | None,
    max_pixels: int | None,
) -> ToolOutcome:
    """The outcome of one call of a tool's function, which is given of pictures and frame what it takes."""
    known = {"images": list(images), "frame": frame}
    given = {name: known[name] for name in tool.signature.given}
    return outcome_of(lambda: fn(**given, **arguments), max_pixels)


def outcome_of(call: Callable[[], object], max_pixels: int | None) -> ToolOutcome:
    """The outcome of a call that returns text and pictures; it ends a worker that is out of memory."""
    try:
        return ToolOutcome(parts_returned(call(), max_pixels))
    except MemoryError:  # ends the worker
        raise
    except ValueError as error:
        return ToolOutcome(refusal=str(error) or "ValueError")
    except (Exception, SystemExit) as error:
        return ToolOutcome(fault=f"{type(error).__name__}: {error}", trace=traceback.format_exc())


def parts_returned(returned: object, max_pixels: int | None) -> tuple[AnswerPart, ...]:
    """What a tool returned as texts and pictures. Raises UnusableAnswer for anything else, and over limits.

    >>> parts_returned("7", None)
    ('7',)
    """
    listed = list(returned) if isinstance(returned, (list, tuple)) else [returned]
    parts = tuple(_part(one, max_pixels) for one in listed)
    length = sum(len(part) for part in parts if isinstance(part, str))
    pictures = sum(not isinstance(part, str) for part in parts)
    if length > MAX_TOOL_TEXT or pictures > MAX_ANSWER_PICTURES:
        most = f"at most {MAX_TOOL_TEXT:,} and {MAX_ANSWER_PICTURES}"
        raise UnusableAnswer(f"returned {length:,} characters and {pictures} pictures, expected {most}")
    return parts


def _part(value: object, max_pixels: int | None) -> AnswerPart:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a plain str, without lone surrogates
    if isinstance(value, Image.Image):
        return _within(value, max_pixels)
    raise UnusableAnswer(f"returned {shorten(value, 60)}, {RETURNS}")


def _within(image: Image.Image, max_pixels: int | None) -> Image.Image:
    """A picture as processors get it, scaled down to `max_pixels` where it is larger."""
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS_DECODED or max(image.size) > MAX_ASPECT * min(image.size):
        most = f"sides of 1 and more within 1:{MAX_ASPECT}, and at most {MAX_PIXELS_DECODED:,} pixels"
        raise UnusableAnswer(f"returned a picture of {width}x{height} pixels, expected {most}")
    if max_pixels is not None and width * height > max_pixels:
        scale = math.sqrt(max_pixels / (width * height))
        sides = (max(MIN_SIDE, int(width * scale)), max(MIN_SIDE, int(height * scale)))
        image = image.convert("RGB").resize(sides, Image.Resampling.BICUBIC)
    return as_shown(image)
