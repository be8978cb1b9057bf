"""A folder of segments, bounded in bytes, that several processes read and write at once."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock, Timeout
from rbloom import Bloom

from batch_assets.inference.known import Keys, first_of_each
from batch_assets.inference.segments import (
    SUFFIX,
    TEMPORARY,
    DamagedSegment,
    Segment,
    Unwritten,
    file_bytes,
    intact,
    keys_of,
    look_up,
    unpack,
    write_segment,
)

logger = logging.getLogger(__name__)
SEGMENT_BYTES = 32 * 2**20
# So many segments of less than half the usual size are made into one.
MERGED_SEGMENTS = 8
# Indexes that stay in memory, 12 bytes a row; the others are read when they are needed.
INDEX_BYTES = 64 * 2**20
FALSE_POSITIVES = 0.01
LEAST_CAPACITY = 1_000_000
STALE_SECONDS = 600.0
SPARED_DISK = 0.02
Part = Segment | Unwritten
Got = TypeVar("Got")


class StoredRows:
    """Results on disk, by key.

    A Bloom filter over all keys stands in front: of keys that are not there, one in a hundred
    is looked for in the indexes, and no row is read. What was used least recently goes first when
    there is no room. Methods may raise OSError; a file that is damaged is removed, with a warning.

    Args:
        folder: made by the first write.
        limit_bytes: of all segments; each process that writes may for a moment have one more.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.segment_bytes = max(1, min(SEGMENT_BYTES, limit_bytes // 32))
        # Those that held what was asked for last come first: rows that were kept together are
        # asked for together.
        self._parts: list[Part] = []
        self._listed_at = -1
        self._filter = Bloom(LEAST_CAPACITY, FALSE_POSITIVES)
        self._filter_room = LEAST_CAPACITY

    @property
    def segments(self) -> list[Segment]:
        """The files."""
        return [part for part in self._parts if isinstance(part, Segment)]

    def find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`batch_assets.inference.known.Known.find`."""
        self.refresh()
        known = np.zeros(len(keys), dtype=bool)
        scores = np.empty(len(keys), dtype=np.float32)
        vectors: np.ndarray | None = None
        wanted = self._perhaps_there(keys)
        held: list[Part] = []
        for part in list(self._parts):
            if not len(wanted):
                break
            if vectors is not None and vectors.shape[1] != part.size:
                continue
            read = self._reading(part.path, look_up, part, keys, wanted)
            if read is None or not len(read[0]):
                continue
            found, records = read
            if vectors is None:
                vectors = np.empty((len(keys), part.size), dtype=np.float32)
            scores[found], vectors[found] = unpack(records)
            known[found] = True
            wanted = wanted[~known[wanted]]
            held.append(part)
        self._use(held)
        if vectors is None:
            return known, scores[:0], np.empty((0, 0), dtype=np.float32)
        return known, scores[known], vectors[known]

    def add(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        """Keep these; they are written when there are enough of them."""
        if not len(keys):
            return
        part = Unwritten(keys, scores, vectors)
        self._parts.insert(0, part)
        self._into_filter(part)
        waiting = [part for part in self._parts if isinstance(part, Unwritten)]
        if sum(part.all_records.nbytes for part in waiting) >= self.segment_bytes // 4:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        waiting = [part for part in self._parts if isinstance(part, Unwritten)]
        self._parts = list(self.segments)
        if not waiting:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for size in sorted({part.size for part in waiting}):
            of_size = [part.all_records for part in reversed(waiting) if part.size == size]
            records = np.concatenate(of_size) if len(of_size) > 1 else of_size[0]
            rows = max(1, self.segment_bytes // file_bytes(1, size))
            for start in range(0, len(records), rows):
                piece = records[start : start + rows]
                needed = file_bytes(len(piece), size)
                if needed <= self.limit_bytes:
                    self._make_room(needed)
                    self._write(piece)
        self._merge()

    def _write(self, records: np.ndarray) -> None:
        path = write_segment(self.folder, records)
        segment = self._reading(path, Segment, path)
        if segment is not None:
            self._parts.insert(0, segment)

    def _make_room(self, needed: int) -> None:
        """Remove what was used least recently; leave the disk some room for what matters more."""
        disk = shutil.disk_usage(self.folder)
        if disk.free - needed < SPARED_DISK * disk.total:
            raise OSError(errno.ENOSPC, "the disk is nearly full")
        files = []
        for path in self._files():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files.append((status.st_mtime, path, status.st_size))
        total = sum(size for _, _, size in files) + needed
        for _, path, size in sorted(files):
            if total <= self.limit_bytes:
                break
            self._remove(path)
            total -= size

    def _merge(self) -> None:
        """Many small segments become a larger one; one process at a time does that."""
        small = [part for part in self.segments if part.bytes < self.segment_bytes // 2]
        size = small[0].size if small else 0
        small = [part for part in small if part.size == size]
        if len(small) < MERGED_SEGMENTS:
            return
        try:
            with FileLock(self.folder / ".merge.lock", timeout=0):
                self._merge_these(small)
        except Timeout:
            return

    def _merge_these(self, small: list[Segment]) -> None:
        merged, pieces, total = [], [], 0
        for segment in reversed(small):
            total += segment.bytes
            if total > self.segment_bytes:
                break
            records = self._reading(segment.path, segment.records, np.arange(segment.rows))
            if records is not None:
                pieces.append(records[intact(records)])
                merged.append(segment)
        if len(merged) < 2:
            return
        records = np.concatenate(pieces)
        first, _ = first_of_each(keys_of(records))
        if len(first):
            self._write(records[first])
        for segment in merged:
            self._remove(segment.path)

    def _files(self) -> list[Path]:
        return [path for path in self.folder.glob(f"*{SUFFIX}") if not _is_temporary(path)]

    def refresh(self) -> None:
        """See which segments are there, if anything changed."""
        try:
            changed_at = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if changed_at == self._listed_at:
            return
        if self._listed_at == -1:
            _remove_torn(self.folder)
        self._listed_at = changed_at
        there = set(self._files())
        mine = {segment.path for segment in self.segments}
        self._parts = [p for p in self._parts if isinstance(p, Unwritten) or p.path in there]
        for path in there - mine:
            segment = self._reading(path, Segment, path)
            if segment is not None:
                self._parts.append(segment)
                self._into_filter(segment)

    def _perhaps_there(self, keys: Keys) -> np.ndarray:
        """Positions of the keys that the filter knows, in the order of the keys' first halves."""
        first_halves = keys[:, 0]
        known = map(self._filter.__contains__, first_halves.tolist())
        wanted = np.flatnonzero(np.fromiter(known, dtype=bool, count=len(keys)))
        ordered: np.ndarray = wanted[np.argsort(first_halves[wanted], kind="stable")]
        return ordered

    def _into_filter(self, part: Part) -> None:
        index = self._reading(part.path, part.index)
        if index is None:
            return
        self._filter_room -= len(index[0])
        if self._filter_room >= 0:
            self._filter.update(index[0].tolist())
            self._let_go()
            return
        capacity = max(LEAST_CAPACITY, 2 * sum(part.rows for part in self._parts))
        self._filter = Bloom(capacity, FALSE_POSITIVES)
        self._filter_room = capacity
        for part in list(self._parts):
            self._into_filter(part)

    def _use(self, held: list[Part]) -> None:
        """Move to the front, and note that they were used."""
        if held:
            self._parts = [*held, *(part for part in self._parts if part not in held)]
        self._let_go()
        for part in held:
            if part.path is not None:
                with suppress(OSError):
                    os.utime(part.path)

    def _let_go(self) -> None:
        """Drop the indexes that were used least recently."""
        room = INDEX_BYTES
        for segment in self.segments:
            if segment.loaded is not None:
                room -= sum(array.nbytes for array in segment.loaded)
                if room < 0:
                    segment.loaded = None

    def _reading(
        self, path: Path | None, read: Callable[..., Got], *arguments: object
    ) -> Got | None:
        """What ``read`` gives, or None, and the file is out of use."""
        try:
            return read(*arguments)
        except FileNotFoundError:  # another process removed it
            self._forget(path)
        except DamagedSegment as error:
            logger.warning("%s: it is removed, and its rows are computed again", error)
            with suppress(OSError):
                self._remove(path)
        except OSError as error:
            logger.warning("%s of the embedding cache cannot be read: %s", path, error)
            self._forget(path)
        return None

    def _forget(self, path: Path | None) -> None:
        self._parts = [part for part in self._parts if part.path is None or part.path != path]

    def _remove(self, path: Path | None) -> None:
        self._forget(path)
        if path is not None:
            path.unlink(missing_ok=True)


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY)


def _remove_torn(folder: Path) -> None:
    """Remove what a process that was killed left half written."""
    for path in filter(_is_temporary, folder.glob(f"*{SUFFIX}")):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()
