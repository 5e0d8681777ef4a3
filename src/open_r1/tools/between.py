"""The text between two turns, from any chat template: no word of the model is rendered again. (torch-free)

A tool's answer is a user turn of `<tool_response>`, the tool's texts and pictures, `</tool_response>`, as Qwen's
templates write it, so that no template needs to know tools.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from open_r1.data.chat import TOOL_ANSWER
from open_r1.data.control_tokens import ControlTokens
from open_r1.errors import UsageError
from open_r1.tools.sandboxed import AnswerPart
from open_r1.tools.toolbox import ToolAnswer

_MARK = "mark7e1d"  # stands for the model's words
_TAG = re.compile(r"<(?=/?tool_response>)")
_MOST_ROUNDS = 8  # of breaking up tokens


def text_between(
    processor: Any,
    answers: Sequence[ToolAnswer],
    options: Mapping[str, Any],
    control: ControlTokens,
    ended_by: str = "",
) -> tuple[str, list[Image.Image]]:
    """(what a processor's chat template writes from the end of the model's words, which call tools, to where the next
    begin; the pictures that stand in it, in order).

    `options` are those of the chat template. `ended_by` is the text of the end token that the model wrote: it is left
    out where the template begins with it. Control tokens in a tool's text are broken up by a space, so the text can be
    tokenized as it is. Raises UsageError for a template that leaves out or repeats what an assistant said.
    """
    pictures = [picture for answer in answers for picture in answer.pictures]
    chat = [_text_turn("user", "a"), _text_turn("assistant", _MARK), _text_turn("user", "b")]
    plain = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
    if plain.count(_MARK) != 1:
        got = f"a text {plain.count(_MARK)} times in a chat of three turns"
        raise UsageError(f"chat template: got an assistant's {got}, expected it once; tools need such a template")
    chat[2] = {"role": "user", "content": answer_parts(answers, control)}
    whole = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
    return whole.partition(_MARK)[2].removeprefix(ended_by), pictures


def answer_parts(answers: Sequence[ToolAnswer], control: ControlTokens) -> list[dict[str, Any]]:
    """The content parts of the user turn of these answers, their texts without control tokens."""
    (opening, closing), parts = TOOL_ANSWER, []
    for number, answer in enumerate(answers):
        _add_text(parts, "\n" * (number > 0) + opening)
        for text, picture in _runs(answer.parts):
            _add_text(parts, broken_up(text, control))
            parts += [{"type": "image"}] if picture else []
        _add_text(parts, closing)
    return parts


def with_opening(
    chat: list[dict[str, Any]], opening: Sequence[AnswerPart], control: ControlTokens
) -> list[dict[str, Any]]:
    """Chat messages with what an environment begins with, behind the text of the last turn; the list is changed.

    Control tokens in its text are broken up, as in tools' answers.
    """
    content, shown = chat[-1]["content"], iter(pictures_of_parts(opening))
    if opening:
        _add_text(content, "\n")
    for text, picture in _runs(opening):
        _add_text(content, broken_up(text, control))
        content += [{"type": "image", "image": next(shown)}] if picture else []
    return chat


def pictures_of_parts(parts: Sequence[AnswerPart]) -> list[Image.Image]:
    """The pictures among parts, in order."""
    return [part for part in parts if isinstance(part, Image.Image)]


def _runs(parts: Sequence[AnswerPart]) -> list[tuple[str, bool]]:
    """The texts of an answer, those without a picture between as one; whether a picture follows each."""
    runs = [("", False)]
    for part in parts:
        text, _ = runs[-1]
        runs[-1:] = [(text + part, False)] if isinstance(part, str) else [(text, True), ("", False)]
    return runs


def _add_text(parts: list[dict[str, Any]], text: str) -> None:
    """Adds a text to content parts, as one with the text before it."""
    if parts and parts[-1]["type"] == "text":
        parts[-1]["text"] += text
    elif text:
        parts.append({"type": "text", "text": text})


def broken_up(text: str, control: ControlTokens) -> str:
    """A text with a space in each control token and each tag of a tool's answer, so that it stays text.

    Raises UsageError for a text in which such tokens form again and again.
    """
    text = _TAG.sub("< ", text)
    for _ in range(_MOST_ROUNDS):
        found = control.found(text)
        if not found:
            return text
        for token in set(found):
            text = text.replace(token, f"{token[0]} {token[1:]}")
        if control.normalize is not None and control.found(text):  # tokens that only normalization shows
            text = control.normalize(text)
    raise UsageError(f"tool's text: got control tokens that form again, such as {found[0]!r}, expected text")


def _text_turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}
