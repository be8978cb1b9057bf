"""Housekeeping of a warehouse."""

import shutil
import time
from collections import defaultdict

import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from batch_assets.storage.tables import Table
from batch_assets.storage.warehouse import ConcurrentWrite, DataFile, StagedFile, Warehouse

KEEP_HOURS = 7 * 24
LEFTOVER_SECONDS = 24 * 3600


def compact(warehouse: Warehouse, table: Table) -> int:
    """Merge the files that hold the same part of the same day; their key stays.

    Delta's own compaction is not used: it would give files names without the key.

    Returns:
        Number of files that were merged into others.
    """
    base = warehouse.snapshot(table)
    groups: dict[tuple[str, str], list[DataFile]] = defaultdict(list)
    for file in base.files:
        groups[file.path.rsplit("/", 1)[0], file.key].append(file)
    many = [files for files in groups.values() if len(files) > 1]
    merged = 0
    for files in many:
        with warehouse.staging() as folder:
            path = folder / "merged.parquet"
            with pq.ParquetWriter(path, table.file_schema, compression="zstd") as writer:
                for file in files:
                    with pq.ParquetFile(f"{base.root}/{file.path}", pre_buffer=False) as source:
                        for batch in source.iter_batches():
                            writer.write_batch(batch)
            staged = StagedFile(path, files[0].partition, files[0].key)
            try:
                warehouse.commit(warehouse.snapshot(table), [staged], files, [files[0].day])
                merged += len(files) - 1
            except ConcurrentWrite:
                continue  # the day was rebuilt meanwhile; next time
    return merged


def forget_old_versions(warehouse: Warehouse, table: Table, keep_hours: int = KEEP_HOURS) -> int:
    """Delete files that no version of the last ``keep_hours`` needs; returns how many."""
    try:
        delta = DeltaTable(f"{warehouse.root}/{table.name}")
    except TableNotFoundError:
        return 0
    dropped = delta.vacuum(retention_hours=keep_hours, dry_run=False)
    delta.create_checkpoint()
    return len(dropped)


def remove_leftovers(warehouse: Warehouse) -> int:
    """Delete scratch folders that killed processes left a day ago or earlier; returns how many."""
    now, removed = time.time(), 0
    for folder in warehouse.scratch.glob("*"):
        if now - folder.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed
