"""Makes Dagster's own records cheap to write, where they lie in SQLite files.

Dagster opens a connection for each event, and SQLite then waits for the disk twice: when it
commits, and when it merges its log (WAL) into the file because the last connection closes. A run
of 45 days records 1,500 events, so that is most of its time on a slow disk. Here a commit does not
wait (``synchronous = NORMAL``) and one connection a file stays open, so that nothing is merged
until there is something to merge. A process that is killed loses nothing by it. A power cut may
lose the last events, but cannot damage the file, and what was built is read from the tables.
"""

import sqlite3
from pathlib import Path
from typing import Any

FILES_KEPT_OPEN = 8
_kept: dict[str, sqlite3.Connection] = {}


def write_without_waiting() -> None:
    """Do so for all SQLite files with a WAL that SQLAlchemy opens in this process from now on."""
    from sqlalchemy import Engine, event

    if not event.contains(Engine, "connect", _relax):
        event.listen(Engine, "connect", _relax)


def close_kept_files() -> None:
    """Close what was kept open; SQLite merges its logs then. Files may be used on."""
    while _kept:
        _kept.popitem()[1].close()


def _relax(connection: Any, _record: object) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    if not path or connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        return
    connection.execute("PRAGMA synchronous = NORMAL")
    if path not in _kept:
        _keep_open(path)


def _keep_open(path: str) -> None:
    while len(_kept) >= FILES_KEPT_OPEN:
        _kept.pop(next(iter(_kept))).close()
    kept = sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True, check_same_thread=False)
    kept.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now it holds the WAL
    _kept[path] = kept
