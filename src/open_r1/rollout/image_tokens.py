"""Check image tokens: each picture and video of a prompt has a run of them, and completions have none.

A chat template that drops pictures or videos gives a prompt without them and no error; an image token in a completion
would be scored as if a picture stood there.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from open_r1.data.record import Record
from open_r1.data.video.types import VideoFrames
from open_r1.errors import DataError, Problem, RunEnded, UsageError
from open_r1.rollout.processor_fields import PromptFields

REMEDY = (
    "take the instruct variant of the model, whose chat template writes an image where a message has one, or correct "
    "the template"
)
VIDEO_REMEDY = "add --video_form frames, or correct the chat template, which writes no video where a message has one"

# of transformers' models: "Image features and image tokens do not match, tokens: 1152, features: 2048"
MISMATCH = re.compile(r"features and (?:\w+ )*tokens do not match\D+(\d+)\D+(\d+)")


def count_runs(ids: torch.Tensor, tokens: Collection[int]) -> int:
    """The number of runs of any of `tokens` in `ids` (P,).

    >>> count_runs(torch.tensor([7, 7, 1, 7, 2]), {7}), count_runs(torch.tensor([1, 2]), {7})
    (2, 0)
    """
    is_token = torch.isin(ids, torch.tensor(sorted(tokens), dtype=ids.dtype))
    return int(is_token[0]) + int((is_token[1:] & ~is_token[:-1]).sum()) if len(ids) else 0


def refuse_missing_media(
    record: Record,
    ids: torch.Tensor,
    pictures: int,
    fields: PromptFields,
    text: str,
    videos: Sequence[VideoFrames] = (),
) -> None:
    """Raises DataError where `ids` (P,) have fewer runs of image tokens than `pictures`, or of video tokens than
    `videos`, or any without them.

    A picture may have several runs (tiles), and a video one for each frame, perhaps of image tokens. Several pictures
    may share one, where a template writes them side by side without framing tokens (LLaVA-OneVision): then what it
    writes for a picture is counted in its `text`.
    """
    if fields.video_form == "frames":
        pictures, videos = pictures + sum(len(video.pixels) for video in videos), ()
    if fields.video_ids & fields.image_ids:  # frames are written as pictures are
        media, written = ("picture(s) and video(s)", "") if videos else ("picture(s)", fields.placeholder)
        _refuse_missing(record, ids, pictures + len(videos), fields.image_ids, written, text, media)
        return
    _refuse_missing(record, ids, pictures, fields.image_ids, fields.placeholder, text, "picture(s)")
    _refuse_missing(record, ids, len(videos), fields.video_ids, fields.video_placeholder, text, "video(s)")


def _refuse_missing(
    record: Record, ids: torch.Tensor, shown: int, tokens: Collection[int], placeholder: str, text: str, media: str
) -> None:
    """Raises DataError where so many pictures or videos do not have their tokens."""
    runs = count_runs(ids, tokens)
    if shown == 0 and runs:
        medium = "video" if media == "video(s)" else "image"
        got, remedy = f"{runs} run(s) of the model's {medium} token in a text row", "remove that token from the text"
        raise DataError([Problem(record.where, "prompt", got, "none", remedy)])
    if runs >= shown or (runs and placeholder and text.count(placeholder) >= shown):
        return
    of_videos = media == "video(s)"
    field, remedy = ("video", VIDEO_REMEDY) if of_videos else ("images", REMEDY)
    got = f"{'video' if of_videos else 'image'} tokens for {runs} of {shown} {media}"
    raise DataError([Problem(record.where, field, got, "some for each: the others are not seen", remedy)])


def refuse_mixture(record: Record, pictures: int, videos: Sequence[VideoFrames], fields: PromptFields) -> None:
    """Raises DataError for a row with pictures and videos, or with videos of several lengths, where the processor does
    not take these together."""
    remedy = "add --video_form frames"
    if pictures and videos and fields.why_unmixed:
        got = f"{pictures} picture(s) beside {len(videos)} video(s)"
        raise DataError([Problem(record.where, "video", got, f"no picture: {fields.why_unmixed}", remedy)])
    lengths = [len(video.pixels) for video in videos]
    if len(set(lengths)) > 1 and fields.why_one_length:
        got, expected = f"videos of {', '.join(map(str, lengths))} frames", f"equally many: {fields.why_one_length}"
        raise DataError([Problem(record.where, "video", got, expected, f"give them one nframes, or {remedy}")])


@contextmanager
def refuse_other_counts(name: str) -> Iterator[None]:
    """Raises UsageError, in place of a model's own error, where a prompt has not a token for each image feature.

    >>> with refuse_other_counts("m"):
    ...     raise ValueError("Image features and image tokens do not match, tokens: 2, features: 8")
    Traceback (most recent call last):
    open_r1.errors.UsageError: m: got 2 image tokens from the processor and 8 image features from the model, expected \
as many of both: config.json and processor_config.json (or preprocessor_config.json) disagree on the sizes of \
pictures, patches or their merging; restore both files as they came
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        found = MISMATCH.search(str(error))
        if not found:
            raise
        raise UsageError(
            f"{name}: got {found[1]} image tokens from the processor and {found[2]} image features from the model, "
            "expected as many of both: config.json and processor_config.json (or preprocessor_config.json) disagree "
            "on the sizes of pictures, patches or their merging; restore both files as they came"
        ) from error


class ImageTokenSampled(RunEnded):
    """A completion holds a banned token: one that stands for an image."""


def refuse_image_tokens(
    records: Sequence[Record], completions: Sequence[Sequence[int]], banned: Sequence[int], engine: str
) -> None:
    """Raises ImageTokenSampled for the first completion that holds a banned token, and says how many do."""
    banned_ids = set(banned)
    bad_rows = [row for row, ids in enumerate(completions) if not banned_ids.isdisjoint(ids)]
    if bad_rows:
        record, tokens = records[bad_rows[0]], banned_ids.intersection(completions[bad_rows[0]])
        share = f"{len(bad_rows)} of {len(completions)} completions"
        raise ImageTokenSampled(
            f"{record.where}: completion: got token {', '.join(map(str, sorted(tokens)))}, which stands for an image, "
            f"from {engine} ({share}), expected none: the ban on it did not act; "
            "remove suppress_tokens, bad_words_ids and logit_bias from --generation_kwargs"
        )


def with_banned(generation_kwargs: Mapping[str, Any], banned: Sequence[int]) -> dict[str, Any]:
    """`--generation_kwargs` for transformers, in which these token ids are not sampled either.

    >>> with_banned({"typical_p": 0.9, "suppress_tokens": [7]}, [3])
    {'typical_p': 0.9, 'suppress_tokens': [3, 7]}
    """
    suppressed = sorted({*banned, *(generation_kwargs.get("suppress_tokens") or ())})
    return {**generation_kwargs, "suppress_tokens": suppressed}
