"""Counts the tokens of a prompt, pictures expanded, without decoding one. (torch-free)

A processor's own count of a picture's size is used where it is what the processor makes; else the processor is given
grey pictures of the same sizes.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from PIL import Image

from open_r1.data.chat import messages, with_images, with_videos
from open_r1.data.geometry.coordinates import shown_size
from open_r1.data.images import original_size
from open_r1.data.record import Record
from open_r1.data.video.files import video_shapes
from open_r1.data.video.inputs import as_frames, videos_in
from open_r1.data.video.own_texts import chat_about, made_of, made_with_own_texts, needs_own_texts, with_other_videos
from open_r1.data.video.single_frames import takes_one_frame, with_doubled_frames
from open_r1.data.video.types import FrameSampling, VideoFrames
from open_r1.errors import data_error

logger = logging.getLogger(__name__)

DEFAULT_SAMPLING = FrameSampling()
# (width, height) of the pictures on which a processor's count is held against what it makes
COUNTED_SIZES = ([], [(64, 64)], [(300, 20)], [(20, 300)], [(640, 480)], [(64, 64), (200, 90)])


def conversation(record: Record, instruction: str | None, answer: str | None) -> list[dict[str, Any]]:
    """The chat messages of a row, with its answer if one is given."""
    chat = messages(record, instruction)
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return chat


def prompt_text(record: Record, processor: Any, instruction: str | None, answer: str | None = None) -> str:
    """The prompt, and its answer, as the chat template renders them. Raises DataError where it cannot."""
    chat = conversation(record, instruction, answer)
    with readable_rows(record, "a conversation that the chat template renders"):
        return processor.apply_chat_template(chat, add_generation_prompt=answer is None, tokenize=False)


@contextmanager
def readable_rows(record: Record, expected: str) -> Iterator[None]:
    """Turns what a template or a processor raises, each in its own way, into a DataError that names the row."""
    try:
        yield
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise data_error(record.where, "prompt", got, expected, "remove the row") from error


def prompt_tokens(
    record: Record,
    processor: Any,
    instruction: str | None,
    answer: str | None = None,
    frames: FrameSampling = DEFAULT_SAMPLING,
    video_form: str = "native",
) -> int:
    """Tokens of the prompt and its answer, pictures and videos expanded as the (transformers) processor does.

    No picture is decoded: its size decides how many tokens it takes. A processor whose own count of a size is not what
    it makes is given grey pictures of these sizes. Of a video, which is sampled as `frames` says and shown in a
    `video_form` ("native" or "frames"), one frame is decoded, and the processor is given a grey one of its shape.
    """
    if record.videos:
        videos = [shape.grey() for shape in video_shapes(record, frames)]
        with readable_rows(record, "a conversation that the processor takes"):
            chat = conversation(record, instruction, answer)
            return len(ids_with_videos(processor, chat, image_sizes(record), videos, video_form, answer is None))
    text, sizes = prompt_text(record, processor, instruction, answer), image_sizes(record)
    if counts_by_size(processor):
        return tokens_by_size(processor, text, sizes)
    with readable_rows(record, "a conversation that the processor takes"):
        return made_tokens(processor, conversation(record, instruction, answer), sizes, answer is None)


def tokens_by_size(processor: Any, text: str, sizes: Sequence[tuple[int, int]]) -> int:
    """Tokens of a rendered prompt with pictures of these (width, height), by the processor's own count."""
    begun = bool(processor.tokenizer.bos_token) and text.startswith(processor.tokenizer.bos_token)
    tokens = len(processor.tokenizer(text, add_special_tokens=not begun)["input_ids"])
    if not sizes:
        return tokens
    expanded = processor._get_num_multimodal_tokens(image_sizes=[(height, width) for width, height in sizes])
    return tokens + sum(expanded["num_image_tokens"]) - len(sizes)  # each image's tag is one token of the text


def made_tokens(processor: Any, chat: list[dict[str, Any]], sizes: Sequence[tuple[int, int]], prompts: bool) -> int:
    """Tokens that the processor makes of a conversation with grey pictures of these (width, height)."""
    return len(made_fields(processor, chat, sizes, prompts)["input_ids"][0])


