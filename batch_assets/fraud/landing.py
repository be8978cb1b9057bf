"""What lies in the landing zone, and what of it is news."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from batch_assets.fraud.feeds import Feed, Feeds, Kind

UNREADABLE = "unread"


@dataclass(frozen=True)
class LandedFile:
    """One file of a feed, with what is needed to tell whether it is new.

    ``copy_of`` names the file with the same content that is used in its place: of several, the
    one that arrived first.
    """

    feed: Feed
    path: Path
    name: str
    arrived: date
    bytes: int
    modified_ns: int
    content_hash: str = ""
    copy_of: str | None = None

    @property
    def file_id(self) -> str:
        """Same path, same id."""
        return digest(self.feed.name, self.name)[:10]


def digest(*parts: object) -> str:
    """SHA-256 of the parts' text, hexadecimal."""
    return hashlib.sha256("\x1f".join(str(p) for p in parts).encode()).hexdigest()


def scan_landing(
    feeds: Feeds,
    kind: Kind,
    landing: Path,
    first_day: date,
    seen: Mapping[str, Mapping[str, Any]],
    kept: Mapping[str, date],
) -> list[LandedFile]:
    """All files of one kind that arrived since ``first_day``, with content hashes.

    Args:
        seen: rows of ``ingested_files`` of this kind by file name. A file whose size and
            modification time are as recorded is not read again, and a file without ``{day}``
            in its path keeps the day on which it was first seen.
        kept: file id -> day of arrival under which raw already holds the file.
    """
    today = datetime.now(UTC).date()
    found = [
        _look_at(feed, path, day, landing, today, seen, kept)
        for feed in feeds.of_kind(kind)
        for path, day in feed.files(landing)
    ]
    return _mark_copies([file for file in found if file.arrived >= first_day], seen)


def _look_at(
    feed: Feed,
    path: Path,
    day: date | None,
    landing: Path,
    today: date,
    seen: Mapping[str, Mapping[str, Any]],
    kept: Mapping[str, date],
) -> LandedFile:
    name = str(path.relative_to(landing) if path.is_relative_to(landing) else path)
    known = seen.get(name)
    stat = path.stat()
    file = LandedFile(feed, path, name, day or today, stat.st_size, stat.st_mtime_ns)
    if not day:
        file = replace(file, arrived=known["day"] if known else kept.get(file.file_id, today))
    same = known and (known["bytes"], known["modified_ns"]) == (file.bytes, file.modified_ns)
    if known and same and not known["content_hash"].startswith(UNREADABLE):
        return replace(file, content_hash=known["content_hash"])
    return replace(file, content_hash=_content_hash(file))


def _content_hash(file: LandedFile) -> str:
    """Of a file that cannot be opened, one that no other has; its reader says what is wrong."""
    try:
        with file.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return f"{UNREADABLE}-{file.file_id}"


def _mark_copies(
    files: Iterable[LandedFile], seen: Mapping[str, Mapping[str, Any]]
) -> list[LandedFile]:
    first: dict[tuple[str, str], tuple[date, str]] = {}
    groups: dict[tuple[str, str], list[LandedFile]] = defaultdict(list)
    for file in files:
        groups[file.feed.name, file.content_hash].append(file)
    names = {file.name for members in groups.values() for file in members}
    for name, row in seen.items():
        if name not in names and not row["copy_of"]:  # gone from the landing zone, kept in raw
            first[row["feed"], row["content_hash"]] = (row["day"], name)
    marked = []
    for content, members in groups.items():
        arrivals = [(file.arrived, file.name) for file in members]
        earliest = min(arrivals + ([first[content]] if content in first else []))
        empty = members[0].bytes == 0
        for file in members:
            copy_of = None if empty or file.name == earliest[1] else earliest[1]
            marked.append(replace(file, copy_of=copy_of))
    return marked
