"""Who may ask: the host by which the server is asked, API key, scope, rate."""

import math
from collections.abc import Collection

from batch_assets.serving.limits import App, Receive, Scope, Send
from batch_assets.serving.problems import Problem
from batch_assets.serving.security import Keys

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Gate:
    """Pure ASGI middleware; what does not pass raises a :class:`Problem`.

    Args:
        app: what is guarded.
        hosts: names that the Host header may have; None: any. A page of another site that makes
            its own name point to this machine cannot read from a server that checks them.
        keys: that requests have to show; None: anybody may ask.
    """

    def __init__(self, app: App, hosts: Collection[str] | None, keys: Keys | None) -> None:
        self.app, self.hosts, self.keys = app, hosts, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = authorization = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"authorization":
                authorization = value
        if self.hosts is not None and _host_name(host) not in self.hosts:
            raise Problem(
                "wrong-host",
                "ask by one of the names that this server was started for "
                f"({', '.join(sorted(self.hosts))}); --allow-host adds one",
            )
        if self.keys is not None and is_guarded(scope["path"]):
            self._check_key(scope, authorization)
        await self.app(scope, receive, send)

    def _check_key(self, scope: Scope, authorization: bytes | None) -> None:
        assert self.keys is not None
        kind, _, token = (authorization or b"").decode("latin-1").partition(" ")
        key = self.keys.find(token.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise Problem(
                "unauthorised",
                "send an API key, Authorization: Bearer ...; `batch-assets keys create` makes one",
                headers={"WWW-Authenticate": "Bearer"},
            )
        scope["api_key"] = key.id
        scores = scope["method"] == "POST" and scope["path"].endswith("/score")
        needed = "score" if scores else "read"
        if needed not in key.scopes:
            raise Problem("forbidden", f"this needs an API key with the scope {needed}")
        if (wait := self.keys.wait(key)) > 0:
            raise Problem(
                "rate",
                "this API key asks more often than serving_rate allows: ask less often",
                headers={"Retry-After": str(math.ceil(wait))},
            )


def is_guarded(path: str) -> bool:
    """Whether a key has to be shown for a path, where keys are asked for."""
    return path == "/v1" or path.startswith("/v1/") or path == "/metrics"


def _host_name(host: bytes | None) -> str:
    """Without the port; an IPv6 address without its brackets."""
    text = (host or b"").decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if ":" in text else text
