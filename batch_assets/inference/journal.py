"""What of a range of rows is done, in a folder that survives a kill at any moment.

One process at a time owns a folder. Rows are done in *chunks*, each recorded when its files are
whole; where chunks begin and end may differ from attempt to attempt. The folder holds:

    identity              what the rows and their results depend on
    attempt-<n>.json      when an attempt began, and what it found computed but not recorded
    chunk-<start>.json    a chunk: its rows, its files, what it took
    mark-<start>          how far the chunk is that is being computed
    <anything else>       files of chunks

Chunks of another identity, or whose files are gone, are worth nothing and are removed.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from batch_assets.inference.stats import EngineStats
from batch_assets.storage.atomic import replace_file

MARK_BYTES = 1024


@dataclass(frozen=True)
class Chunk:
    """Rows ``start`` to ``stop``, not included, are done.

    Attributes:
        attempt: number of the attempt that did them.
        files: names of the chunk's files in the folder.
        made: what else is needed to find the results; JSON.
        stats: what it took.
    """

    start: int
    stop: int
    attempt: int
    files: tuple[str, ...]
    made: Mapping[str, Any]
    stats: EngineStats


@dataclass(frozen=True)
class Attempt:
    """One process that worked on the range.

    Attributes:
        started_at: seconds since 1970.
        lost: what earlier attempts had computed in vain, as it found; these rows are computed
            twice.
        settled: whether it was accounted for.
        about: the caller's notes; JSON.
    """

    number: int
    started_at: float
    lost: EngineStats = field(default_factory=EngineStats)
    settled: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)


class Mark:
    """How far a chunk is; what is in it when the process dies is what was lost."""

    def __init__(self, folder: Path, start: int) -> None:
        self._file = os.open(mark_of(folder, start), os.O_CREAT | os.O_WRONLY)

    def advance(self, stats: EngineStats) -> None:
        """So much was computed; a write of one small block, which a kill does not tear."""
        os.pwrite(self._file, json.dumps(asdict(stats)).encode().ljust(MARK_BYTES), 0)

    def close(self) -> None:
        """Leave the mark; it is removed when the chunk is recorded."""
        os.close(self._file)


class Journal:
    """The folder of one range, taken over by a new attempt.

    Args:
        identity: of the inputs and of how they are computed.
        usable: whether what a chunk made is still there.
        about: notes on this attempt.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        *,
        usable: Callable[[Chunk], bool] = lambda chunk: True,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        found = list(read_chunks(folder))
        same = _text(folder / "identity") == identity
        self.chunks = [c for c in found if same and _has_files(folder, c) and usable(c)]
        lost = EngineStats()
        for chunk in found:
            if chunk not in self.chunks:
                lost.add(chunk.stats)
        recorded = {f"mark-{chunk.start}" for chunk in self.chunks}
        for path in folder.glob("mark-*"):
            if path.name not in recorded:
                lost.add(_stats(_json(path)))
        number = max((one.number for one in read_attempts(folder)), default=0) + 1
        self.attempt = Attempt(number, time.time(), lost, False, about or {})
        _note(folder, self.attempt)
        self._remove_what_is_lost()
        replace_file(folder / "identity", identity.encode())

    def record(self, chunk: Chunk) -> None:
        """A chunk is done: its files are whole."""
        text = json.dumps(asdict(chunk)).encode()
        replace_file(self.folder / f"chunk-{chunk.start}.json", text)
        mark_of(self.folder, chunk.start).unlink(missing_ok=True)
        self.chunks.append(chunk)

    def note(self, **about: Any) -> None:
        """Add to the notes on this attempt."""
        self.attempt = replace(self.attempt, about={**self.attempt.about, **about})
        _note(self.folder, self.attempt)

    def _remove_what_is_lost(self) -> None:
        kept = {
            name for chunk in self.chunks for name in (f"chunk-{chunk.start}.json", *chunk.files)
        }
        for path in self.folder.iterdir():
            if path.name not in kept and not path.name.startswith("attempt-"):
                path.unlink(missing_ok=True)


def mark_of(folder: Path, start: int) -> Path:
    """The mark of the chunk that begins with this row."""
    return folder / f"mark-{start}"


def to_do(rows: int, done: Iterable[range], chunk_rows: int) -> list[range]:
    """What is not done of rows 0 to ``rows``, in pieces of at most ``chunk_rows``, ascending."""
    left, at = [], 0
    for part in [*sorted((p for p in done if len(p)), key=lambda p: p.start), range(rows, rows)]:
        left += [
            range(start, min(start + chunk_rows, part.start))
            for start in range(at, part.start, chunk_rows)
        ]
        at = max(at, part.stop)
    return left


def read_chunks(folder: Path) -> Iterator[Chunk]:
    """Chunks that are recorded in a folder, in the order of their rows."""
    chunks = []
    for path in folder.glob("chunk-*.json"):
        found = _json(path)
        try:
            stats = _stats(found.pop("stats"))
            chunks.append(Chunk(**{**found, "files": tuple(found["files"])}, stats=stats))
        except (KeyError, TypeError):
            continue  # of another version of this program, or torn: as if it were not there
    yield from sorted(chunks, key=lambda chunk: chunk.start)


def read_attempts(folder: Path) -> list[Attempt]:
    """Attempts that are noted in a folder, the first one first."""
    attempts = []
    for path in folder.glob("attempt-*.json"):
        found = _json(path)
        try:
            attempts.append(Attempt(**{**found, "lost": _stats(found["lost"])}))
        except (KeyError, TypeError):
            continue
    return sorted(attempts, key=lambda attempt: attempt.number)


def stats_of_attempts(folder: Path) -> list[tuple[Attempt, EngineStats]]:
    """Of each attempt all that it computed, whether or not it was in vain."""
    attempts = read_attempts(folder)
    stats = {attempt.number: EngineStats() for attempt in attempts}
    for chunk in read_chunks(folder):
        stats.setdefault(chunk.attempt, EngineStats()).add(chunk.stats)
    for before, after in pairwise(attempts):
        stats[before.number].add(after.lost)
    return [(attempt, stats[attempt.number]) for attempt in attempts]


def settle(folder: Path) -> None:
    """All attempts were accounted for."""
    for attempt in read_attempts(folder):
        _note(folder, replace(attempt, settled=True))


def _note(folder: Path, attempt: Attempt) -> None:
    replace_file(folder / f"attempt-{attempt.number}.json", json.dumps(asdict(attempt)).encode())


def _has_files(folder: Path, chunk: Chunk) -> bool:
    return all((folder / name).is_file() for name in chunk.files)


def _stats(found: Mapping[str, Any]) -> EngineStats:
    try:
        return EngineStats(**found)
    except TypeError:
        return EngineStats()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
