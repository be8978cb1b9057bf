"""HTTP/1.1 with bounds on what comes before a request is whole."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from batch_assets.serving.limits import Limits
from batch_assets.serving.problems import MEDIA_TYPE, Problem


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on the head of a request and the number of connections.

    Args:
        limits: the bounds.
    """

    def __init__(self, *arguments: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._head_bytes = 0
        self._in_head = True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(Problem("busy", "too many connections are open: ask again later"))
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            if self._head_bytes > self._limits.head_bytes:
                self._refuse(Problem("headers", "send a shorter address and fewer headers"))
            elif self._timer is None and self._head_bytes:
                self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("malformed", "send HTTP/1.1"))

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self._limits.head_seconds, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer and close, without the application."""
        self._stop_timer()
        body = problem.body()
        lines = (f"content-type: {MEDIA_TYPE}", f"content-length: {len(body)}", "connection: close")
        head = "\r\n".join((*lines, "", "")).encode("ascii")
        self.transport.write(STATUS_LINE[problem.status] + head + body)
        self.transport.close()
