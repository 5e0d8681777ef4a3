"""Requests to a vLLM engine, where they come from, its completions, its errors. (Does not import vLLM)"""

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

from PIL import Image

from open_r1.data.video.types import VideoFrames
from open_r1.errors import RunEnded, shorten

ADAPTER_NAME = "policy"  # under which an engine knows the policy's adapter
BANNED = -100.0  # added to the logit of a banned token; the least that vLLM allows
CHECK_SECONDS = 1.0  # between looks for a stop signal where nothing comes

logger = logging.getLogger(__name__)
_Value = TypeVar("_Value")


class EngineError(RunEnded):
    """The engine is gone, or does not compute what the trainer computes: the run ends."""


class EngineLost(EngineError):
    """A server does not answer, or was restarted without the policy's weights: the trainer may reconnect."""


@dataclass(frozen=True)
class Request:
    """One prompt and the number `n` of its completions.

    `ids` hold one token for each picture and video, which the engine's processor expands; `expanded` are the trainer's
    ids of the same prompt, which the engine's must equal; `videos` are those of which the engine's processor makes
    tokens. `chat` holds the messages with their pictures, None for a later turn of a completion, whose tokens no text
    stands for. Completion i is sampled with `seed` + i, and has at most `tokens`, by default those of the sampling.
    `where` is FILE:LINE of the row.
    """

    where: str
    ids: list[int]
    expanded: list[int]
    pictures: Sequence[Image.Image]
    chat: list[dict[str, Any]] | None
    n: int
    seed: int
    tokens: int | None = None
    videos: Sequence[VideoFrames] = ()


@dataclass(frozen=True)
class SampledCompletion:
    """Token ids (C,) up to and with the end token, and the log-probs (C,) that they were sampled with."""

    ids: list[int]
    logps: list[float]


class RequestSource(Protocol):
    """Where an engine's requests come from; some may come up while it answers others."""

    @property
    def awaited(self) -> Collection[Future[Any]]:
        """What further requests may follow from once it is done."""

    def take(self) -> list[Request]:
        """The requests that came up since the last call, at the first one those that it begins with."""

    def completed(self, number: int, completions: list[SampledCompletion]) -> None:
        """Takes the completions of request `number`, counted from 0 as they were taken."""


class GivenRequests:
    """A `RequestSource` of requests that are known beforehand; `completions` are of each, once it is answered."""

    awaited: Collection[Future[Any]] = ()

    def __init__(self, requests: Sequence[Request]):
        self.left, self.completions = list(requests), [[] for _ in requests]

    def take(self) -> list[Request]:
        taken, self.left = self.left, []
        return taken

    def completed(self, number: int, completions: list[SampledCompletion]) -> None:
        self.completions[number] = completions


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters; `stops` end a completion, `banned` are not sampled, `extra` is `--generation_kwargs`."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float | None
    repetition_penalty: float
    max_tokens: int
    stops: Sequence[int]
    banned: Sequence[int]
    regex: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The fields that vLLM's SamplingParams and its HTTP requests share.

        >>> Sampling(1.0, 1.0, 0, None, 1.0, 16, [2], [7], extra={"top_k": 5}).fields()["top_k"]
        5
        """
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p or 0.0,
            "repetition_penalty": self.repetition_penalty,
            "max_tokens": self.max_tokens,
            "stop_token_ids": list(self.stops),
            **self.extra,
            "logit_bias": {**self.extra.get("logit_bias", {}), **{str(token): BANNED for token in self.banned}},
        }


def check_prompt(request: Request, prompt_ids: Sequence[int]) -> None:
    """Raises EngineError where the engine's prompt differs from the trainer's: its log-probs would be of another
    picture, without any error."""
    if list(prompt_ids) == request.expanded:
        return
    at = next(i for i, (a, b) in enumerate(zip_longest(prompt_ids, request.expanded)) if a != b)
    raise EngineError(
        f"{request.where}: vLLM read a prompt of {len(prompt_ids)} tokens, the trainer {len(request.expanded)}, "
        f"different from token {at} on: got {shorten(list(prompt_ids[at : at + 4]))}, expected "
        f"{shorten(request.expanded[at : at + 4])}; serve the model folder that is trained, with the same chat "
        "template and the same --max_pixels and --min_pixels"
    )


def engine_errors(call: Callable[[], _Value]) -> _Value:
    """What `call` returns. Raises what it raises, vLLM's errors as EngineError."""
    try:
        return call()
    except RunEnded:
        raise
    except Exception as raised:  # vLLM's own
        logger.exception("vLLM failed")
        raise EngineError(f"vLLM failed: {type(raised).__name__}: {raised}") from raised
