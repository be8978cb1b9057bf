"""Problem documents (RFC 9457): what went wrong, and what to change so that it does not."""

import logging
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from batch_assets.errors import BatchAssetsError

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its status and what it is called."""

    status: int
    title: str
    meaning: str


KINDS: dict[str, Kind] = {
    "malformed": Kind(400, "Malformed request", "The request cannot be read: no HTTP or no JSON."),
    "unauthorised": Kind(401, "No valid API key", "The key is missing, unknown or revoked."),
    "forbidden": Kind(403, "Not allowed", "The API key lacks the scope that this needs."),
    "no-such-path": Kind(404, "No such path", "Nothing is served under this path."),
    "not-scored": Kind(404, "Not scored", "There is no prediction of this key or day."),
    "not-offered": Kind(404, "Not offered", "This workload, or this data home, does not have it."),
    "method": Kind(405, "Method not allowed", "The path exists; the Allow header says for what."),
    "conflict": Kind(409, "Conflict", "The key was scored with other content before."),
    "too-large": Kind(413, "Request too large", "The body is longer than the server takes."),
    "media-type": Kind(415, "Unsupported media type", "A body has to be application/json."),
    "wrong-host": Kind(421, "Wrong host", "The Host header is not one that this server answers."),
    "invalid": Kind(422, "Invalid request", "Some field has a value that cannot be used."),
    "rate": Kind(429, "Too many requests", "The API key asks more often than it may."),
    "headers": Kind(431, "Request header fields too large", "The head of the request is too long."),
    "internal": Kind(500, "Internal error", "A defect of the server; its log has the details."),
    "busy": Kind(503, "Busy", "All that may wait is waiting; Retry-After says when to ask again."),
    "store": Kind(503, "Store unavailable", "The stored results cannot be read just now."),
    "starting": Kind(503, "Not ready", "The server is starting or stopping."),
    "timeout": Kind(504, "Took too long", "The answer took longer than a request may take."),
}


class Problem(Exception):
    """An answer that is a problem document.

    Args:
        kind: one of :data:`KINDS`.
        detail: what to change.
        errors: by field: ``{"field": "body.k", "detail": "..."}``.
        headers: further ones of the answer.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind, self.detail = kind, detail
        self.errors, self.headers = list(errors), dict(headers or {})

    @property
    def status(self) -> int:
        return KINDS[self.kind].status

    def body(self) -> bytes:
        """The document, JSON."""
        document: dict[str, Any] = {
            "type": f"/docs#problem-{self.kind}",
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = self.errors
        return msgspec.json.encode(document)

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """What an error is to those who asked."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, TimeoutError):
        return Problem("timeout", "ask for less: fewer ids, a smaller k, fewer days")
    return Problem("internal", "nothing to change: this is a defect; the server's log has it")


def busy(what: str, seconds: int = 1) -> Problem:
    """The queue is full."""
    return Problem(
        "busy",
        f"{what}: ask again in {seconds} s, or less often",
        headers={"Retry-After": str(seconds)},
    )


def invalid(field: str, detail: str) -> Problem:
    """One field of a request cannot be used."""
    return Problem("invalid", f"{field}: {detail}", errors=[{"field": field, "detail": detail}])


def log_error(error: BaseException) -> None:
    """What went wrong and where; without the message, which may name customers."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames)]
    log.error("%s at %s", type(error).__name__, " < ".join(places))


def install(app: FastAPI) -> None:
    """Let every error of the application be a problem document."""
    app.add_exception_handler(Problem, lambda request, error: error.response())
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    for kind in (BatchAssetsError, OSError, duckdb.Error):
        app.add_exception_handler(kind, _store_error)
    app.add_exception_handler(Exception, lambda request, error: problem_of(error).response())


def _store_error(request: Request, error: Exception) -> Response:
    log_error(error)
    return Problem(
        "store",
        "the stored results cannot be read just now; ask again, and look into the server's log",
        headers={"Retry-After": "1"},
    ).response()


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return Problem("method", f"use {allowed} here", headers={"Allow": allowed}).response()
    if error.status_code == 404:
        return Problem("no-such-path", "/docs lists all paths").response()
    return Problem("malformed", "the body cannot be read: send JSON").response()


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = list(error.errors())
    if any(one["type"] == "json_invalid" for one in found):
        return Problem("malformed", f"the body is no JSON: {_of_json(found)}").response()
    errors = [{"field": _field(one["loc"]), "detail": _detail(one)} for one in found[:MOST_ERRORS]]
    shown = "; ".join(f"{one['field']}: {one['detail']}" for one in errors[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return Problem("invalid", shown + more, errors=errors).response()


MOST_ERRORS = 20


def _of_json(found: Iterable[Mapping[str, Any]]) -> str:
    return next(
        f"{one['ctx']['error']} at character {one['loc'][-1]}"
        for one in found
        if one["type"] == "json_invalid"
    )


def _field(loc: Sequence[Any]) -> str:
    """``("body", "ids", 3)`` as ``body.ids[3]``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _detail(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
