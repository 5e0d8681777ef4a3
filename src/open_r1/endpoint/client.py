"""Client of an OpenAI-compatible endpoint: bounded concurrency, retries, deadlines, and a key that stays secret.

$OPENAI_BASE_URL and $OPENAI_API_KEY name the endpoint and the key. The key comes from the environment alone and
reaches no log, file or error. The `openai` package retries with back-off and honours Retry-After.
"""

import asyncio
import base64
import io
import json
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from open_r1.data.chat import with_images
from open_r1.errors import UsageError, shorten
from open_r1.redaction import redacted, shown_url

LONGEST_WAIT = 120  # seconds of a Retry-After that the openai package honours
_REMEDY = {
    400: "correct the model's name or the options of the request",
    401: "export the OPENAI_API_KEY that belongs to it",
    403: "export an OPENAI_API_KEY that may use this model",
    404: "correct OPENAI_BASE_URL (it ends in /v1 on most servers) or the model's name",
}
_FATAL = (401, 403, 404)  # fails every question in the same way


class EndpointError(UsageError):
    """The endpoint cannot answer any question: no address or key, wrong key, unknown model."""


class RequestFailed(RuntimeError):
    """One question stayed unanswered after all retries; others may still be answered."""


@dataclass(frozen=True)
class EndpointAnswer:
    """A reply: its text, the reasoning that the server returned beside it ("" for none), and why it ended.

    `finish` is the server's finish_reason: "stop", "length" for a reply cut by its token limit, "content_filter".
    `tokens_in` and `tokens_out` are those of its `usage`: prompt and reply; 0 where the server names none.
    """

    text: str
    reasoning: str = ""
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0