def ids_with_videos(
    processor: Any,
    chat: list[dict[str, Any]],
    sizes: Sequence[tuple[int, int]],
    videos: Sequence[VideoFrames],
    video_form: str,
    prompts: bool,
) -> list[int]:
    """Token ids that the processor makes of a conversation with these videos, and grey pictures of these (width,
    height); `prompts`: for the next turn."""
    shown = with_videos(with_images(chat, [Image.new("RGB", size, (99, 99, 99)) for size in sizes]), videos)
    if video_form == "frames":
        return made_of(processor, as_frames(shown), prompts)["input_ids"][0].tolist()
    shown = shown if takes_one_frame(processor) else with_doubled_frames(shown)
    films = list(videos_in(shown))
    if len({len(film.seconds) for film in films}) < 2 or not needs_own_texts(processor):
        return made_of(processor, shown, prompts)["input_ids"][0].tolist()
    make = lambda other, same: made_of(other, with_other_videos(shown, same), prompts)  # noqa: E731
    return made_with_own_texts(processor, films, make)["input_ids"][0].tolist()


def video_tokens(processor: Any, video: VideoFrames, video_form: str = "native") -> int:
    """Tokens that a video of this shape adds to a prompt."""

    def count(videos: Sequence[VideoFrames]) -> int:
        return len(ids_with_videos(processor, chat_about(videos), [], videos, video_form, True))

    return count([video]) - count([])


def made_fields(processor: Any, chat: list[dict[str, Any]], sizes: Sequence[tuple[int, int]], prompts: bool) -> Any:
    """The fields that the processor makes of a conversation with grey pictures; `prompts`: for the next turn."""
    shown = with_images(chat, [Image.new("RGB", size, (99, 99, 99)) for size in sizes])
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    return processor.apply_chat_template([shown], add_generation_prompt=prompts, **options)


@lru_cache(maxsize=8)
def counts_by_size(processor: Any) -> bool:
    """Whether the processor's own count of a picture's tokens is what it makes, alone and beside another."""
    if not hasattr(processor, "_get_num_multimodal_tokens"):
        return False
    for sizes in COUNTED_SIZES:
        parts = [*({"type": "image"} for _ in sizes), {"type": "text", "text": "What?"}]
        chat = [{"role": "user", "content": parts}]
        try:
            text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            right = tokens_by_size(processor, text, sizes) == made_tokens(processor, chat, sizes, True)
        except Exception as error:  # of any kind: then pictures are processed, and rows that fail are named
            logger.info("%s cannot count tokens: %s", type(processor).__name__, error)
            return False
        if not right:
            return False
    return True


def image_sizes(record: Record) -> list[tuple[int, int]]:
    """(width, height) in pixels of each picture as the processor gets it."""
    return [shown_size(original_size(record.folder, path, where=record.where)) for path in record.images]


def positions_saved(record: Record, processor: Any) -> int:
    """Tokens minus positions of a prompt with M-RoPE, where a picture takes as many positions as its longer side."""
    sizes, merge = image_sizes(record), getattr(processor.image_processor, "merge_size", 1)
    if not sizes or record.videos:  # positions of a video depend on its seconds: its tokens, which are more, count
        return 0
    with readable_rows(record, "a conversation that the processor takes"):
        fields = made_fields(processor, messages(record), sizes, True)
    grids = fields["image_grid_thw"].tolist() if "image_grid_thw" in fields else []
    return sum(t * h * w // merge**2 - max(h, w) // merge for t, h, w in grids)


def area_limits(processor: Any) -> tuple[int, int] | None:
    """(min_pixels, max_pixels) of a processor that resizes by area; None for another. Kimi's limits are sides."""
    images = getattr(processor, "image_processor", None)
    if not hasattr(images, "merge_size"):
        return None
    limits = [dict(images.size).get(edge) for edge in ("shortest_edge", "longest_edge")]
    return None if None in limits else (int(limits[0]), int(limits[1]))
