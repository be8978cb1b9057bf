"""What was learned about models on devices, in a small JSON file that runs share."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from batch_assets.inference.sizing import ROW_STEP, Learned, half_of

logger = logging.getLogger(__name__)
LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Tuning:
    """Where to keep what was learned about one version of a model.

    The file maps model, device and precision to batch sizes. Runs may share it: an update takes
    a lock and replaces the file. It only saves time: it may be deleted at any moment, and one
    that cannot be read or written is reported and done without.

    Args:
        path: the file; its folder is created when there is something to keep.
        model: the version of the model.
    """

    path: Path
    model: str

    def read(self, device: str, precision: str, shape: str = "rows") -> Learned | None:
        """What is known, or None. ``shape`` names rows of like cost, such as a length."""
        return _learned(self._all().get(self._key(device, precision, shape)))

    def keep(self, learned: Learned, device: str, precision: str, shape: str = "rows") -> None:
        """Put down what was learned; a size that failed in any run stays failed."""
        key = self._key(device, precision, shape)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS):
                entries = self._all()
                entries[key] = asdict(_merged(_learned(entries.get(key)), learned))
                _replace(self.path, json.dumps(entries, indent=1, sort_keys=True))
        except OSError as error:  # a lock that is not free in time is one, too
            logger.warning("batch sizes are not kept in %s: %s", self.path, error)

    def _key(self, device: str, precision: str, shape: str) -> str:
        return " | ".join([self.model, device, precision, shape])

    def _all(self) -> dict[str, object]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("batch sizes in %s cannot be read: %s", self.path, error)
            return {}
        return entries if isinstance(entries, dict) else {}


def _learned(entry: object) -> Learned | None:
    """An entry of the file, or None if it is not one: nothing in it may fail a run."""
    if not isinstance(entry, Mapping):
        return None
    rows, too_large = _size(entry.get("rows")), _size(entry.get("too_large"))
    if rows is None or (too_large is not None and too_large <= rows):
        return None
    return Learned(rows, entry.get("settled") is True, too_large)


def _size(value: object) -> int | None:
    is_size = isinstance(value, int) and value >= ROW_STEP and value % ROW_STEP == 0
    return int(value) if isinstance(value, int) and is_size else None


def _merged(before: Learned | None, now: Learned) -> Learned:
    """What two runs know together: the smaller of the sizes that failed, and less than that."""
    failed = [one.too_large for one in (before, now) if one and one.too_large]
    if not failed:
        return now
    rows = now.rows
    while rows >= min(failed) and rows > ROW_STEP:
        rows = half_of(rows)
    return Learned(rows, now.settled, min(failed))


def _replace(path: Path, content: str) -> None:
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
    Path(name).replace(path)
