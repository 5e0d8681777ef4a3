"""Turns a `Record` into chat messages with each image at its tag; the prompt templates. (torch-free)"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from open_r1.data.record import Record
from open_r1.data.row_formats import IMAGE_TAG, Turn

# What VLM-R1's and R1-V's recipes append to a question, chosen by --prompt_mode.
PROMPTS = {
    "think": "{question} First output the thinking process in <think> </think> tags and then output the final answer "
    "in <answer> </answer> tags.",
    "direct": "{question} Output the final answer directly in <answer> </answer> tags.",
}
_SLOT = "{question}"
TOOL_ANSWER = ("<tool_response>\n", "\n</tool_response>")  # around what a tool answers, as Qwen's templates write it


def messages(record: Record, instruction: str | None = None) -> list[dict[str, Any]]:
    """Chat messages of the prompt: role and content parts `{"type": "image"}` and `{"type": "text", "text": ...}`.

    The k-th image part belongs to `record.images[k]`. Without any tag the images come first in the first user turn.
    `instruction` is a template around the last user turn, tags included: `"{question} Answer in one word."`; only
    `{question}` is replaced, so other braces are safe on both sides. Tools' turns are a user's, within TOOL_ANSWER.

    Raises ValueError for a template that does not hold `{question}` once, or that holds an image tag.

    >>> record = Record("1", ("a.png",), "", (Turn("user", "<image>How many?"),), "2")
    >>> messages(record, "{question} Be brief.")[0]["content"]
    [{'type': 'image'}, {'type': 'text', 'text': 'How many? Be brief.'}]
    """
    turns = _with_instruction(record.turns, instruction) if instruction is not None else record.turns
    tagged = any(IMAGE_TAG in turn.text for turn in turns)
    first_user = next(i for i, turn in enumerate(turns) if turn.role == "user")
    leading = 0 if tagged else len(record.images)
    return [
        {"role": turn.role, "content": _parts(turn.text, leading if i == first_user else 0)}
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


def plain_messages(conversation: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The conversation with each message's content as one text, `<image>` where an image stands.

    >>> plain_messages([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}])
    [{'role': 'user', 'content': '<image>What?'}]
    """

    def text(content: str | list[dict[str, Any]]) -> str:
        return content if isinstance(content, str) else "".join(part.get("text", "<image>") for part in content)

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
    if instruction.count(_SLOT) != 1 or IMAGE_TAG in instruction:
        raise ValueError(f"prompt: got {instruction!r}, expected text with {_SLOT} once and without {IMAGE_TAG}")
    last = max(i for i, turn in enumerate(turns) if turn.role == "user")
    question = Turn("user", instruction.replace(_SLOT, turns[last].text))
    return (*turns[:last], question, *turns[last + 1 :])


def _parts(text: str, leading_images: int) -> list[dict[str, Any]]:
    """Content parts of a text with image tags, after `leading_images` image parts."""
    parts: list[dict[str, Any]] = [{"type": "image"}] * leading_images
    for i, piece in enumerate(text.split(IMAGE_TAG)):
        parts += [{"type": "image"}] if i else []
        parts += [{"type": "text", "text": piece}] if piece else []
    return [dict(part) for part in parts]  # no two parts share a dict: processors write into them
