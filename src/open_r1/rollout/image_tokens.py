"""Image tokens where they belong: a run of them for each picture of a prompt, and none in a completion.

A chat template that drops pictures gives a prompt that reads well and shows nothing; a model that draws an image token
is scored on a picture that it was not shown.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from open_r1.data.record import Record
from open_r1.errors import DataError, Problem, RunEnded

REMEDY = (
    "take the instruct variant of the model, whose chat template writes an image where a message has one, or correct "
    "the template"
)


def runs_of(ids: torch.Tensor, token: int) -> int:
    """How many stretches of `token` there are in `ids` (P,).

    >>> runs_of(torch.tensor([7, 7, 1, 7, 2]), 7), runs_of(torch.tensor([1, 2]), 7)
    (2, 0)
    """
    at = ids == token
    return int(at[0]) + int((at[1:] & ~at[:-1]).sum()) if len(ids) else 0


def refuse_unseen(
    record: Record, ids: torch.Tensor, pictures: int, processor: Any, text: str | Callable[[], str]
) -> None:
    """Raises DataError where a prompt `ids` (P,) of `pictures` pictures holds fewer runs of image tokens, or one of
    text alone holds any.

    A picture may have several runs (tiles). Several pictures may have one, where a template sets them side by side
    and no token frames them (LLaVA-OneVision): then the `text` that the chat template writes, or what makes it, is
    looked at. A processor that names no image token cannot be held to it.
    """
    token = getattr(processor, "image_token_id", None)
    if token is None:
        return
    runs = runs_of(ids, token)
    if pictures == 0 and runs:
        got, remedy = f"{runs} run(s) of the model's image token in a text row", "remove that token from the text"
        raise DataError([Problem(record.where, "prompt", got, "none", remedy)])
    if runs >= pictures:
        return
    said = text if isinstance(text, str) else text()
    if runs == 0 or said.count(processor.image_token) < pictures:
        got = f"image tokens for {runs} of {pictures} picture(s)"
        raise DataError([Problem(record.where, "images", got, "some for each: the others are not seen", REMEDY)])


class ImageDrawn(RunEnded):
    """A completion holds a token that was never to be sampled."""


def refuse_drawn(
    records: Sequence[Record], completions: Sequence[Sequence[int]], banned: Sequence[int], engine: str
) -> None:
    """Raises ImageDrawn for the first completion that holds a banned token, and says how many do."""
    never = set(banned)
    bad = [row for row, ids in enumerate(completions) if not never.isdisjoint(ids)]
    if bad:
        record, drawn = records[bad[0]], never.intersection(completions[bad[0]])
        raise ImageDrawn(
            f"{record.where}: completion: got token {', '.join(map(str, sorted(drawn)))}, which stands for an image, "
            f"from {engine} ({len(bad)} of {len(completions)} completions), expected none: the ban on it did not act; "
            "remove suppress_tokens, bad_words_ids and logit_bias from --generation_kwargs"
        )
