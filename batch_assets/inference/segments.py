"""Results by key, in files that are written once: what the embedding cache is made of.

A file holds a header, an index (the first halves of the keys in order, and where their rows
stand) and the rows in the order in which they came, so that a day that is scored again is read
from front to end. A row is its key, score, vector and a checksum over all of them; it is believed
only if key and checksum are right, so that nothing has to be flushed to the disk for safety: what
a crash tore, or time decayed, is not found.
"""

import os
import struct
import tempfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from batch_assets.inference.known import Keys, row_keys

SUFFIX = ".rows"
TEMPORARY = ".new-"
_MAGIC = b"rows v1\n"
# Magic, rows, size of the vectors, CRC-32 of the index; then the CRC-32 of these.
_HEADER = struct.Struct("<8sQII")
_HEADER_BYTES = _HEADER.size + 4
_INDEX_BYTES = 12
# Words of 4 bytes in a row beside its vector: the key, the score, the checksum.
_KEY, _CHECK = 4, 2
_EXTRA = _KEY + 1 + _CHECK
# Rows nearer than this are read with what lies between them, so much at once.
_GAP_BYTES = 8 * 2**10
_READ_BYTES = 2 * 2**20

# Keys' first halves in order, uint64 [n], and the position of each one's row, uint32 [n].
Index = tuple[np.ndarray, np.ndarray]


class DamagedSegment(Exception):
    """A file that is not what was written."""


