"""Turns a `Record` into chat messages with each image and video at its tag; the prompt templates. (torch-free)"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from open_r1.data.record import Record
from open_r1.data.row_formats import IMAGE_TAG, VIDEO_TAG, Turn

# What VLM-R1's and R1-V's recipes append to a question, chosen by --prompt_mode.
PROMPTS = {
    "think": "{question} First output the thinking process in <think> </think> tags and then output the final answer "
    "in <answer> </answer> tags.",
    "direct": "{question} Output the final answer directly in <answer> </answer> tags.",
}
_SLOT = "{question}"
_MEDIA = {IMAGE_TAG: "image", VIDEO_TAG: "video"}
_MEDIA_TAG = re.compile("|".join(_MEDIA))
TOOL_ANSWER = ("<tool_response>\n", "\n</tool_response>")  # around what a tool answers, as Qwen's templates write it


def messages(record: Record, instruction: str | None = None) -> list[dict[str, Any]]:
    """Chat messages of the prompt: role and content parts, `{"type": "image" | "video"}` or of text.

    The k-th image part belongs to `record.images[k]`, the k-th video part to `record.videos[k]`. Without any tag of
    theirs the images come first in the first user turn, then the videos. In a row without videos `<video>` is text.
    `instruction` is a template around the last user turn, tags included: `"{question} Answer in one word."`; only
    `{question}` is replaced, so other braces are safe on both sides. Tools' turns are a user's, within TOOL_ANSWER.

    Raises ValueError for a template that does not hold `{question}` once, or that holds an image tag.

    >>> record = Record("1", ("a.png",), "", (Turn("user", "<image>How many?"),), "2")
    >>> messages(record, "{question} Be brief.")[0]["content"]
    [{'type': 'image'}, {'type': 'text', 'text': 'How many? Be brief.'}]
    """
    turns = _with_instruction(record.turns, instruction) if instruction is not None else record.turns
    tags = {tag for tag in _MEDIA if any(tag in turn.text for turn in turns)}
    counts = {IMAGE_TAG: len(record.images), VIDEO_TAG: len(record.videos)}
    leading = "".join(tag * count for tag, count in counts.items() if tag not in tags)
    first_user = next(i for i, turn in enumerate(turns) if turn.role == "user")
    return [
        {"role": turn.role, "content": _parts(leading * (i == first_user) + turn.text, bool(record.videos))}
        for i, turn in enumerate(_tools_as_users(turns))
    ]


def _tools_as_users(turns: tuple[Turn, ...]) -> Iterator[Turn]:
    """The turns with one user's turn for the answers of tools in sequence.

    >>> list(_tools_as_users((Turn("assistant", "call"), Turn("tool", "3"), Turn("tool", "4"))))[1].text
    '<tool_response>\\n3\\n</tool_response>\\n<tool_response>\\n4\\n</tool_response>'
    """
    for by_tool, group in groupby(turns, key=lambda turn: turn.role == "tool"):
        if by_tool:
            yield Turn("user", "\n".join(turn.text.join(TOOL_ANSWER) for turn in group))
        else:
            yield from group


def with_images(conversation: list[dict[str, Any]], images: Sequence[Any]) -> list[dict[str, Any]]:
    """Puts `images` into the image parts in order, and returns the conversation. ValueError where counts differ."""
    parts = [part for message in conversation for part in message["content"] if part["type"] == "image"]
    for part, image in zip(parts, images, strict=True):
        part["image"] = image
    return conversation


def with_videos(conversation: list[dict[str, Any]], videos: Sequence[Any]) -> list[dict[str, Any]]:
    """Puts `videos` into the video parts in order, and returns the conversation. ValueError where counts differ."""
    parts = [part for message in conversation for part in message["content"] if part["type"] == "video"]
    for part, video in zip(parts, videos, strict=True):
        part["video"] = video
    return conversation


def plain_messages(conversation: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The conversation with each message's content as one text, `<image>` and `<video>` where these stand.

    >>> plain_messages([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}])
    [{'role': 'user', 'content': '<image>What?'}]
    """

    def text(content: str | list[dict[str, Any]]) -> str:
        return (
            content if isinstance(content, str) else "".join(part.get("text", f"<{part['type']}>") for part in content)
        )

    return [{"role": message["role"], "content": text(message["content"])} for message in conversation]


def plain_text(conversation: list[dict[str, Any]]) -> str:
    """The conversation as one readable text, one line for each message."""
    return "\n".join(f"{m['role']}: {m['content']}" for m in plain_messages(conversation))


def image_count(messages: Sequence[dict[str, Any]]) -> int:
    """Number of image parts.

    >>> image_count([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Why?"}]}])
    1
    """
    return sum(part["type"] == "image" for message in messages for part in message["content"])


def _with_instruction(turns: tuple[Turn, ...], instruction: str) -> tuple[Turn, ...]:
    """The turns with the template around the last user turn."""
    if instruction.count(_SLOT) != 1 or IMAGE_TAG in instruction or VIDEO_TAG in instruction:
        tags = f"{IMAGE_TAG} and {VIDEO_TAG}"
        raise ValueError(f"prompt: got {instruction!r}, expected text with {_SLOT} once and without {tags}")
    last = max(i for i, turn in enumerate(turns) if turn.role == "user")
    question = Turn("user", instruction.replace(_SLOT, turns[last].text))
    return (*turns[:last], question, *turns[last + 1 :])


def _parts(text: str, has_videos: bool) -> list[dict[str, Any]]:
    """Content parts of a text with tags of images, and of videos where the row has some."""
    parts: list[dict[str, Any]] = []
    start = 0
    for tag in _MEDIA_TAG.finditer(text):
        if tag[0] == VIDEO_TAG and not has_videos:
            continue
        parts += [{"type": "text", "text": text[start : tag.start()]}] if tag.start() > start else []
        parts.append({"type": _MEDIA[tag[0]]})
        start = tag.end()
    return parts + ([{"type": "text", "text": text[start:]}] if start < len(text) else [])
