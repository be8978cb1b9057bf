"""Whether what was written, or is to be, has the columns that a table is said to have."""

from contextlib import suppress

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.tables import Table


def has_columns(table: Table, delta: DeltaTable) -> bool:
    """Whether it was written with the table's columns, in whatever order."""
    return sorted(f.name for f in delta.schema().fields) == sorted(table.columns)


def check_columns(table: Table, delta: DeltaTable, root: str) -> None:
    """Raise BatchAssetsError, with what to do, if it was not."""
    if not has_columns(table, delta):
        difference = sorted({f.name for f in delta.schema().fields} ^ set(table.columns))
        raise BatchAssetsError(
            f"{root} was written with other columns ({', '.join(difference)} differ); "
            "delete that folder and it is built again"
        )


def with_columns(table: Table, delta: DeltaTable) -> DeltaTable:
    """The same, emptied and given the table's columns, in one commit, if these may change."""
    if table.columns_may_change and not has_columns(table, delta):
        with suppress(CommitFailedError):  # another process was faster
            delta.create_write_transaction([], "overwrite", table.schema, list(table.partition_by))
        return DeltaTable(delta.table_uri)
    return delta


def check_types(table: Table, found: pa.Schema) -> None:
    """Raise BatchAssetsError if a file has other columns, or of other types."""
    # a writer that saw no null may say so; that is no other type
    if not pa.schema([f.with_nullable(True) for f in found]).equals(table.file_schema):
        expected = ", ".join(f"{f.name} {f.type}" for f in table.file_schema)
        got = ", ".join(f"{f.name} {f.type}" for f in found)
        raise BatchAssetsError(f"{table.name}: expected columns {expected}; the files have {got}")
