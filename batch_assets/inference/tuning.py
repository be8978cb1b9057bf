"""What was learned about models on devices, in a small JSON file that runs share."""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from batch_assets.inference.plan import ComputePlan, plan_of
from batch_assets.inference.sizing import ROW_STEP, Learned, half_of

logger = logging.getLogger(__name__)
LOCK_SECONDS = 10.0


# A failure counts until this many times the memory is there.
GROWN = 1.25


@dataclass(frozen=True)
class Tuning:
    """Where to keep what was learned about one version of a model.

    The file maps model, device and precision to batch sizes, and model and kind of device to the
    plan by which it is computed. Runs may share it: an update takes a lock and replaces the file.
    One that cannot be read or written is reported and done without. Sizes only save time; without
    the plans, precision and shape are chosen anew, and results may then differ in their bits.

    Args:
        path: the file; its folder is created when there is something to keep.
        model: the version of the model.
    """

    path: Path
    model: str

    def read(
        self, device: str, precision: str, shape: str = "rows", memory: int = 0
    ) -> Learned | None:
        """What is known, or None. ``shape`` names rows of like cost, such as a length.

        A size that failed counts unless ``memory``, the bytes that the device may use, has grown
        by a quarter since.
        """
        return _learned(self._all().get(self._key(device, precision, shape)), memory)

    def keep(
        self,
        learned: Learned,
        device: str,
        precision: str,
        shape: str = "rows",
        memory: int = 0,
    ) -> None:
        """Put down what was learned; a size that failed in any run stays failed."""

        def put(entry: object) -> object:
            failed = _failed(entry)
            if learned.too_large:
                failed[memory] = min(learned.too_large, failed.get(memory, learned.too_large))
            return {
                "rows": learned.rows,
                "settled": learned.settled,
                "failed": sorted(failed.items()),
            }

        self._update(self._key(device, precision, shape), put)

    def read_plan(self, device: str, wanted: str) -> ComputePlan | None:
        """By which plan this model is computed on a kind of device, or None.

        ``wanted`` is what was asked for: a precision, or ``auto``.
        """
        return plan_of(self._all().get(self._key(device, wanted, "plan")))

    def keep_plan(
        self, plan: ComputePlan, device: str, wanted: str, replaces: ComputePlan | None = None
    ) -> ComputePlan:
        """Put down a plan, unless there is one other than it ``replaces``; the one that counts."""
        kept = plan

        def put(entry: object) -> object:
            nonlocal kept
            there = plan_of(entry)
            kept = plan if there in (None, replaces) else there or plan
            return kept.as_json()

        self._update(self._key(device, wanted, "plan"), put)
        return kept

    def _update(self, key: str, put: Callable[[object], object]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS):
                entries = self._all()
                entries[key] = put(entries.get(key))
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


def _learned(entry: object, memory: int) -> Learned | None:
    """An entry of the file, or None if it is not one: nothing in it may fail a run."""
    if not isinstance(entry, Mapping):
        return None
    rows, failed = _size(entry.get("rows")), _failed(entry)
    if rows is None:
        return None
    settled = entry.get("settled") is True
    too_large = min(
        (size for limit, size in failed.items() if memory <= GROWN * limit), default=None
    )
    # What failed with less memory may have kept it from growing.
    if too_large is None and failed:
        settled = False
    while too_large is not None and rows >= too_large > ROW_STEP:
        rows = half_of(rows)
    return Learned(rows, settled, too_large)


def _failed(entry: object) -> dict[int, int]:
    """Sizes that failed, by the bytes of memory that there were; damaged ones are left out."""
    pairs = entry.get("failed") if isinstance(entry, Mapping) else None
    if not isinstance(pairs, list):
        return {}
    return {
        pair[0]: pair[1]
        for pair in pairs
        if isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], int)
        and pair[0] >= 0
        and (_size(pair[1]) or 0) > ROW_STEP
    }


def _size(value: object) -> int | None:
    is_size = isinstance(value, int) and value >= ROW_STEP and value % ROW_STEP == 0
    return int(value) if isinstance(value, int) and is_size else None


def _replace(path: Path, content: str) -> None:
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
    Path(name).replace(path)
