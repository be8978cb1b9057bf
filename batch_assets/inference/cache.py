"""The embedding cache: rows that the same model embedded before are not computed again."""

import logging
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.known import Keys
from batch_assets.inference.payoff import Payoff, read_payoffs, write_payoff
from batch_assets.inference.sizing import ROW_STEP
from batch_assets.inference.stored_rows import StoredRows

logger = logging.getLogger(__name__)
MODES = ("auto", "on", "off")
# Where it does not pay, one row in so many is looked up and kept, chosen by its content, so that
# how many rows come again is still known.
SAMPLED = 64
_SAMPLE_BELOW = np.uint64(2**64 // SAMPLED)


def open_cache(
    folder: Path, mode: str, limit_bytes: int, model: str = ""
) -> "EmbeddingCache | None":
    """The cache for one model, or None where ``mode`` is ``off``; close it at the end.

    Args:
        folder: shared by all models and processes; it may be deleted at any moment.
        mode: ``on``, ``off``, or ``auto``: where it pays.
        limit_bytes: of all results kept.
        model: what the costs that ``auto`` measures are kept by: the salt of the keys.

    Raises BatchAssetsError when the mode is none of these.
    """
    if mode not in MODES:
        raise BatchAssetsError(
            f"The embedding cache cannot be {mode!r}. Set it to {', '.join(MODES)}."
        )
    if mode == "off" or limit_bytes <= 0:
        return None
    return EmbeddingCache(folder, limit_bytes, model=model, always=mode == "on")


class EmbeddingCache:
    """Results on disk, found by the content of their rows.

    A :class:`batch_assets.inference.known.Known`. It only saves time: a file that is torn or
    damaged is removed, and a folder that cannot be read or written is done without, both with a
    warning. What passes between ``find`` and ``keep`` of one thread is taken for computing.

    Memory: 1.2 bytes a row on disk for the filter, 12 for indexes (of those used, 64 MiB at
    most), and up to about three segments of 32 MiB while results are written or merged.

    Example:
        >>> with EmbeddingCache(home / ".cache", 2**30, model=scorer.salt) as cache:
        ...     for batch in scorer.score(reader, known=cache):
        ...         writer.write_batch(batch)
        >>> cache.report()["seconds_saved"]
    """

    def __init__(
        self, folder: Path, limit_bytes: int, *, model: str = "", always: bool = False
    ) -> None:
        self._rows = StoredRows(folder, limit_bytes)
        self._model = model
        self._always = always
        self._reads = self._writes = True
        self._lock = threading.RLock()
        self._asked = threading.local()
        # Of this run, and of all runs.
        self._run = Payoff()
        self._ever = read_payoffs(folder).get(model, Payoff())
        self._find(np.empty((0, 2), dtype=np.uint64))  # reads what is there

    def __enter__(self) -> "EmbeddingCache":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def in_use(self) -> bool:
        """Whether all rows are looked up and kept; otherwise a sample of them."""
        return self._always or self._ever.pays

    def find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which rows are known, bool [n], their scores [k] and vectors [k, size].

        None of them where it does not pay.
        """
        with self._lock:
            self._asked.all_rows = self.in_use
            found = self._found(keys) if self._asked.all_rows else _nothing(keys)
        self._asked.at = time.perf_counter()
        return found

    def keep(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        """Keep results: scores float32 [n] and vectors float32 [n, size].

        Where it does not pay, those of the sample that are new.
        """
        began = time.perf_counter()
        with self._lock:
            all_rows = getattr(self._asked, "all_rows", self.in_use)
            if all_rows:
                self._keep(keys, scores, vectors)
            else:
                new = self._new_of_sample(keys)
                self._keep(keys[new], scores[new], vectors[new])
            seconds = time.perf_counter() - began
            for payoff in (self._run, self._ever):
                if len(keys) and hasattr(self._asked, "at"):
                    # Batches are padded: few rows cost as much as a step of them.
                    rows = -(-len(keys) // ROW_STEP) * ROW_STEP
                    payoff.add_computation(rows, began - self._asked.at)
                payoff.spent_seconds += seconds
                if all_rows:
                    payoff.kept += len(keys)
                    payoff.keep_seconds += seconds
            self._ever.forget()
        self._asked.__dict__.clear()

    def close(self) -> None:
        """Write what is not written yet, and what was learned about the cost.

        It may be used further, and closed again.
        """
        with self._lock:
            try:
                if self._writes and self._run != Payoff():
                    self._rows.flush()
                    write_payoff(self._rows.folder, self._model, self._ever)
            except OSError as error:
                self._do_without("written", error)
                self._writes = False

    def report(self) -> dict[str, Any]:
        """What it did in this run: rows found and not, seconds spent and saved, whether it pays.

        The costs per row and whether it pays come from all runs of the model.
        """
        with self._lock:
            segments = self._rows.segments
            return {
                **self._ever.report(),
                "hits": self._run.found,
                "misses": self._run.looked_up - self._run.found,
                "seconds_spent": round(self._run.spent_seconds, 3),
                "seconds_saved": round(self._run.found * self._ever.compute_row_seconds, 3),
                "in_use": self.in_use,
                "bytes": sum(segment.bytes for segment in segments),
                "rows": sum(segment.rows for segment in segments),
                "limit_bytes": self._rows.limit_bytes,
            }

    def _found(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        began = time.perf_counter()
        known, scores, vectors = self._find(keys)
        self._count(known[_in_sample(keys)])
        seconds = time.perf_counter() - began
        for payoff in (self._run, self._ever):
            payoff.found += len(scores)
            payoff.looked_up += len(keys)
            payoff.look_up_seconds += seconds
            payoff.spent_seconds += seconds
        return known, scores, vectors

    def _new_of_sample(self, keys: Keys) -> np.ndarray:
        """Positions of rows of the sample that are not known."""
        sample = np.flatnonzero(_in_sample(keys))
        known, _, _ = self._find(keys[sample])
        self._count(known)
        new: np.ndarray = sample[~known]
        return new

    def _count(self, known: np.ndarray) -> None:
        """Which rows of the sample, of which each stands for many, were known."""
        for payoff in (self._run, self._ever):
            payoff.seen += SAMPLED * len(known)
            payoff.hits += SAMPLED * int(known.sum())

    def _find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        try:
            if self._reads:
                return self._rows.find(keys)
        except OSError as error:
            self._do_without("read", error)
            self._reads = False
        return _nothing(keys)

    def _keep(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        try:
            if self._writes:
                self._rows.add(keys, scores, vectors)
        except OSError as error:
            self._do_without("written", error)
            self._writes = False

    def _do_without(self, what: str, error: OSError) -> None:
        logger.warning(
            "the embedding cache in %s cannot be %s, and is done without: %s",
            self._rows.folder,
            what,
            error,
        )


def _nothing(keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """None of them is known."""
    empty = np.empty((0, 0), dtype=np.float32)
    return np.zeros(len(keys), dtype=bool), empty.reshape(0), empty


def _in_sample(keys: Keys) -> np.ndarray:
    """Whether a row is one of those that stand for all, bool [n]."""
    chosen: np.ndarray = keys[:, 0] < _SAMPLE_BELOW
    return chosen


def read_reports(folder: Path) -> dict[str, dict[str, bool | int | float]]:
    """What the cache did in all runs, by model: for people who ask whether it pays."""
    return {model: payoff.report() for model, payoff in read_payoffs(folder).items()}
