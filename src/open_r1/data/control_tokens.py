"""Finds control tokens in the texts of rows, which would become turns, ends or pictures of the prompt. (torch-free)

A chat template puts texts between its marks, and the tokenizer reads a mark within a text as it reads the template's
own: `<|im_end|>` in a question ends the turn. Such a text is refused with its row. Control tokens of a model are

  - the tokens that its tokenizer and processor name (`eos_token`, `image_token`, `boi_token`, ...);
  - every other added token that is special;
  - the marks that its chat template writes around plain texts, tokens or not (`[INST]`).

Free are tokens that the tokenizer added as ordinary (Gemma's `<h1>`), and those of reasoning, answers and regions,
whatever they are to the tokenizer: `CONTENT` lists their words. A mark without brackets (`USER:`) is an ordinary word
and stays free too.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from open_r1.data.record import Record
from open_r1.data.row_formats import IMAGE_TAG, VIDEO_TAG
from open_r1.errors import DataError, Problem

logger = logging.getLogger(__name__)

CONTENT = {"think", "thinking", "thought", "answer", "ref", "object", "region", "grounding", "coord", "coordinate"}
CONTENT |= {"box", "bbox", "quad", "point", "points", "poly", "polygon", "loc", "seg", "det"}
BRACKETS = "<>[]{}|｜◁▷"  # a token without one is an ordinary word, such as the "!" that pads CLIP
# what opens and closes with a pair and has none within: such tokens are found by their form
PAIRS = {"<": re.compile(r"<[^<>]+>"), "[": re.compile(r"\[[^\[\]]+\]")}
_ASCII = "".join(map(chr, range(33, 127)))
_MARK = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z][A-Z_]*\]")  # what a template writes, as far as it is known by its form
_WORD = re.compile(r"[^\W\d_]+")
_SYSTEM = {"role": "system", "content": [{"type": "text", "text": "be brief"}]}
_USER = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what"}]}
_ASSISTANT = {"role": "assistant", "content": [{"type": "text", "text": "that"}]}
# shapes of conversation that a model may take or refuse; `models/processor_check.py` bounds the time that each takes
DIALOGUES = ([_USER], [_SYSTEM, _USER], [_USER, _ASSISTANT, _USER], [_USER, _ASSISTANT])


def is_control(token: str) -> bool:
    """Whether a token that a tokenizer names, holds as special, or that a template writes, has control.

    >>> [is_control(token) for token in ("<|im_end|>", "[INST]", "<think>", "<|box_start|>", "<|fim_prefix|>", "!")]
    [True, True, False, False, True, False]
    """
    words = set(map(str.lower, _WORD.findall(token)))
    return len(token) > 2 and any(sign in token for sign in BRACKETS) and not words & CONTENT


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of `model`; `normalize` is the tokenizer's where it looks for some after normalization."""

    model: str
    tokens: frozenset[str]
    normalize: Callable[[str], str] | None = None
    others: re.Pattern[str] = field(init=False)  # tokens that `PAIRS` do not find
    openings: str = field(init=False)  # their first characters
    ascii_stays: bool = field(init=False)  # whether normalization changes no ASCII text

    def __post_init__(self) -> None:
        # pairs are looked up in the set of tokens, since Gemma has thousands, which are slow as alternatives
        others = [token for token in self.tokens if not any(pair.fullmatch(token) for pair in PAIRS.values())]
        pattern = "|".join(map(re.escape, sorted(others, key=len, reverse=True)))
        plain = self.normalize is None or self.normalize(_ASCII).replace("▁", " ").strip() == _ASCII
        object.__setattr__(self, "others", re.compile(pattern or r"(?!)"))
        object.__setattr__(self, "openings", "".join({token[0] for token in others}))
        object.__setattr__(self, "ascii_stays", plain)

    def found(self, text: str) -> list[str]:
        """The control tokens of a text, each as often as it is there."""
        found = self._found(text)
        if found or self.normalize is None or (self.ascii_stays and text.isascii()):
            return found
        return self._found(self.normalize(text.encode("utf-8", "replace").decode()))

    def _found(self, text: str) -> list[str]:
        found = [
            mark for sign, pair in PAIRS.items() if sign in text for mark in pair.findall(text) if mark in self.tokens
        ]
        return found + (self.others.findall(text) if any(sign in text for sign in self.openings) else [])

    def problems(self, record: Record, with_answer: bool) -> Iterator[Problem]:
        """The defects of a row's prompt, and of its solution `with_answer`, at most one for each text."""
        # joined, as a template that shows pictures first joins what stands around them
        tags = (IMAGE_TAG, VIDEO_TAG) if record.videos else (IMAGE_TAG,)
        texts = [_without(turn.text, tags) for turn in record.turns]
        answer = record.solution if with_answer else ""
        if not (self.found("".join(texts)) or (answer and self.found(answer))):
            return
        names = [f"turn {number} ({turn.role})" for number, turn in enumerate(record.turns, 1)]
        fields = dict(zip(names, texts, strict=True)) if any(map(self.found, texts)) else {"prompt": "".join(texts)}
        for name, text in (fields | {"solution": answer}).items():
            if found := self.found(text):
                yield self.problem(record, name, found[0])

    def problem(self, record: Record, name: str, token: str) -> Problem:
        """The defect of a text that holds a control token."""
        got = f"text with {token!r}, which is a control token of {self.model}"
        remedy = f"write it otherwise, such as {token[0] + ' ' + token[1:]!r}, or remove the row"
        return Problem(record.where, name, got, "plain text, which cannot end a turn or stand for a picture", remedy)

    def refuse(self, records: Iterable[Record], with_answer: bool = False) -> None:
        """Raises DataError that names every row with a control token in its prompt, or in its solution."""
        problems = [problem for record in records for problem in self.problems(record, with_answer)]
        if problems:
            raise DataError(problems)

    def refuse_made(self, record: Record, rendered: str, plain: str) -> None:
        """Raises DataError where a prompt as `rendered` by the chat template has control tokens that the same
        conversation of `plain` texts has not: made of a text and what the template writes beside it."""
        if more := Counter(self.found(rendered)) - Counter(self.found(plain)):
            raise DataError([self.problem(record, "prompt", next(iter(more)))])


