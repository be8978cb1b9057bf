"""The server process: its socket, its start, its end."""

import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from types import FrameType
from typing import Any

import uvicorn

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.app import create_app
from batch_assets.serving.background import answer_first
from batch_assets.serving.gate import LOOPBACK
from batch_assets.serving.limits import Limits
from batch_assets.serving.protocol import BoundedProtocol
from batch_assets.serving.security import FOLDER, KeyFile, Keys
from batch_assets.serving.served import Served
from batch_assets.settings import Settings

GRACE_SECONDS = 15
BACKLOG = 2048


@dataclass(frozen=True)
class Address:
    """Where to listen, and who may ask.

    Args:
        host: address of an interface.
        port: 0 for any that is free.
        allowed_hosts: further names that the Host header may have.
        require_keys: ask for API keys on loopback, too.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: tuple[str, ...] = ()
    require_keys: bool = False

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ip_address(self.host).is_loopback
        return False

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names that the Host header may have; None: any, as nobody knows this machine's."""
        if self.is_loopback or self.allowed_hosts:
            return LOOPBACK | {self.host} | {name.lower() for name in self.allowed_hosts}
        return None


class Server(uvicorn.Server):
    """uvicorn's, which ends with exit code 0 when it was asked to end.

    Args:
        config: of uvicorn.
        ready: called when questions are answered.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGTERM and SIGINT ask for the end; unlike uvicorn's, they do not kill afterwards."""
        previous = {one: signal.signal(one, self._asked) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in previous.items():
                signal.signal(one, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # asked twice: at once
        self.should_exit = True


def serve(
    served: Sequence[Served],
    settings: Settings,
    address: Address,
    *,
    access_log: bool = True,
    limits: Limits | None = None,
    ready: Callable[[str], None] = print,
) -> None:
    """Answer until SIGTERM or SIGINT; what was accepted by then is finished.

    Args:
        ready: called with the address when questions are answered.

    Raises:
        BatchAssetsError: the port is in use, or others could ask and there are no API keys.
    """
    limits = limits or Limits()
    keys = _keys(settings, address)
    listener = _listen(address)
    _log_to(sys.stderr)
    answer_first()
    server: Server
    app = create_app(
        served,
        settings,
        limits=limits,
        hosts=address.hosts,
        keys=keys,
        access_log=sys.stderr if access_log else None,
        stopping=lambda: server.should_exit,
    )
    config = uvicorn.Config(
        app,
        http=partial(BoundedProtocol, limits=limits),  # type: ignore[arg-type]
        ws="none",
        loop="uvloop",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = Server(config, lambda: ready(_url(address, listener)))
    with listener:
        server.run([listener])


def _keys(settings: Settings, address: Address) -> Keys | None:
    """API keys, where they are asked for."""
    if address.is_loopback and not address.require_keys:
        return None
    file = KeyFile(settings.home / FOLDER)
    if not file.read():
        raise BatchAssetsError(
            f"others could ask on {address.host}, and there is no API key: "
            "`batch-assets keys create --scope read` makes one"
        )
    return Keys(file, settings.serving_rate)


def _listen(address: Address) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise BatchAssetsError(f"{address.host} is no address of this machine: {error}") from error
    family, kind, protocol, _, where = found[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
        listener.listen(BACKLOG)  # who comes before all is read waits, and is not turned away
    except OSError as error:
        listener.close()
        raise BatchAssetsError(
            f"cannot listen on {address.host}:{address.port}: {error.strerror}; "
            "is another server running? --port names another one, 0 any that is free"
        ) from error
    listener.setblocking(False)
    return listener


def _url(address: Address, listener: socket.socket) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _log_to(stream: Any) -> None:
    """Lines of this package and uvicorn's warnings, each with its time, UTC."""
    import time

    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    for name in ("batch_assets", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "batch_assets" else logging.WARNING)
