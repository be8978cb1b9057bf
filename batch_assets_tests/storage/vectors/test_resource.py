"""LanceDB in a Dagster asset."""

from pathlib import Path

import dagster as dg

from batch_assets.storage.vectors.resource import LanceDBResource
from batch_assets_tests.storage.vectors.samples import DOCUMENTS, FIRST_DAY, day, rows


@dg.asset(partitions_def=dg.DailyPartitionsDefinition(FIRST_DAY.isoformat()))
def document_embeddings(
    context: dg.AssetExecutionContext, vectors: LanceDBResource
) -> dg.MaterializeResult[None]:
    """Ten rows a day."""
    of = context.partition_time_window.start.date()
    written = vectors.store().replace_day(DOCUMENTS, of, [rows(of, 10)])
    return dg.MaterializeResult(metadata={"rows": written.rows})


def test_an_asset_writes_its_partition(tmp_path: Path) -> None:
    vectors = LanceDBResource(uri=str(tmp_path / "vectors"))
    for number in (0, 1, 1):
        result = dg.materialize(
            [document_embeddings],
            partition_key=day(number).isoformat(),
            resources={"vectors": vectors},
        )
        assert result.success
    assert list(vectors.store().days(DOCUMENTS)) == [day(0), day(1)]
    assert vectors.connect().open_table(DOCUMENTS.name).count_rows() == 20


def test_the_store_is_kept_for_its_caches(tmp_path: Path) -> None:
    vectors = LanceDBResource(uri=str(tmp_path))
    assert vectors.store() is vectors.store()