def _without(text: str, tags: Sequence[str]) -> str:
    """A text without its tags of pictures and videos."""
    for tag in tags:
        text = text.replace(tag, "")
    return text


def plain_twin(chat: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with "." in place of each text that is not blank.

    >>> plain_twin([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}])
    [{'role': 'user', 'content': [{'type': 'image'}, {'type': 'text', 'text': '.'}]}]
    """

    def plain(part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "text": "."} if part["type"] == "text" and part["text"].strip() else part

    return [{**message, "content": [plain(part) for part in message["content"]]} for message in chat]


def control_tokens(processor: Any, template: dict[str, Any] | None = None) -> ControlTokens:
    """The control tokens of a (transformers) processor; `template` holds options of its chat template."""
    tokenizer, model = processor.tokenizer, processor.tokenizer.name_or_path or "the model"
    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special} | named_tokens(tokenizer) | named_tokens(processor)
    tokens = set(filter(is_control, special | written_marks(processor, {t.content for t in added}, template or {})))
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    late = {token.content for token in added if token.normalized} & tokens
    if normalizer is None or not late:
        return ControlTokens(model, frozenset(tokens))
    return ControlTokens(model, frozenset(tokens | set(map(normalizer.normalize_str, late))), normalizer.normalize_str)


def named_tokens(holder: Any) -> set[str]:
    """The tokens that a tokenizer or processor names in its fields `..._token` and `..._token_id`."""
    fields = {**getattr(holder, "special_tokens_map", {}), **vars(holder)}
    names = {str(value) for name, value in fields.items() if name.endswith("_token") and value is not None}
    ids = [value for name, value in fields.items() if name.endswith("_token_id") and isinstance(value, int)]
    tokenizer = getattr(holder, "tokenizer", holder)
    return names | {token for token in tokenizer.convert_ids_to_tokens(ids) if token is not None}


def written_marks(processor: Any, added: set[str], template: dict[str, Any]) -> set[str]:
    """The marks that the chat template writes around plain texts: added tokens, and what has the form of one."""
    rendered = ""
    for dialogue in DIALOGUES:
        for generation in (False, True):
            try:
                rendered += processor.apply_chat_template(
                    dialogue, add_generation_prompt=generation, tokenize=False, **template
                )
            except Exception as error:  # Gemma's refuses a system turn, others an answer at the end, or join a list to
                logger.debug("%s in a dialogue of the chat template; rows of that kind meet it", error)  # a text
    return {mark for mark in added if mark in rendered} | set(_MARK.findall(rendered))
