"""Vector tables in LanceDB whose days are replaced in one commit, and their Dagster resource.

The package stands by itself: which columns are key, day, vector and version, and which get an
index, is said by a `VectorTable`. Nothing heavy is imported until a store is used.
"""

import os

from batch_assets.storage.vectors.errors import VectorStoreError
from batch_assets.storage.vectors.filters import Equals, Filter, OneOf, Range
from batch_assets.storage.vectors.fragments import DayState
from batch_assets.storage.vectors.maintenance import Optimised
from batch_assets.storage.vectors.store import DayWritten, StagedRows, VectorStore
from batch_assets.storage.vectors.table import VectorIndex, VectorTable, VectorType

# Lance warns of each of the thousands of small clusters that it makes of equal vectors.
os.environ.setdefault("LANCE_LOG", "error")

__all__ = [
    "DayState",
    "DayWritten",
    "Equals",
    "Filter",
    "OneOf",
    "Optimised",
    "Range",
    "StagedRows",
    "VectorIndex",
    "VectorStore",
    "VectorStoreError",
    "VectorTable",
    "VectorType",
]
