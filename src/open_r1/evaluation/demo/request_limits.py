"""Bound a request's body, and answer in a sentence what no action of the page could make of it."""

import json
import logging
from typing import Any

MOST_BYTES = 512 << 10  # of a request's body: pictures are uploaded apart, with a limit of their own
UPLOAD = "/upload"
LARGE = f"request: got over {MOST_BYTES:,} bytes, expected at most that; shorten the text"
logger = logging.getLogger(__name__)


class RequestLimits:
    """ASGI middleware inside `HostCheck`: a request that is too large or fails unexpectedly gets a JSON `detail`."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].endswith(UPLOAD):
            await self.app(scope, receive, send)
            return
        exchange, failure = Exchange(receive, send), None
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.began:
                raise
            failure = error
        if not exchange.began and exchange.taken > MOST_BYTES:
            await say(413, LARGE, send)
        elif failure is not None:
            logger.error("request to %s failed", scope["path"], exc_info=failure)
            await say(400, "This request cannot be answered: it is not one of the page's; reload the page.", send)


class Exchange:
    """A request, whose body may have `MOST_BYTES`, and its response: bytes `taken`, and whether the answer `began`."""

    def __init__(self, receive: Any, send: Any):
        self._receive, self._send, self.taken, self.began = receive, send, 0, False

    async def receive(self) -> Any:
        """The next part of the request. Raises ValueError where it is too large."""
        message = await self._receive()
        self.taken += len(message.get("body", b""))
        if self.taken > MOST_BYTES:
            raise ValueError(LARGE)
        return message

    async def send(self, message: Any) -> None:
        """Send a part of the response, but for FastAPI's answer that it could not read the body."""
        if self.began or self.taken <= MOST_BYTES:
            self.began = True
            await self._send(message)


async def say(status: int, text: str, send: Any) -> None:
    """Send a response with a JSON `detail`."""
    headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": text}).encode()})
