"""Types of single fields: what is taken, and how it is described."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

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


def python_type(kind: pa.DataType) -> Any:
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


def id_type(kind: pa.DataType) -> Any:
    """What a key or the name of an entity is in a request: text, or an integer."""
    return Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] if pa.types.is_integer(kind) else Id
