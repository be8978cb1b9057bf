"""What a vector table looks like: its columns, their roles and its indexes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from batch_assets.storage.vectors.errors import VectorStoreError

PRIMARY_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
"""Field metadata without which Lance's `merge_insert` duplicates rows when writers race."""

METRICS = ("l2", "cosine", "dot")
VectorType = Literal["float32", "float16"]
VectorIndex = Literal["IVF_FLAT", "IVF_SQ", "IVF_PQ"]
VECTOR_TYPES: Mapping[VectorType, pa.DataType] = {"float32": pa.float32(), "float16": pa.float16()}


@dataclass(frozen=True)
class VectorTable:
    """The name, the schema and the roles of the columns of one vector table.

    Arguments:
        name: the table's name; it lives at `<uri>/<name>.lance`.
        schema: all columns. Key, day and version column become non-null.
        key: column (text or integer) that is unique within a day.
        day: column of type date32, the unit of replacement.
        vector: column of type fixed-size list of float32 or float16.
        version_column: text column that names what the rows were computed from; readers
            may ask for one version a day (`valid=`) and never see any other.
        btree: further columns that get a BTREE index (many values); the key always does.
        bitmap: further columns that get a BITMAP index (few values); the day always does.
        metric: `l2` (Lance gives its square), `cosine` or `dot`. Vectors are stored as they
            come and never normalised.

    Example:
        >>> documents = VectorTable(
        ...     name="documents",
        ...     schema=pa.schema(
        ...         [
        ...             pa.field("document_id", pa.string()),
        ...             pa.field("day", pa.date32()),
        ...             pa.field("vector", pa.list_(pa.float32(), 64)),
        ...             pa.field("author", pa.string()),
        ...             pa.field("scoring_key", pa.string()),
        ...         ]
        ...     ),
        ...     key="document_id",
        ...     btree=("author",),
        ... )
        >>> documents.dimensions
        64
    """

    name: str
    schema: pa.Schema
    key: str
    day: str = "day"
    vector: str = "vector"
    version_column: str = "scoring_key"
    btree: tuple[str, ...] = ()
    bitmap: tuple[str, ...] = ()
    metric: str = "l2"

    def __post_init__(self) -> None:
        """Check the roles against the schema and mark key, day and version as never null."""
        roles = (self.key, self.day, self.vector, self.version_column)
        for column in (*roles, *self.btree, *self.bitmap):
            if column not in self.schema.names:
                raise VectorStoreError(
                    f"Vector table {self.name}: column {column!r} is not in its schema "
                    f"({', '.join(self.schema.names)}). Add it, or name another column."
                )
        if self.metric not in METRICS:
            raise VectorStoreError(
                f"Vector table {self.name}: unknown metric {self.metric!r}. "
                f"Use one of {', '.join(METRICS)}."
            )
        if not _is_vector(self.schema.field(self.vector).type):
            raise VectorStoreError(
                f"Vector table {self.name}: column {self.vector!r} is "
                f"{self.schema.field(self.vector).type}. Use pa.list_(pa.float32(), SIZE)."
            )
        if self.schema.field(self.day).type != pa.date32():
            raise VectorStoreError(
                f"Vector table {self.name}: column {self.day!r} is "
                f"{self.schema.field(self.day).type}. Use pa.date32()."
            )
        object.__setattr__(self, "schema", self._with_roles())

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.schema.field(self.vector).type.list_size)

    @property
    def btree_columns(self) -> tuple[str, ...]:
        """Columns with a BTREE index, the key first."""
        return tuple(dict.fromkeys((self.key, *self.btree)))

    @property
    def bitmap_columns(self) -> tuple[str, ...]:
        """Columns with a BITMAP index, the day first."""
        return tuple(dict.fromkeys((self.day, *self.bitmap)))

    @property
    def vector_type(self) -> VectorType:
        """What a number of a vector is stored as."""
        kind = self.schema.field(self.vector).type.value_type
        return next(name for name, one in VECTOR_TYPES.items() if one == kind)

    def stored_as(self, kind: VectorType) -> "VectorTable":
        """The same table with vectors of this type."""
        if kind == self.vector_type:
            return self
        at = self.schema.get_field_index(self.vector)
        vectors = pa.list_(VECTOR_TYPES[kind], self.dimensions)
        return replace(self, schema=self.schema.set(at, self.schema.field(at).with_type(vectors)))

    def named(self, name: str) -> "VectorTable":
        """The same table under another name."""
        return replace(self, name=name)

    def _with_roles(self) -> pa.Schema:
        """The schema with non-null key, day, vector and version, and the key's metadata."""
        schema = self.schema.remove_metadata()
        for column in (self.key, self.day, self.vector, self.version_column):
            at = schema.get_field_index(column)
            field = schema.field(at).with_nullable(False)
            field = field.with_metadata(PRIMARY_KEY if column == self.key else None)
            schema = schema.set(at, field)
        return schema


def _is_vector(kind: pa.DataType) -> bool:
    """Whether this is a fixed-size list of float32 or float16."""
    return pa.types.is_fixed_size_list(kind) and kind.value_type in VECTOR_TYPES.values()


def as_found(spec: VectorTable, found: pa.Schema) -> VectorTable:
    """The table with vectors of the type that they have on disk."""
    kind = found.field(spec.vector).type if spec.vector in found.names else None
    for name in VECTOR_TYPES:
        if kind == spec.stored_as(name).schema.field(spec.vector).type:
            return spec.stored_as(name)
    return spec


def check_schema(spec: VectorTable, found: pa.Schema) -> None:
    """Raise if a table on disk is not the one described."""
    expected = {field.name: field for field in spec.schema}
    present = {field.name: field for field in found}
    wrong = [
        f"{name} is {present[name].type if name in present else 'missing'}, not "
        f"{expected[name].type if name in expected else 'expected'}"
        for name in {**expected, **present}
        if name not in present or name not in expected or present[name].type != expected[name].type
    ]
    if not wrong and not PRIMARY_KEY.items() <= (present[spec.key].metadata or {}).items():
        wrong = [f"{spec.key} is not marked as the primary key"]
    if wrong:
        raise VectorStoreError(
            f"Vector table {spec.name} was made with other columns: {'; '.join(wrong)}. "
            f"Move it away and compute its days again."
        )
