"""API keys: made once, kept as hashes, each with its scopes and its rate.

A key is 256 random bits, so nobody can guess it from its hash, however fast hashes are computed:
plain SHA-256 is as good as the slow hashes that passwords need, and takes a microsecond a request.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from batch_assets.errors import BatchAssetsError

FOLDER = ".serving"
"""Of the server's own files, in the data home."""
FILE = "api_keys.json"
PREFIX = "ba"
SCOPES = ("read", "score")
LOOK_AGAIN_SECONDS = 1.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept: not the key itself.

    Args:
        id: first part of the key, by which it is listed, logged and revoked.
        name: whose it is.
        scopes: of :data:`SCOPES`.
        sha256: of the whole key, hexadecimal.
        created_at: ISO 8601.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    sha256: str
    created_at: str


class KeyFile:
    """The keys of one data home; a file that only its owner can read.

    Args:
        folder: the server's own folder in the data home.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def read(self) -> list[ApiKey]:
        """All keys, the oldest first.

        Raises:
            BatchAssetsError: the file is not what this class wrote.
        """
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return [ApiKey(**{**row, "scopes": tuple(row["scopes"])}) for row in found]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BatchAssetsError(
                f"{self.path} cannot be read ({type(error).__name__}): "
                "delete it and create the keys again"
            ) from error

    def create(self, name: str, scopes: Sequence[str]) -> tuple[ApiKey, str]:
        """A new key, and its text, which is not kept anywhere."""
        identity = secrets.token_hex(4)
        token = f"{PREFIX}_{identity}_{secrets.token_urlsafe(32)}"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ordered = tuple(scope for scope in SCOPES if scope in scopes)
        key = ApiKey(identity, name, ordered, _hash(token), now)
        with self._locked():
            self._write([*self.read(), key])
        return key, token

    def revoke(self, identity: str) -> ApiKey:
        """Forget a key; servers that run notice within a second.

        Raises:
            BatchAssetsError: there is no such key.
        """
        with self._locked():
            keys = self.read()
            gone = [key for key in keys if key.id == identity]
            if not gone:
                known = ", ".join(key.id for key in keys) or "none"
                raise BatchAssetsError(f"there is no API key {identity!r}; there are: {known}")
            self._write([key for key in keys if key.id != identity])
        return gone[0]

    def _locked(self) -> FileLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{self.path}.lock")

    def _write(self, keys: Sequence[ApiKey]) -> None:
        partial = self.path.with_name(f".{FILE}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as out:
            json.dump([asdict(key) for key in keys], out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, self.path)


@dataclass
class Bucket:
    """A token bucket: so many requests a second on average, a second's worth at once.

    Args:
        rate: requests a second.
    """

    rate: float
    tokens: float = field(default=-1.0)
    at: float = 0.0

    def take(self, now: float) -> float:
        """0 if the request may be made; else the seconds until one may."""
        if self.tokens < 0:
            self.tokens, self.at = self.rate, now
        self.tokens = min(self.rate, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


class Keys:
    """The keys as a server checks them; changes of the file count within a second.

    Args:
        file: where they are kept.
        rate: requests a second of each.
    """

    def __init__(self, file: KeyFile, rate: int) -> None:
        self._file, self._rate = file, rate
        self._keys: dict[str, ApiKey] = {}
        self._buckets: dict[str, Bucket] = {}
        self._stamp: tuple[int, int] | None = None
        self._looked = -LOOK_AGAIN_SECONDS
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        now = time.monotonic()
        if now - self._looked < LOOK_AGAIN_SECONDS:
            return
        self._looked = now
        try:
            found = self._file.path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
        except FileNotFoundError:
            stamp = None
        if stamp != self._stamp or stamp is None:
            try:
                found_keys = self._file.read()
            except BatchAssetsError as error:  # those that were known go on to count
                log.error("%s", error)
                return
            self._keys = {key.id: key for key in found_keys}
            self._stamp = stamp
            self._buckets = {i: b for i, b in self._buckets.items() if i in self._keys}

    def find(self, token: str) -> ApiKey | None:
        """The key, if it is one; compared in constant time."""
        self.refresh()
        identity = token.split("_", 2)[1] if token.count("_") >= 2 else ""
        key = self._keys.get(identity)
        expected = key.sha256 if key else _NOBODY
        same = hmac.compare_digest(_hash(token), expected)
        return key if same else None

    def wait(self, key: ApiKey) -> float:
        """Seconds that a request of this key has to wait; 0 if it may be made now."""
        bucket = self._buckets.setdefault(key.id, Bucket(self._rate))
        return bucket.take(time.monotonic())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


_NOBODY = "0" * 64
