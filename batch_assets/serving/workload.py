"""What a workload declares so that the server can serve it; the server knows nothing else of it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

import pyarrow as pa
from pydantic import BaseModel

from batch_assets.errors import BatchAssetsError
from batch_assets.storage.tables import Table
from batch_assets.storage.vectors import VectorTable
from batch_assets.storage.warehouse import Snapshot


class RowRefused(BatchAssetsError):
    """A row that cannot be scored in real time.

    Args:
        field: of the request model.
        detail: what is wrong with it, and what to change.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field, self.detail = field, detail


class RowsRefused(BatchAssetsError):
    """Some of the rows given cannot be scored; none was.

    Args:
        refused: place of each among those given -> why.
    """

    def __init__(self, refused: Mapping[int, RowRefused]) -> None:
        super().__init__("; ".join(str(one) for one in refused.values()))
        self.refused = dict(refused)


class RealtimeModel(Protocol):
    """Scores rows that no batch has seen, by the definitions of the batch; used by one thread."""

    def refresh(self) -> str:
        """Look at the batch's tables and the live model again; gives the model's version."""

    def score(self, rows: list[BaseModel]) -> pa.Table:
        """Score rows of the workload's request model together, in their order.

        They count among what is known of each other; afterwards only if they are remembered.

        Returns:
            The columns of the predictions table, and ``vector`` (fixed-size list of float32).

        Raises:
            RowsRefused: some of the rows cannot be used; says which, and what to change.
        """

    def remember(self, rows: list[BaseModel]) -> None:
        """Count these rows, which were scored, among what is known until a batch has them."""

    def settled(self, days: Mapping[date, Collection[str]]) -> set[str]:
        """Of keys by their day, those that were compared with what the batch says."""

    def close(self) -> None:
        """End its threads."""


@dataclass(frozen=True)
class Workload:
    """A kind of prediction that is served under its name.

    Args:
        name: the path below ``/v1/``.
        key: column that identifies a prediction.
        time: column with the moment that the prediction is about, UTC.
        score: column with the prediction, 0 to 1.
        predictions: table of predictions; has ``model_version``, ``scored_at`` and ``day``, too.
        vectors: table of embeddings, whose rows carry key, entities, time, score, model_version.
        entities: name in the path -> column: what predictions are grouped by, such as customers.
        equals: columns by whose values a search can be narrowed.
        ranges: numeric columns by whose range a search can be narrowed.
        request: pydantic model of one row to be scored in real time; has the key among its fields.
        realtime: makes the model for rows that no batch has seen; None if there is none.
        known: of some keys, what has become known since: key -> label (1 or 0); keys of which
            nothing is known are left out. From memory: it is asked for each answer.
        refresh: brings what ``known`` knows up to date; called now and then, in a thread.
        alerts: of a version of the predictions, the rows of a day that ask for action, best
            first, at most so many.
        explain: of one key, why its score is as it is; a JSON-ready object.
        asset: name of the Dagster asset that fills ``predictions``, for links to its lineage.
        model: name of the model in the model store; its live version is the one to expect.
        title: what people call it; by default the name.
        words: what people call ``one`` prediction's subject, ``many`` of them, and what a label
            says: ``positive``, ``negative``.
        units: column -> unit of its values, such as a currency.
        example: a row of ``predictions`` as JSON, for the API's description.
    """

    name: str
    key: str
    time: str
    score: str
    predictions: Table
    vectors: VectorTable
    entities: Mapping[str, str]
    equals: tuple[str, ...]
    ranges: tuple[str, ...]
    request: type[BaseModel] | None = None
    realtime: Callable[[], RealtimeModel] | None = None
    known: Callable[[list[str]], dict[str, int]] = field(default=lambda keys: {})
    refresh: Callable[[], None] = lambda: None
    alerts: Callable[[Snapshot, date, int], list[dict[str, Any]]] | None = None
    explain: Callable[[str], dict[str, Any]] | None = None
    asset: str = ""
    model: str = ""
    title: str = ""
    words: Mapping[str, str] = field(
        default_factory=lambda: {
            "one": "row",
            "many": "rows",
            "positive": "positive",
            "negative": "negative",
        }
    )
    units: Callable[[], Mapping[str, str]] = dict
    example: Mapping[str, Any] = field(default_factory=dict)
