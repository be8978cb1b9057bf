"""What goes in and comes out, typed: models made from what a workload declares."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    create_model,
)

from batch_assets.serving.workload import Workload

MOST_IDS = 1_000
MOST_NEIGHBOURS = 1_000
MOST_ROWS = 1_000
MOST_SCORED = 100
LONGEST_ID = 200
LARGEST = 1e15
"""Numbers beyond it would not stay finite when squared in float32."""
DAY_PATTERN = r"(19[7-9][0-9]|20[0-9]{2}|21[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
MOMENT_PATTERN = DAY_PATTERN + (
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
)
_DAY, _MOMENT = re.compile(DAY_PATTERN), re.compile(MOMENT_PATTERN)


def _day(value: Any) -> date:
    if isinstance(value, str) and _DAY.fullmatch(value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    raise ValueError("should be a day such as 2026-03-01, of the years 1970 to 2199")


def _moment(value: Any) -> datetime:
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        with suppress(ValueError):
            return datetime.fromisoformat(value).astimezone(UTC)
    raise ValueError("should be a moment such as 2026-03-01T12:00:00Z, of the years 1970 to 2199")


def _text(kind: str, pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": kind, "pattern": f"^{pattern}$"})


Day = Annotated[date, PlainValidator(_day), _text("date", DAY_PATTERN)]
Moment = Annotated[datetime, PlainValidator(_moment), _text("date-time", MOMENT_PATTERN)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class Strict(BaseModel):
    """Fields of exactly the type that is said, and no others."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Ids(Strict):
    """Which predictions."""

    ids: list[Id] = Field(min_length=1, max_length=MOST_IDS)


Source = Literal["memory", "redis", "store", "realtime"]
LABEL = (
    Literal[0, 1] | None,
    Field(description="What has become known since; null: nothing."),
)
PROVENANCE: Mapping[str, Any] = {
    "label": LABEL,
    "source": (
        Source,
        Field(description="memory, redis and store: a batch scored it; realtime: this server did."),
    ),
    "stale": (bool, Field(description="Older than the freshness policy allows.")),
    "age_seconds": (float, Field(ge=0, description="Since it was scored.")),
    "view": (int, Field(description="Number of the state of the tables that was read.")),
}


OF_VIEW: Mapping[str, Any] = {
    "model_version": (str | None, Field(description="Which model's.")),
    "scored_at": (datetime | None, Field(description="When predictions were last published.")),
    "stale": PROVENANCE["stale"],
    "age_seconds": (float | None, Field(description="Since then.")),
    "view": PROVENANCE["view"],
}


class AnyRow(BaseModel):
    """Fields that the workload decides."""

    model_config = ConfigDict(extra="allow")


