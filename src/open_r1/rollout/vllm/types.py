"""What an engine is asked and what it answers; nothing here imports vLLM."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from PIL import Image

from open_r1.errors import RunEnded, shorten

BANNED = -100.0  # added to the logit of a token that must not be sampled; vLLM's own limit


class EngineError(RunEnded):
    """The engine cannot go on: it is gone, or it does not compute what the trainer computes."""


class EngineLost(EngineError):
    """A server does not answer, or is not the one that was given the policy's weights: it may be met again."""


@dataclass(frozen=True)
class Request:
    """One prompt to be answered `n` times.

    `ids` hold one token where an image stands, and the engine's own processor expands them; `expanded` is what the
    trainer's processor made of the same prompt, which the engine's must equal. `chat` are the messages with pixels.
    Completion i is drawn with `seed` + i.
    """

    where: str
    ids: list[int]
    expanded: list[int]
    pictures: Sequence[Image.Image]
    chat: list[dict[str, Any]]
    n: int
    seed: int


@dataclass(frozen=True)
class SampledCompletion:
    """Token ids (C,) up to and with the end token, and the log-probs (C,) they were drawn with."""

    ids: list[int]
    logps: list[float]


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn; `banned` tokens never, `stops` end one, `extra` is from `--generation_kwargs`."""

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
        """Names and values that vLLM's SamplingParams and its HTTP requests have in common.

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


def check_prompt(request: Request, seen: Sequence[int]) -> None:
    """Raises EngineError where the engine read another prompt than the trainer: every log-prob would be of another
    picture, and nothing would say so."""
    if list(seen) == request.expanded:
        return
    at = next(i for i, (a, b) in enumerate(zip_longest(seen, request.expanded)) if a != b)
    raise EngineError(
        f"{request.where}: vLLM read a prompt of {len(seen)} tokens, the trainer {len(request.expanded)}, different "
        f"from token {at} on: got {shorten(list(seen[at : at + 4]))}, expected "
        f"{shorten(request.expanded[at : at + 4])}; serve the model folder that is trained, with the same chat "
        "template and the same --max_pixels and --min_pixels"
    )
