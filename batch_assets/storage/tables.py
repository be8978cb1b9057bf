"""What a table is: its name, its columns, what each means, and how it is partitioned."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

DAY = "day"


@dataclass(frozen=True, eq=False)
class Table:
    """A Delta table that is partitioned by ``day`` and perhaps by more date columns.

    Args:
        name: folder under the warehouse and name of the SQL view.
        columns: name -> (Arrow type, what it means), partition columns included.
        partition_by: partition columns, ``day`` first; all are dates.
        description: grain and purpose, shown in the Dagster UI.
        columns_may_change: written with other columns, it counts as empty until it is written
            again; else that is an error.
    """

    name: str
    columns: Mapping[str, tuple[pa.DataType, str]]
    description: str
    partition_by: tuple[str, ...] = (DAY,)
    columns_may_change: bool = False

    @property
    def schema(self) -> pa.Schema:
        """All columns, partition columns included."""
        return pa.schema(
            [pa.field(n, t, metadata={"comment": c}) for n, (t, c) in self.columns.items()]
        )

    def bare_schema(self, *names: str) -> pa.Schema:
        """Some columns, by default all, without what they mean."""
        return pa.schema([(n, self.columns[n][0]) for n in names or self.columns])

    @property
    def file_schema(self) -> pa.Schema:
        """The columns that stand in a data file: all but the partition columns."""
        return pa.schema([f for f in self.schema if f.name not in self.partition_by])
