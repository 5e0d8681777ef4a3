"""Measures prompts in tokens, images included, and refuses rows that no model can take before training. (torch-free)

Those are rows that are too long, and rows whose texts hold control tokens (`control_tokens`).

Most of a million rows are not tokenized: a row is measured only where an upper bound of its length is over the limit.
The bound is the bytes of the text, plus what the chat template adds, plus the most tokens that the processor makes of
a picture. Bytes are at least as many as tokens where the tokenizer neither splits bytes nor writes a character as
several; this holds for byte-level BPE and SentencePiece with byte fallback. (A normalizer such as NFKC can break it,
for a few rare characters.) Pictures are never decoded here: their sizes come from image headers. Of a video that is
measured one frame is decoded.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import ceil, inf, sqrt
from typing import Any

from rich.console import Console
from rich.progress import track

from open_r1.data.control_tokens import control_tokens
from open_r1.data.geometry.coordinates import MAX_ASPECT, MIN_SIDE
from open_r1.data.prompt_tokens import (
    DEFAULT_SAMPLING,
    area_limits,
    counts_by_size,
    ids_with_videos,
    image_sizes,
    positions_saved,
    prompt_text,
    prompt_tokens,
)
from open_r1.data.record import Record
from open_r1.data.row_formats import IMAGE_TAG, VIDEO_TAG
from open_r1.data.video.decoding.pictures import fitted_size
from open_r1.data.video.own_texts import chat_about
from open_r1.data.video.types import FrameSampling, VideoShape
from open_r1.errors import DataError, Problem

logger = logging.getLogger(__name__)

ANSWER_TAG_BYTES = 128  # most bytes of a taught answer around the solution
PREFIX_TOKENS = 16  # most tokens that a tokenizer puts before a text
# (height, width) of large pictures of many shapes, for processors that cut pictures into a limited number of tiles.
LARGE_PICTURES = [(1200 * h, 1200 * w) for h in range(1, 13) for w in range(1, 13)]


VIDEO_RATIOS = (0.1, 0.5, 1.0, 16 / 9, 10.0)  # width by height
THIN_FRAMES = ((MIN_SIDE, MIN_SIDE * MAX_ASPECT), (MIN_SIDE * MAX_ASPECT, MIN_SIDE))  # larger than any area asks
LATE_SECOND = 10_000.0  # a time that takes as many letters as any
IMAGE_ALONE, IMAGE_AND_VIDEO = re.compile(IMAGE_TAG), re.compile(f"{IMAGE_TAG}|{VIDEO_TAG}")


@dataclass(frozen=True)
class Limit:
    """The most tokens of a row; `expected` and `remedy` are the words of its message.

    `mrope`: with M-RoPE a picture takes as many positions as its longer side has tokens. `counts_answer`: a taught
    answer counts too.
    """

    tokens: int
    expected: str
    remedy: str
    mrope: bool = False
    counts_answer: bool = True


class LengthBound:
    """Upper bound of a row's tokens, without tokenizing it; `with_answer` adds its taught answer.

    The chat template is rendered once for each shape of conversation (roles and pictures of the turns), since it adds
    the same text to all of one shape.
    """

    def __init__(
        self,
        processor: Any,
        instruction: str | None,
        with_answer: bool,
        frames: FrameSampling = DEFAULT_SAMPLING,
        video_form: str = "native",
    ):
        self.processor, self.instruction, self.with_answer = processor, instruction, with_answer
        self.video_tokens = partial(most_video_tokens, processor, frames, video_form)
        self.picture = most_image_tokens(processor)
        self.template_bytes: dict[Any, int] = {}

    def __call__(self, record: Record) -> float:
        tags = ((turn.role, turn.text.count(IMAGE_TAG), turn.text.count(VIDEO_TAG)) for turn in record.turns)
        shape = (*tags, len(record.images), len(record.videos))
        measured = self.picture == inf and record.images
        if measured:  # tokens differ with the sizes of pictures, which the processor is given once each
            shape = (shape, *image_sizes(record))
        if shape not in self.template_bytes:
            self.template_bytes[shape] = (self._template_tokens if measured else self._template_bytes)(record)
        text_bytes = sum(len(turn.text.encode("utf-8", "surrogatepass")) for turn in record.turns)
        if self.with_answer:
            text_bytes += len(record.solution.encode("utf-8", "surrogatepass")) + ANSWER_TAG_BYTES
        image_tokens = self.picture * len(record.images) if record.images and not measured else 0  # not inf * 0
        video_tokens = self.video_tokens() * len(record.videos) if record.videos else 0
        return self.template_bytes[shape] + text_bytes + image_tokens + video_tokens

    def _template_bytes(self, record: Record) -> int:
        """Bytes of a conversation of this shape whose turns hold "." around their pictures."""
        text = prompt_text(dots_of(record), self.processor, self.instruction, "." if self.with_answer else None)
        return len(text.encode()) + PREFIX_TOKENS

    def _template_tokens(self, record: Record) -> int:
        """Tokens of such a conversation with pictures of these sizes."""
        tokens = prompt_tokens(dots_of(record), self.processor, self.instruction, "." if self.with_answer else None)
        return tokens + PREFIX_TOKENS


def dots_of(record: Record) -> Record:
    """The row with "." around its pictures and videos for its texts."""
    tags = IMAGE_AND_VIDEO if record.videos else IMAGE_ALONE
    texts = ["." + "".join(f"{tag}." for tag in tags.findall(turn.text)) for turn in record.turns]
    turns = tuple(replace(turn, text=text) for turn, text in zip(record.turns, texts, strict=True))
    return replace(record, turns=turns)


def most_image_tokens(processor: Any) -> float:
    """The most tokens that the processor makes of a picture; infinite where it cannot count them.

    For processors that resize by area it is a proven bound (each side is rounded to whole tokens, aspect ratios go up
    to `MAX_ASPECT`); for those that cut tiles it is the largest count over many shapes, plus a tenth.
    """
    if not counts_by_size(processor):
        return inf
    images = processor.image_processor
    if limits := area_limits(processor):
        tokens = max(limits) / (images.patch_size * images.merge_size) ** 2
        return ceil(tokens + (sqrt(MAX_ASPECT) + 2) * sqrt(tokens) + 2)
    return ceil(1.1 * max(processor._get_num_multimodal_tokens(image_sizes=LARGE_PICTURES)["num_image_tokens"]))


@lru_cache(maxsize=8)
def most_video_tokens(processor: Any, frames: FrameSampling, video_form: str) -> float:
    """The most tokens that the processor makes of a video: of the most frames late in a long file, over many shapes of
    the largest area, plus a quarter; infinite where it cannot be tried."""
    try:
        sizes = [*frame_sizes(frames), *THIN_FRAMES]
        return ceil(1.25 * max(len(frame_ids(processor, size, frames, video_form, LATE_SECOND)) for size in sizes))
    except Exception as error:  # of any kind: then each video is measured, and rows that fail are named
        logger.info("%s cannot be asked about videos: %s", type(processor).__name__, error)
        return inf


def frame_sizes(frames: FrameSampling) -> list[tuple[int, int]]:
    """(width, height) of the largest frames of several proportions."""
    widths = ((ratio, max(1, round(sqrt(frames.max_pixels * ratio)))) for ratio in VIDEO_RATIOS)
    return [fitted_size(width, max(1, round(width / ratio)), frames.max_pixels) for ratio, width in widths]


def frame_ids(
    processor: Any, size: tuple[int, int], frames: FrameSampling, video_form: str, begin: float = 0.0
) -> list[int]:
    """Token ids of a prompt with a video of the most frames of this (width, height), from the second `begin` on."""
    seconds = tuple(begin + number / frames.fps for number in range(frames.max_frames))
    video = VideoShape(*size, seconds, frames.max_frames / frames.fps).grey()
    return ids_with_videos(processor, chat_about([video]), [], [video], video_form, True)


def long_prompts(
    records: Iterable[Record],
    processor: Any,
    instruction: str | None,
    limits: Sequence[Limit],
    answer: Callable[[Record], str] | None = None,
    frames: FrameSampling = DEFAULT_SAMPLING,
    video_form: str = "native",
) -> Iterator[tuple[Problem, int, Limit]]:
    """(Problem, length, limit) of each row whose prompt, with its answer if it has one, is over a limit."""
    bound = LengthBound(processor, instruction, answer is not None, frames, video_form)
    least = min((limit.tokens for limit in limits), default=inf)
    for record in records:
        if least == inf or bound(record) <= least:
            continue
        for limit in limits:
            text = answer(record) if answer and limit.counts_answer else None
            length = prompt_tokens(record, processor, instruction, text, frames, video_form)
            if limit.mrope and length > limit.tokens:
                length -= positions_saved(record, processor)
            if length > limit.tokens:
                got, remedy = f"{length} tokens (id {record.id})", limit.remedy.format(length=length)
                yield Problem(record.where, "prompt", got, limit.expected, remedy), length, limit
                break


def no_problems(record: Record) -> tuple[Problem, ...]:
    """No problems: the check of rows of which nothing more is known."""
    return ()


def refuse_unusable_prompts(
    records: Sequence[Record],
    processor: Any,
    instruction: str | None,
    limits: Sequence[Limit],
    answer: Callable[[Record], str] | None = None,
    template: dict[str, Any] | None = None,
    check: Callable[[Record], Iterable[Problem]] = no_problems,
    frames: FrameSampling = DEFAULT_SAMPLING,
    video_form: str = "native",
) -> None:
    """Raises DataError that names every row with a control token in its texts or a problem of `check`, else every row
    whose prompt is over a limit; with `answer`, which makes the text that a row teaches, both count that too. `frames`
    and `video_form`: how videos are sampled and shown. Rows are read once."""
    tokens, problems = control_tokens(processor, template), list[Problem]()

    def plain_rows() -> Iterator[Record]:
        for record in track(records, "reading prompts", console=Console(stderr=True), transient=True):
            found = [*tokens.problems(record, with_answer=answer is not None), *check(record)]
            problems.extend(found)
            if not found:
                yield record

    defects = list(long_prompts(plain_rows(), processor, instruction, limits, answer, frames, video_form))
    if problems:
        raise DataError(problems)
    if defects:
        _, longest, limit = max(defects, key=lambda each: each[1])
        count, remedy = f"{len(defects):,} of {len(records):,} rows", limit.remedy.format(length=longest)
        first = Problem(count, "prompt", f"up to {longest} tokens", limit.expected, remedy)
        raise DataError([first, *(problem for problem, _, _ in defects)])


def prompt_length_limit(tokens: int) -> Limit:
    """The limit that `--max_prompt_length` sets."""
    remedy = "raise --max_prompt_length to {length}, lower --max_pixels or --video_max_frames, or remove the row"
    return Limit(tokens, f"at most {tokens}", remedy, counts_answer=False)
