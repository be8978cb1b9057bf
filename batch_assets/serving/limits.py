"""What one request may take: bytes and seconds."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from batch_assets.serving.problems import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """Bounds on a request.

    Args:
        body_bytes: of its body, whether its length is declared or not.
        head_bytes: of its first line and headers.
        head_seconds: until its head has come, from when its connection was made.
        seconds: until its answer begins, the coming of its body included.
        connections: open at the same moment.
    """

    body_bytes: int = 1 << 20
    head_bytes: int = 1 << 15
    head_seconds: float = 20.0
    seconds: float = 10.0
    connections: int = 2_000


class Bounded:
    """Pure ASGI middleware: reads the body within its bound, and ends what takes too long.

    Args:
        app: what is bounded.
        limits: the bounds.

    Raises:
        Problem: a bound is passed, or a body is no JSON.
        TimeoutError: it took too long.
    """

    def __init__(self, app: App, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length")
        async with asyncio.timeout(self.limits.seconds):
            if length not in (None, b"0") or b"transfer-encoding" in headers:
                receive = await _bounded(receive, length, self.limits.body_bytes)
                if scope["method"] == "POST" and not _is_json(headers.get(b"content-type")):
                    raise Problem("media-type", "send JSON, with Content-Type: application/json")
            await self.app(scope, receive, send)


def _is_json(content_type: bytes | None) -> bool:
    return (content_type or b"").partition(b";")[0].strip().lower() == b"application/json"


async def _bounded(receive: Receive, declared: bytes | None, most: int) -> Receive:
    """Read a body whole; what is given back replays it.

    Raises:
        Problem: it is longer than ``most`` bytes.
        ConnectionResetError: the client went away.
    """
    if declared is not None and (not declared.isdigit() or int(declared[:20]) > most):
        raise _too_large(most)
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        more = message.get("more_body", False)
    whole = {"type": "http.request", "body": bytes(body), "more_body": False}
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return whole

    return replay


def _too_large(most: int) -> Problem:
    return Problem(
        "too-large",
        f"send at most {most:,} bytes, in several requests if need be",
        headers={"Connection": "close"},  # what is left of the body is not read
    )
