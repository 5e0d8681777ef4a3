"""Requests to a vLLM engine, its completions, its errors. (Does not import vLLM)"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from PIL import Image

from open_r1.data.video.types import VideoFrames
from open_r1.errors import RunEnded, shorten

ADAPTER_NAME = "policy"  # under which an engine knows the policy's adapter
BANNED = -100.0  # added to the logit of a banned token; the least that vLLM allows


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
