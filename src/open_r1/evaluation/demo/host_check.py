"""Check Host and Origin of requests to the demo, so that pages of other sites cannot use it through a browser.

A site can resolve its own name to 127.0.0.1 and so reach a demo there (DNS rebinding); Host is then that site's name.
A page of another site can also send requests to the demo's address; Origin is then that site.
"""

import re
import socket
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}  # of a request -> of its page
PORTS = {"http": 80, "https": 443}
HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]


class HostCheck:
    """ASGI middleware that refuses requests for other hosts or from other sites, and sends a content security policy.

    Known hosts are `host`, with which the demo was started, `localhost`, this machine's name, and any IP address,
    which needs no resolving.
    """

    def __init__(self, app: Any, host: str):
        self.app, self.names = app, {host.lower(), "localhost", socket.gethostname().lower()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
                ]
            await send(message)

        why = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if why is None:
            await self.app(scope, receive, send_with_policy)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why})
        else:
            await send_with_policy({"type": "http.response.start", "status": 403, "headers": HEADERS})
            await send({"type": "http.response.body", "body": f"{why}\n".encode()})

    def refusal(self, scope: Any) -> str | None:
        """Why a request is refused, or None."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not is_known_host(hosts[0], self.names):
            return (
                "Host: got a name that is not this demo's, expected its address or localhost; to be reached under "
                "another name of this machine start eval/demo.py with --host NAME"
            )
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        own = site_of(f"{SCHEMES.get(scope.get('scheme', 'http'))}://{hosts[0]}")
        if any(site_of(origin) != own for origin in origins):
            return "Origin: got another site, expected the demo's own page"
        return None


def site_of(address: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of a page's address; None for what is none, such as the origin `null`.

    >>> site_of("HTTP://localhost"), site_of("https://[::1]:7860"), site_of("null")
    (('http', 'localhost', 80), ('https', '::1', 7860), None)
    """
    try:
        parts = urlsplit(address)
        if parts.scheme not in PORTS or not parts.hostname or parts.username is not None:
            return None
        return parts.scheme, parts.hostname, PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError:
        return None


def is_known_host(host: str, names: set[str]) -> bool:
    """Whether a Host header names one of `names`, or an address.

    >>> hosts = ("LOCALHOST:7860", "127.0.0.1:1", "[::1]:7860", "evil.example", "")
    >>> [is_known_host(host, {"localhost"}) for host in hosts]
    [True, True, True, False, False]
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@/]+)(?::\d{1,5})?", host)
    if match is None:
        return False
    name = match[1].strip("[]").lower()
    return name in names or is_ip_address(name)


def is_ip_address(name: str) -> bool:
    """Whether a name is an IPv4 or IPv6 address.

    >>> is_ip_address("10.0.0.1"), is_ip_address("::1"), is_ip_address("10.0.0.1.evil.example")
    (True, True, False)
    """
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