def pack(keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Records, uint32 [n, words], of scores float32 [n] and vectors float32 [n, size]."""
    records = np.empty((len(keys), vectors.shape[1] + _EXTRA), dtype=np.uint32)
    records[:, :_KEY] = np.ascontiguousarray(keys).view(np.uint32)
    records[:, _KEY] = scores.view(np.uint32)
    records[:, _KEY + 1 : -_CHECK] = np.ascontiguousarray(vectors).view(np.uint32)
    records[:, -_CHECK:] = _checksums(records)
    return records


def unpack(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and vectors of records."""
    values = records.view(np.float32)
    return values[:, _KEY], values[:, _KEY + 1 : -_CHECK]


def keys_of(records: np.ndarray) -> Keys:
    """The keys of records."""
    return np.ascontiguousarray(records[:, :_KEY]).view(np.uint64)


def intact(records: np.ndarray) -> np.ndarray:
    """Which records are what was packed, bool [n]."""
    right: np.ndarray = (records[:, -_CHECK:] == _checksums(records)).all(axis=1)
    return right


def _checksums(records: np.ndarray) -> np.ndarray:
    content = records[:, :-_CHECK].view(np.float32)
    return np.ascontiguousarray(row_keys(content, "record")[:, :1]).view(np.uint32)


def index_of(keys: Keys) -> Index:
    """The index of rows with these keys, in this order."""
    order = np.argsort(keys[:, 0], kind="stable")
    return keys[order, 0], order.astype(np.uint32)


def file_bytes(rows: int, size: int) -> int:
    """Bytes of a file of so many rows with vectors of this size."""
    return _HEADER_BYTES + rows * (_INDEX_BYTES + 4 * (size + _EXTRA))


class Unwritten:
    """Rows in memory that no file has yet."""

    path = None

    def __init__(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        self.rows, self.size = len(keys), int(vectors.shape[1])
        self.all_records = pack(keys, scores, vectors)
        self._index = index_of(keys)

    def index(self) -> Index:
        return self._index

    def records(self, positions: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.all_records[positions]
        return found


class Segment:
    """A file of rows; opening it reads the header only.

    Raises:
        DamagedSegment: it is torn, of another format, or not of the length that it says.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            self.bytes = os.fstat(file.fileno()).st_size
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise DamagedSegment(f"{path} is no file of the embedding cache")
        _, self.rows, self.size, self._crc = _HEADER.unpack_from(header)
        (crc,) = struct.unpack_from("<I", header, _HEADER.size)
        is_whole = self.rows > 0 and self.bytes == file_bytes(self.rows, self.size)
        if crc != zlib.crc32(header[: _HEADER.size]) or not is_whole:
            raise DamagedSegment(f"{path} is torn")
        self.path = path
        self.loaded: Index | None = None

    def index(self) -> Index:
        """Reads it, unless it is loaded. Raises OSError or DamagedSegment."""
        if self.loaded is None:
            with self.path.open("rb", buffering=0) as file:
                content = _read(file.fileno(), self.rows * _INDEX_BYTES, _HEADER_BYTES)
            if zlib.crc32(content) != self._crc:
                raise DamagedSegment(f"the index of {self.path} is not what was written")
            first_halves = np.frombuffer(content, dtype=np.uint64, count=self.rows)
            positions = np.frombuffer(content, dtype=np.uint32, offset=self.rows * 8)
            self.loaded = first_halves, positions
        return self.loaded

    def records(self, positions: np.ndarray) -> np.ndarray:
        """The rows there, uint32 [k, words]. Raises OSError or DamagedSegment."""
        words = self.size + _EXTRA
        start = _HEADER_BYTES + self.rows * _INDEX_BYTES
        order = np.argsort(positions, kind="stable")
        ordered = positions[order].astype(np.int64)
        if not len(ordered):
            return np.empty((0, words), dtype=np.uint32)
        gap, window = (max(1, bytes_ // (4 * words)) for bytes_ in (_GAP_BYTES, _READ_BYTES))
        breaks = (np.diff(ordered) > gap) | (np.diff(ordered // window) > 0)
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(ordered)]
        records = np.empty((len(ordered), words), dtype=np.uint32)
        with self.path.open("rb", buffering=0) as file:
            for begin, end in pairwise(edges):
                first, last = int(ordered[begin]), int(ordered[end - 1])
                length = (last - first + 1) * words * 4
                content = _read(file.fileno(), length, start + first * words * 4)
                piece = np.frombuffer(content, dtype=np.uint32).reshape(-1, words)
                records[order[begin:end]] = piece[ordered[begin:end] - first]
        return records


def look_up(
    part: "Segment | Unwritten", keys: Keys, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the wanted ones, positions in ``keys``, are there, and their records.

    Raises OSError, or DamagedSegment when a row is not what was written.
    """
    first_halves, positions = part.index()
    asked = keys[wanted, 0]
    at = np.searchsorted(first_halves, asked)
    at[at == len(first_halves)] = 0
    perhaps = first_halves[at] == asked
    records = part.records(positions[at[perhaps]])
    if not intact(records).all():
        raise DamagedSegment(f"a row of {part.path} is not what was written")
    wanted = wanted[perhaps]
    same = (keys_of(records) == keys[wanted]).all(axis=1)
    return (wanted, records) if same.all() else (wanted[same], records[same])


def _read(handle: int, length: int, offset: int) -> bytes:
    content = os.pread(handle, length, offset)
    if len(content) < length:
        raise DamagedSegment("a file of the embedding cache became shorter")
    return content


def write_segment(folder: Path, records: np.ndarray) -> Path:
    """A new file with these records; it is there as a whole or not at all. Raises OSError."""
    first_halves, positions = index_of(keys_of(records))
    index = first_halves.tobytes() + positions.tobytes()
    size = records.shape[1] - _EXTRA
    header = _HEADER.pack(_MAGIC, len(records), size, zlib.crc32(index))
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=SUFFIX, dir=folder)
    written = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            for content in (header, struct.pack("<I", zlib.crc32(header)), index):
                _write(file.fileno(), content)
            _write(file.fileno(), np.ascontiguousarray(records).data.cast("B"))
        return written.rename(folder / written.name.removeprefix(TEMPORARY))
    except BaseException:
        written.unlink(missing_ok=True)
        raise


def _write(handle: int, content: "bytes | memoryview") -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
