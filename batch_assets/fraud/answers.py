"""What a server asks of the fraud workload: alerts, reasons and known labels; without Dagster."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud import tables
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.queries import alerts
from batch_assets.fraud.serving_pipeline import serving_pipeline
from batch_assets.serving.hashes import hash_of, hashes_of
from batch_assets.serving.stored import ViewGone
from batch_assets.settings import Settings, load_settings
from batch_assets.storage.warehouse import DataFile, Snapshot, Warehouse


class FraudAnswers:
    """Answers over the current data home; safe to share between threads."""

    @cached_property
    def _settings(self) -> Settings:
        return load_settings()

    @cached_property
    def _pipeline(self) -> Pipeline:
        return serving_pipeline(self._settings)

    @cached_property
    def _labels(self) -> "Labels":
        return Labels(self._pipeline.warehouse)

    def units(self) -> dict[str, str]:
        """Amounts are in the reporting currency."""
        return {"amount": self._settings.currency}

    def known(self, keys: list[str]) -> dict[str, int]:
        """Labels known by now: 1 fraud, 0 none; see :class:`Labels`."""
        return self._labels.of(keys)

    def refresh(self) -> None:
        """Look whether labels were added."""
        self._labels.refresh()

    def alerts(self, predictions: Snapshot, day: date, top: int) -> list[dict[str, Any]]:
        """The riskiest customers of a day, riskiest first, each by the transaction that decides.

        Returns:
            rank, transaction_id, customer_id, terminal_id, amount, score, tx_count, reasons (of
            the first 100; else none), day, model_version.

        Raises:
            BatchAssetsError: the day is not scored.
            ViewGone: files of this version were removed.
        """
        import duckdb

        try:
            found = alerts(self._pipeline, day, top, predictions).to_pylist()
        except duckdb.IOException as error:
            raise ViewGone(f"alerts of {day}: {error}") from error
        for row in found:
            row["score"] = row.pop("max_score")
            row["reasons"] = row["reasons"] or []
        return found

    def explain(self, key: str) -> dict[str, Any]:
        """See :func:`batch_assets.fraud.explain.explain`."""
        from batch_assets.fraud.explain import explain

        return explain(self._pipeline, key)


@dataclass(frozen=True)
class _Labels:
    """Of one version of the table: hashes of ids, ascending, and the label of each."""

    files: tuple[DataFile, ...]
    hashes: npt.NDArray[np.uint64]
    is_fraud: npt.NDArray[np.bool_]


class Labels:
    """Labels of transactions, 9 bytes each in memory; none is known before the first refresh.

    Ids are told apart by 64-bit hashes: among 10 million labels, one look-up in two million
    million takes another one's.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._held = _read("", ())

    def of(self, keys: list[str]) -> dict[str, int]:
        """Label by key, 1 or 0, of those that have one."""
        held = self._held
        if not len(held.hashes):
            return {}
        wanted = np.array([hash_of(key) for key in keys], np.uint64)
        at = np.searchsorted(held.hashes, wanted)
        at[at == len(held.hashes)] = 0
        found = held.hashes[at] == wanted
        labels = held.is_fraud[at]
        return {k: int(labels[n]) for n, k in enumerate(keys) if found[n]}

    def refresh(self) -> None:
        """Read the table, if it has changed.

        Raises:
            BatchAssetsError: it cannot be read; what was known before still is.
        """
        snapshot = self._warehouse.snapshot(tables.FRAUD_LABELS)
        if self._held.files != snapshot.files:
            try:
                self._held = _read(snapshot.root, snapshot.files)
            except (OSError, pa.ArrowException) as error:
                raise BatchAssetsError(f"labels cannot be read just now: {error}") from error


def _read(root: str, files: tuple[DataFile, ...]) -> _Labels:
    hashes, frauds = [np.empty(0, np.uint64)], [np.empty(0, np.bool_)]
    for file in files:
        read = pq.ParquetFile(f"{root}/{file.path}").read(["transaction_id", "is_fraud"])
        if read.num_rows:
            ids = pa.concat_arrays(read["transaction_id"].chunks)
            hashes.append(hashes_of(ids))
            frauds.append(read["is_fraud"].to_numpy())
    joined = np.concatenate(hashes)
    order = np.argsort(joined, kind="stable")
    return _Labels(files, joined[order], np.concatenate(frauds)[order])