class Models:
    """The models of one workload.

    Args:
        workload: whose.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._name = workload.name.title().replace("_", "")

    @cached_property
    def prediction(self) -> type[BaseModel]:
        """A row of the predictions table with where it came from."""
        return self._model("Prediction", {**self._columns(), **PROVENANCE})

    @cached_property
    def predictions(self) -> type[BaseModel]:
        """What a batch look-up gives."""
        return self._model(
            "Predictions",
            {
                "predictions": (
                    list[self.prediction],  # type: ignore[name-defined]
                    Field(description="In the order of the ids; those without one are left out."),
                ),
                "missing": (list[str], Field(description="Ids that nobody has scored.")),
                "stale": (bool, Field(description="Any of them is.")),
                "view": (int, Field(description="All rows are of this state of the tables.")),
            },
        )

    @cached_property
    def alerts(self) -> type[BaseModel]:
        """The alerts of a day."""
        reasons = {"reasons": (list[str], Field(default=[], description="What raised the score."))}
        row = self._model("Alert", {**self._columns(), **PROVENANCE, **reasons}, extra="allow")
        fields = {
            "day": (date, Field(description="Which.")),
            "alerts": (list[row], Field(description="Best first.")),  # type: ignore[valid-type]
        }
        return self._model("Alerts", {**fields, **OF_VIEW})

    def course(self, column: str) -> type[BaseModel]:
        """The predictions of one entity."""
        row = self.prediction
        return self._model(
            f"Of_{column}",
            {
                column: (str, Field(description="Whose.")),
                "latest": (row, Field(description="The newest of the page: the risk now.")),
                "highest": (row, Field(description="The highest score of the page.")),
                "predictions": (list[row], Field(description="Newest first.")),  # type: ignore[valid-type]
                "next": (str | None, Field(description="Path of the next page; null: no more.")),
                "stale": (bool, Field(description="The newest prediction is.")),
                "view": (int, Field(description="All rows are of this state of the tables.")),
            },
        )

    @cached_property
    def search(self) -> type[BaseModel]:
        """What to search for, and where."""
        workload = self.workload
        size = workload.vectors.dimensions
        fields: dict[str, Any] = {
            workload.key: (Id, Field(default=None, description="Whose neighbours are asked for.")),
            "vector": (
                list[Number],
                Field(
                    default=None,
                    min_length=size,
                    max_length=size,
                    description=f"Or a vector of {size} numbers.",
                ),
            ),
            "model_version": (
                Id,
                Field(
                    default=None,
                    description="Of the model that made `vector`; the live one by default.",
                ),
            ),
            "k": (
                Annotated[int, Field(ge=1, le=MOST_NEIGHBOURS)],
                Field(default=10, description="How many neighbours."),
            ),
            "exact": (bool, Field(default=False, description="Compare with every vector.")),
            "first_day": (Day, Field(default=None, description="Only of this day or later.")),
            "last_day": (Day, Field(default=None, description="Only of this day or earlier.")),
        }
        for column in workload.equals:
            fields[column] = (Id, Field(default=None, description=f"Only of this {column}."))
        for column in workload.ranges:
            fields[f"min_{column}"] = (Number, Field(default=None, description="Lowest."))
            fields[f"max_{column}"] = (Number, Field(default=None, description="Highest."))
        one = [{"required": [workload.key]}, {"required": ["vector"]}]
        base = type("Search", (Strict,), {"model_config": {"json_schema_extra": {"oneOf": one}}})
        return create_model(
            f"{self._name}Search",
            __base__=base,
            __doc__=f"Either `{workload.key}` or `vector`, and what narrows the search.",
            **fields,
        )

    @cached_property
    def neighbours(self) -> type[BaseModel]:
        """What a search found."""
        vectors = self.workload.vectors
        left_out = (vectors.vector, vectors.version_column)
        columns = {
            f.name: (_python_type(f.type) | None, Field(default=None))
            for f in vectors.schema
            if f.name not in left_out and not pa.types.is_fixed_size_binary(f.type)
        }
        extra = {
            "distance": (float, Field(description="From the vector that was searched for.")),
            "label": LABEL,
        }
        row = self._model("Neighbour", {**columns, **extra})
        fields = {
            "neighbours": (list[row], Field(description="Nearest first.")),  # type: ignore[valid-type]
            "exact": (bool, Field(description="Every vector was compared.")),
            "index_coverage": (
                float,
                Field(ge=0, le=1, description="Share of the range that is indexed or in memory."),
            ),
            "in_memory_days": (int, Field(description="Days of the range that are in memory.")),
            "source": (str, Field(description="Where the vectors were read.")),
            "other_model_days": (
                int,
                Field(description="Days of the range that another model scored: left out."),
            ),
        }
        return self._model("Neighbours", {**fields, **OF_VIEW})

    def _columns(self) -> dict[str, Any]:
        """The predictions table's, with what each means."""
        table = self.workload.predictions
        known = (self.workload.key, self.workload.score, "model_version", "scored_at", "day")
        fields = {}
        for name, (kind, meaning) in table.columns.items():
            python = _python_type(kind)
            fields[name] = (
                python if name in known else python | None,
                Field(description=meaning),
            )
        return fields

    def _model(
        self, name: str, fields: Mapping[str, Any], extra: Literal["allow", "ignore"] = "ignore"
    ) -> type[BaseModel]:
        config = ConfigDict(extra=extra)
        return create_model(f"{self._name}{name}", __config__=config, **fields)  # type: ignore[no-any-return, call-overload]


def _python_type(kind: pa.DataType) -> Any:
    """What a value of an Arrow type is in JSON."""
    if pa.types.is_timestamp(kind):
        return datetime
    if pa.types.is_date(kind):
        return date
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return float
    if pa.types.is_integer(kind):
        return int
    if pa.types.is_boolean(kind):
        return bool
    return str
