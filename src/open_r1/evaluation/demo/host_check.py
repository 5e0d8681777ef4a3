"""Who may speak to the demo: a browser that was given its address, and no page of another site through that browser.

A site can have its own name resolved to 127.0.0.1 and so reach a demo that listens there (DNS rebinding); the request
then carries that site's name as Host. A page of another site can also send requests here; they carry its Origin.
"""

import re
import socket
from ipaddress import ip_address
from typing import Any

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]


class HostCheck:
    """Refuses requests under other names and from other sites, and tells browsers to load nothing from elsewhere.

    `host` is what the demo was started with; `localhost`, this machine's name, and bare addresses, which nobody can
    have resolved to something else, are its names too.
    """

    def __init__(self, app: Any, host: str):
        self.app, self.names = app, {host.lower(), "localhost", socket.gethostname().lower()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
                ]
            await send(message)

        why = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if why is None:
            await self.app(scope, receive, guarded)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why})
        else:
            await guarded({"type": "http.response.start", "status": 403, "headers": HEADERS})
            await send({"type": "http.response.body", "body": f"{why}\n".encode()})

    def refusal(self, scope: Any) -> str | None:
        """Why a request is not answered; None where it is."""
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not is_known_host(hosts[0], self.names):
            return (
                "Host: got a name that is not this demo's, expected its address or localhost; to be reached under "
                "another name of this machine start eval/demo.py with --host NAME"
            )
        origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in origins):
            return "Origin: got another site, expected the demo's own page"
        return None


def is_known_host(host: str, names: set[str]) -> bool:
    """Whether a Host header names one of `names`, or an address.

    >>> hosts = ("LOCALHOST:7860", "127.0.0.1:1", "[::1]:7860", "evil.example", "")
    >>> [is_known_host(host, {"localhost"}) for host in hosts]
    [True, True, True, False, False]
    """
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]@/]+)(?::\d{1,5})?", host)
    if found is None:
        return False
    name = found[1].strip("[]").lower()
    return name in names or is_ip_address(name)


def is_ip_address(name: str) -> bool:
    """
    >>> is_ip_address("10.0.0.1"), is_ip_address("::1"), is_ip_address("10.0.0.1.evil.example")
    (True, True, False)
    """
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
