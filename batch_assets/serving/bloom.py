"""Bloom filters over the keys of a day: what they do not know has surely no prediction.

Kept on disk by the key of what the day was made from, so that a restart need not read the days
again. A file that is damaged counts as missing.
"""

import logging
import zlib
from collections.abc import Collection
from pathlib import Path

from rbloom import Bloom

from batch_assets.serving.hashes import Hashes
from batch_assets.storage.atomic import replace_file

logger = logging.getLogger(__name__)
FALSE_POSITIVES = 1e-4
AT_ONCE = 4_096  # in 1 ms; other threads wait for no longer
SUFFIX = ".bloom"
_FORMAT = b"bloom1"


def filter_of(hashes: Hashes) -> Bloom:
    """A filter that knows these hashes, and takes one in 10,000 others for known."""
    made = Bloom(max(1, len(hashes)), FALSE_POSITIVES, int)
    for at in range(0, len(hashes), AT_ONCE):
        made.update(hashes[at : at + AT_ONCE].tolist())
    return made


def filter_bytes(one: Bloom) -> int:
    """What a filter takes in memory."""
    return int(one.size_in_bits) // 8


class FilterFolder:
    """Filters on disk, a file each.

    Args:
        folder: made by the first write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> Bloom | None:
        """The filter kept under a day's key; None if there is none that can be used."""
        path = self._folder / f"{key}{SUFFIX}"
        try:
            content = path.read_bytes()
        except OSError:
            return None
        head, body = content[: len(_FORMAT) + 4], content[len(_FORMAT) + 4 :]
        try:
            if head != _head(body):
                raise ValueError("its content is not what was written")
            return Bloom.load_bytes(body, int)
        except (ValueError, OverflowError) as error:
            logger.warning("%s is made anew: %s", path, error)
            return None

    def keep(self, key: str, one: Bloom) -> None:
        """Write a filter; without it a restart takes longer, and that is all."""
        body = one.save_bytes()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / f"{key}{SUFFIX}", _head(body) + body)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._folder, error)

    def forget_others(self, keys: Collection[str]) -> None:
        """Remove what is kept under other keys than these."""
        kept = set(keys)
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path.name.removesuffix(SUFFIX) not in kept:
                path.unlink(missing_ok=True)


def _head(body: bytes) -> bytes:
    return _FORMAT + zlib.crc32(body).to_bytes(4, "little")
