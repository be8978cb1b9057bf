"""Around every request: how long it took, what is logged of it, and what its errors become."""

import asyncio
import time
from typing import TextIO

from batch_assets.serving.limits import App, Message, Receive, Scope, Send
from batch_assets.serving.metrics import Metrics
from batch_assets.serving.problems import log_error, problem_of

FLUSH_SECONDS = 0.5
UNKNOWN = "(none)"
POLICY = (
    b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class AccessLog:
    """A line a request, by its route and never its path, as that names customers.

    Lines are kept for half a second and written together.

    Args:
        stream: None: nothing is written.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def add(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        if self._stream is None:
            return
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        key = f" key={scope['api_key']}" if "api_key" in scope else ""
        source = f" {scope['source']}" if "source" in scope else ""
        self._lines.append(f"{scope['method']} {route} {status} {seconds * 1e3:.1f}ms{source}{key}")

    def flush(self) -> None:
        """Write what waits."""
        if self._lines and self._stream:
            lines, self._lines = self._lines, []
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self._stream.write("".join(f"{now} {line}\n" for line in lines))
            self._stream.flush()


class Observed:
    """Pure ASGI middleware, the outermost: no error leaves it.

    Args:
        app: what is observed.
        metrics: where it is counted.
        access: where it is logged.
    """

    def __init__(self, app: App, metrics: Metrics, access: AccessLog) -> None:
        self.app, self.metrics, self.access = app, metrics, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 0
        head = scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS]
            elif head:
                message["body"] = b""
            await send(message)

        try:
            await self.app(scope, receive, observed_send)
        except ConnectionResetError:
            status = status or 499
        except Exception as error:
            problem = problem_of(error)
            if problem.kind == "internal":
                log_error(error)
            if not status:
                await problem.response()(scope, receive, observed_send)
        self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNKNOWN)
        source = scope.get("source", "")
        self.metrics.note(route, source, status, seconds)
        self.access.add(scope, route, status, seconds)
