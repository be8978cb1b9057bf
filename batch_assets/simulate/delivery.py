"""The files that arrive each day, and the disorder among them."""

import gzip
import io
import os
import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.simulate import clock, notation
from batch_assets.simulate.flaws import Flaw, Flaws, draw_delays, draw_flaws
from batch_assets.simulate.transactions import Transactions
from batch_assets.simulate.world import AMERICA, ASIA, EUROPE, Parameters, Region

COPIED_DAY = 9  # America's file comes twice, under two names
TRUNCATED_DAY = 10  # Europe's second file is cut in mid-stream, and comes whole a day later
TRUNCATED_ROWS_SHARE = 1 / 20
GZIP_LEVEL = 1


@dataclass
class Landing:
    """Writes files under `folder` and counts what it wrote."""

    folder: pathlib.Path
    files: int = 0
    size: int = 0  # bytes
    rows: int = 0
    planted: Counter[str] = field(default_factory=Counter)

    def write(self, path: str, content: bytes, rows: int = 0) -> None:
        """Put a file in place at once; one that is there already with this content stays."""
        target = self.folder / path
        if not (target.is_file() and target.read_bytes() == content):
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_name(f".{target.name}.{os.getpid()}.part")
            half.write_bytes(content)
            os.replace(half, target)
        self.files += 1
        self.size += len(content)
        self.rows += rows


class Courier:
    """Delivers one region's rows, day after day, some of them late, twice, or broken."""

    def __init__(self, parameters: Parameters, region: Region, landing: Landing) -> None:
        self.parameters = parameters
        self.region = region
        self.landing = landing
        self._on_its_way: dict[int, list[tuple[Flaw, pa.Table]]] = defaultdict(list)
        self._sent_again: pa.Table | None = None

    @property
    def undelivered(self) -> int:
        """Rows that are late beyond the last day and so never arrive."""
        waiting = (parcel for parcels in self._on_its_way.values() for parcel in parcels)
        return sum(len(rows) for flaw, rows in waiting if flaw is Flaw.LATE)

    def deliver(self, day: int, transactions: Transactions) -> None:
        """Write the files that arrive on a day, of its own transactions and earlier ones."""
        flaws = draw_flaws(self.parameters, self.region, day, len(transactions))
        rows = notation.write_rows(self.region, transactions, flaws)
        self._count_spoilt(day, transactions, flaws)
        for flaw, delay, parcel in self._parcels(day, transactions, flaws, rows):
            if len(parcel):
                self._on_its_way[day + delay].append((flaw, parcel))
        arriving = [rows.filter(pa.array(flaws != Flaw.LATE))]
        for flaw, parcel in self._on_its_way.pop(day, []):
            self._count(flaw.name, len(parcel))
            arriving.append(parcel)
        self._write_files(day, pa.concat_tables(arriving))

    def _parcels(
        self, day: int, transactions: Transactions, flaws: Flaws, rows: pa.Table
    ) -> Iterator[tuple[Flaw, int, pa.Table]]:
        """What travels apart from a day's prompt rows: why, after how many days, which rows."""
        for flaw, delay in ((Flaw.REPEATED_IN_FILE, 0), (Flaw.REPEATED_NEXT_DAY, 1)):
            yield flaw, delay, rows.filter(pa.array(flaws == flaw))
        for flaw, delay in ((Flaw.CONFLICT_IN_FILE, 0), (Flaw.CONFLICT_NEXT_DAY, 1)):
            changed = transactions.take(np.flatnonzero(flaws == flaw))
            changed.amount[:] -= changed.amount // 5 + 1
            sound = np.zeros(len(changed), dtype=np.uint8)
            yield flaw, delay, notation.write_rows(self.region, changed, sound)
        late = np.flatnonzero(flaws == Flaw.LATE)
        delays = draw_delays(self.parameters, self.region, day, len(late))
        for delay in np.unique(delays).tolist():
            yield Flaw.LATE, delay, rows.take(pa.array(late[delays == delay]))

    def _count_spoilt(self, day: int, transactions: Transactions, flaws: Flaws) -> None:
        """Count what is wrong with rows themselves; parcels are counted when they arrive."""
        for flaw in Flaw:
            if Flaw.NONE < flaw < Flaw.REPEATED_IN_FILE:
                self._count(flaw.name, int((flaws == flaw).sum()))
        if self.region is EUROPE:  # the one whose times have no offset
            date = self.parameters.date(day)
            twice = clock.told_twice(self.region.time_zone, date, transactions.utc_ms)
            self._count("ambiguous_local_time", int(twice.sum()))

    def _write_files(self, day: int, rows: pa.Table) -> None:
        """One file a day; where the day's plan says so, another beside it."""
        if self.region is EUROPE and day == TRUNCATED_DAY and len(rows) > 1:
            first = len(rows) - max(1, int(len(rows) * TRUNCATED_ROWS_SHARE))
            self._sent_again = rows.slice(first)
            self._write_file(day, "-nachtrag", self._sent_again, cut=True)
            self._count("truncated_file", 1)
            rows = rows.slice(0, first)
        if self._sent_again is not None and day == TRUNCATED_DAY + 1:
            self._write_file(day, "-nachtrag-neu", self._sent_again)
            self._count("resent_after_truncation", len(self._sent_again))
        if self.region is AMERICA and day == COPIED_DAY:
            self._write_file(day, "-copy", rows)
            self._count("copied_file", 1)
            self._count("copied_file_rows", len(rows))
        self._write_file(day, "", rows)

    def _write_file(self, day: int, suffix: str, rows: pa.Table, cut: bool = False) -> None:
        stem, ending, encode = _FILES[self.region]
        date = self.parameters.date(day)
        content = encode(rows)
        if cut:
            content = content[: len(content) * 3 // 5]
        path = f"{self.region.feed}/{date}/{stem}-{date:%Y%m%d}{suffix}{ending}"
        self.landing.write(path, content, len(rows))

    def _count(self, name: str, number: int) -> None:
        self.landing.planted[name.lower()] += number


def _text(rows: pa.Table, header: bytes = b"") -> bytes:
    """All lines as they stand one after another in Arrow's own buffer."""
    if not len(rows):
        return header
    lines = pa.concat_arrays(rows["line"].chunks)
    _, offsets, content = lines.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return header + memoryview(content)[int(bounds[0]) : int(bounds[-1])]


def _gzipped_csv(rows: pa.Table) -> bytes:
    return gzip.compress(_text(rows, notation.EUROPE_HEADER), GZIP_LEVEL, mtime=0)


def _parquet(rows: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(rows.combine_chunks(), file, compression="zstd")
    return file.getvalue()


_FILES: dict[Region, tuple[str, str, Callable[[pa.Table], bytes]]] = {
    EUROPE: ("umsatz", ".csv.gz", _gzipped_csv),
    AMERICA: ("settlement", ".jsonl", _text),
    ASIA: ("ledger", ".parquet", _parquet),
}
