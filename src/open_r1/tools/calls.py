"""Reads the tool calls that end a turn of the model. (torch-free)

A turn calls tools where it ends with their blocks, in the family's form (`call_forms`), and with nothing behind but
whitespace. All else stays text: a block with words or a quote behind it, in thinking that is still open, in an open
code fence. A block at the end that cannot be read, or is never closed, is a malformed call: its answer says why.
Time is linear in the text.
"""

from dataclasses import dataclass

from open_r1.tools.call_forms import FORMS, CallForm, ToolCall

MAX_CALL_CHARS = 20_000
MAX_CALLS = 16  # of one turn
THINKING = (("<think>", "</think>"), ("<|channel>thought", "<channel|>"))  # what opens and closes it; Gemma 4's too


@dataclass(frozen=True)
class MalformedCall:
    """A call that cannot be read; `reason` is for the model."""

    reason: str


def read_calls(text: str, form: str = "hermes", in_thinking: bool = False) -> tuple[ToolCall | MalformedCall, ...]:
    """The calls that end a turn, in order; () for a turn without any, which is the last.

    `text`: what the model wrote up to its end token, special tokens included, without that token. `form`: a key of
    `FORMS`. `in_thinking`: whether the template opened `<think>` before the first word.

    >>> read_calls('I look. <tool_call>{"name": "zoom", "arguments": {"bbox_2d": [0, 0, 9, 9]}}</tool_call>')
    (ToolCall(name='zoom', arguments={'bbox_2d': [0, 0, 9, 9]}, as_text=False),)
    >>> read_calls('I could write <tool_call>{"name": "zoom"}</tool_call>, but I see 7.')
    ()
    """
    shape = FORMS[form]
    blocks, start = _last_blocks(text, shape)
    if not blocks:
        return _unclosed(text, shape, in_thinking)
    if _is_quoted(text, start, in_thinking):
        return ()
    if len(blocks) > MAX_CALLS:
        return (MalformedCall(f"got {len(blocks):,} calls in one turn, expected at most {MAX_CALLS}"),)
    return tuple(call for begin, end in blocks for call in _read(text[begin:end], shape))


def _last_blocks(text: str, form: CallForm) -> tuple[list[tuple[int, int]], int]:
    """(start and end of the content of each block that ends the text, in order; where the first block starts)."""
    blocks: list[tuple[int, int]] = []
    end = _before_spaces(text, len(text))
    while text.endswith(form.closing, 0, end):
        stop = end - len(form.closing)
        start = text.rfind(form.opening, 0, stop)
        if start < 0:
            break
        blocks.append((start + len(form.opening), stop))
        end = _before_spaces(text, start)
    return blocks[::-1], end


def _before_spaces(text: str, end: int) -> int:
    while end and text[end - 1].isspace():
        end -= 1
    return end


def _is_quoted(text: str, start: int, in_thinking: bool) -> bool:
    """Whether a place is in open thinking or in an open code fence."""
    marks = [(text.rfind(opening, 0, start), text.rfind(closing, 0, start)) for opening, closing in THINKING]
    thinks = any(opened > closed for opened, closed in marks) or (in_thinking and marks[0][1] < 0)
    fences = sum(line.lstrip().startswith("```") for line in text[:start].splitlines())
    return thinks or fences % 2 == 1


def _read(content: str, form: CallForm) -> list[ToolCall | MalformedCall]:
    """The calls of one block."""
    if len(content) > MAX_CALL_CHARS:
        return [MalformedCall(f"got a call of {len(content):,} characters, expected at most {MAX_CALL_CHARS:,}")]
    try:
        return form.read(content)
    except ValueError as error:
        return [MalformedCall(str(error))]


def _unclosed(text: str, form: CallForm, in_thinking: bool) -> tuple[MalformedCall, ...]:
    """The malformed call of a turn that ends within a block."""
    start = text.rfind(form.opening)
    rest = start + len(form.opening)
    if start < 0 or text.find(form.closing, start) >= 0 or not form.begins.match(text, rest):
        return ()
    if _is_quoted(text, start, in_thinking):
        return ()
    return (MalformedCall(f"got a call without {form.closing}, expected it at the end of the turn"),)