class Endpoint:
    """One model behind $OPENAI_BASE_URL; `chat` may be called from many threads.

    At most `concurrency` requests are under way. `timeout` (seconds) is that of one attempt, of which there are
    `retries` + 1; `deadline` (seconds; default: enough for all of them) ends a question even where bytes still arrive
    slowly. Waiting for a free place does not count. Raises EndpointError where the environment lacks a value.
    """

    def __init__(
        self,
        model: str,
        *,
        timeout: float = 600,
        retries: int = 5,
        concurrency: int = 8,
        deadline: float | None = None,
    ):
        from openai import AsyncOpenAI  # 0.8 s to import, and needed with an endpoint only

        url, self._key = credentials()
        self.model, self.place = model, shown_url(url)
        self.deadline = deadline or (retries + 1) * timeout + retries * LONGEST_WAIT
        self._client = AsyncOpenAI(base_url=url, api_key=self._key, timeout=timeout, max_retries=retries)
        self._slots = asyncio.Semaphore(concurrency)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True).start()

    def __repr__(self) -> str:
        return f"Endpoint({self.model!r} at {self.place})"

    def chat(
        self, messages: Sequence[dict[str, Any]], images: Sequence[Image.Image] = (), **options: Any
    ) -> EndpointAnswer:
        """The reply to `messages`, whose contents are texts or the parts of `open_r1.data.chat.messages`.

        The k-th part of type "image" shows `images[k]`. `options` (temperature, max_tokens, ...) are sent where they
        are not None. Raises RequestFailed where this question got no reply, EndpointError where no question can get
        one.
        """
        fields = {key: value for key, value in options.items() if value is not None}
        task = self._request(endpoint_messages(messages, images), fields)
        return asyncio.run_coroutine_threadsafe(task, self._loop).result()

    async def _request(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> EndpointAnswer:
        async with self._slots:
            request = self._client.chat.completions.create(model=self.model, messages=messages, **options)
            try:
                return read_reply(await asyncio.wait_for(request, self.deadline))
            except TimeoutError:
                raise RequestFailed(f"{self.place}: got no reply in {self.deadline:g} s") from None
            except json.JSONDecodeError as error:
                raise RequestFailed(f"{self.place}: got a reply that is no JSON ({error})") from None
            except Exception as error:
                # `from None`: the original holds the request with its headers, and servers quote keys in messages
                raise self._failure(error) from None

    def _failure(self, error: Exception) -> Exception:
        """The exception to raise for an error of the openai package; any other error is returned unchanged."""
        from openai import APIError

        if not isinstance(error, APIError):
            return error
        status = getattr(error, "status_code", None)
        details = shorten(redacted(str(error).replace(self._key, "[key]")), 300)
        got = f"{self.place}, model {self.model!r}: got {f'status {status}, ' if status else ''}{details}"
        if status in _FATAL:
            return EndpointError(f"{got}, expected an answer; {_REMEDY[status]}")
        return RequestFailed(f"{got}{f'; {_REMEDY[status]}' if status in _REMEDY else ''}")


def credentials() -> tuple[str, str]:
    """($OPENAI_BASE_URL, $OPENAI_API_KEY). Raises EndpointError naming what is missing or malformed."""
    url, key = os.environ.get("OPENAI_BASE_URL", "").strip(), os.environ.get("OPENAI_API_KEY", "").strip()
    if not is_http_url(url):
        got = f"got {shown_url(url)!r}" if url else "not set"
        raise EndpointError(
            f"OPENAI_BASE_URL: {got}, expected an address; export one, such as http://localhost:8000/v1"
        )
    if not key:
        remedy = "export it (any word for a server that asks for none)"
        raise EndpointError(f"OPENAI_API_KEY: not set, expected the endpoint's key; {remedy}")
    return url, key


def is_http_url(url: str) -> bool:
    """Whether a text is the address of an HTTP server.

    >>> is_http_url("http://localhost:8000/v1"), is_http_url("localhost:8000"), is_http_url("http://me:p/w@host")
    (True, False, False)
    """
    try:
        return urlsplit(url).scheme in ("http", "https") and (urlsplit(url).port or 80) > 0
    except ValueError:  # a port that is no number, as where a password holds a slash
        return False


def endpoint_messages(messages: Sequence[dict[str, Any]], images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """Chat messages in the endpoint's format, pictures as data URLs. Raises ValueError when the counts differ.

    >>> endpoint_messages([{"role": "user", "content": "What?"}], ())
    [{'role': 'user', 'content': 'What?'}]
    """
    with_parts = [
        {**m, "content": [dict(p) for p in m["content"]]} for m in messages if not isinstance(m["content"], str)
    ]
    filled = iter(with_images(with_parts, images))
    complete = [m if isinstance(m["content"], str) else next(filled) for m in messages]
    return [
        {**m, "content": m["content"] if isinstance(m["content"], str) else _request_parts(m["content"])}
        for m in complete
    ]


def _request_parts(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Content parts in the endpoint's format."""
    return [
        {"type": "image_url", "image_url": {"url": png_url(part["image"])}} if part["type"] == "image" else part
        for part in parts
    ]


def png_url(image: Image.Image) -> str:
    """The picture as a `data:` URL of a PNG, which is lossless.

    >>> png_url(Image.new("RGB", (1, 1)))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def scaled_down(image: Image.Image, max_pixels: int) -> Image.Image:
    """The picture scaled down to `max_pixels` with its aspect ratio; unchanged where it is small enough.

    >>> scaled_down(Image.new("RGB", (400, 100)), 10_000).size
    (200, 50)
    """
    scale = math.sqrt(max_pixels / (image.width * image.height))
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    return image if scale >= 1 else image.resize(size, Image.Resampling.LANCZOS)


def read_reply(reply: Any) -> EndpointAnswer:
    """The answer in a reply of the openai package; raises RequestFailed for a reply without one.

    Reasoning is read from `reasoning_content` (DeepSeek, vLLM, SGLang) or `reasoning` (OpenRouter, newer vLLM).
    """
    choices = getattr(reply, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        raise RequestFailed(f"got {shorten(str(reply), 200)}, expected a chat completion with a choice")
    message = choices[0].message
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    usage = getattr(reply, "usage", None)
    return EndpointAnswer(
        _without_surrogates(message.content or ""),
        _without_surrogates(reasoning or ""),
        choices[0].finish_reason or "",
        getattr(usage, "prompt_tokens", None) or 0,
        getattr(usage, "completion_tokens", None) or 0,
    )


def _without_surrogates(text: str) -> str:
    """The text without lone surrogates, which JSON allows and UTF-8 files and requests do not."""
    return text.encode("utf-8", "replace").decode()
