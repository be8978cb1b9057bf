"""A vector table's description is checked before anything is written."""

from typing import Any

import pyarrow as pa
import pytest

from batch_assets.storage.vectors import VectorStoreError, VectorTable
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, SIZE

SCHEMA = DOCUMENTS.schema


def test_the_key_is_marked_as_primary_key_and_roles_are_never_null() -> None:
    key = DOCUMENTS.schema.field("document_id")
    assert key.metadata == {b"lance-schema:unenforced-primary-key": b"true"}
    assert not any(
        DOCUMENTS.schema.field(name).nullable
        for name in ("document_id", "day", "vector", "scoring_key")
    )
    assert DOCUMENTS.schema.field("author").nullable


def test_key_and_day_always_have_an_index() -> None:
    assert DOCUMENTS.btree_columns == ("document_id", "author")
    assert DOCUMENTS.bitmap_columns == ("day",)
    assert DOCUMENTS.dimensions == SIZE
    assert DOCUMENTS.named("others").name == "others"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": "id"}, "column 'id' is not in its schema"),
        ({"btree": ("nobody",)}, "column 'nobody' is not in its schema"),
        ({"metric": "manhattan"}, "unknown metric 'manhattan'"),
        ({"vector": "author"}, "column 'author' is string"),
        ({"day": "written_at"}, "column 'written_at' is timestamp"),
        ({"schema": SCHEMA.remove(2).append(pa.field("vector", pa.list_(pa.float32())))}, "SIZE"),
    ],
)
def test_roles_that_do_not_fit_the_schema_are_named(changes: dict[str, Any], says: str) -> None:
    described: dict[str, Any] = {"name": "documents", "schema": SCHEMA, "key": "document_id"}
    with pytest.raises(VectorStoreError, match=says):
        VectorTable(**described | changes)
