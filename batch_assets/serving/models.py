"""What goes in and comes out, typed: models made from what a workload declares."""

from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, create_model

from batch_assets.serving.fields import (
    LABEL,
    MOST_IDS,
    MOST_NEIGHBOURS,
    MOST_SCORED,
    OF_VIEW,
    PROVENANCE,
    Day,
    Id,
    Number,
    Strict,
    id_type,
    python_type,
)
from batch_assets.serving.workload import Workload

VIEW = {"view": PROVENANCE["view"]}
EXAMPLE = {"label": None, "source": "memory", "stale": False, "age_seconds": 3_600.0, "view": 12}
Fields = Mapping[str, Any]


class Models:
    """The models of one workload, each with an example.

    Args:
        workload: whose.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._name = workload.name.title().replace("_", "")
        self._example = {**workload.example, **EXAMPLE}
        self._example_key = workload.example.get(workload.key)
        moments = {n: workload.example.get(n) for n in ("model_version", "scored_at")}
        self._example_of_view = {**moments, "stale": False, "age_seconds": 3_600.0, "view": 12}

    def id_of(self, column: str) -> Any:
        """Type of the values of a key or entity in a request."""
        return id_type(self.workload.predictions.schema.field(column).type)

    @cached_property
    def prediction(self) -> type[BaseModel]:
        """A row of the predictions table with where it came from."""
        return self._model("Prediction", {**self._columns(), **PROVENANCE}, self._example)

    @cached_property
    def ids(self) -> type[BaseModel]:
        """Which predictions."""
        of = self.id_of(self.workload.key)
        fields = {"ids": (list[of], Field(min_length=1, max_length=MOST_IDS))}  # type: ignore[valid-type]
        return self._request("Ids", fields, {"ids": [self._example_key]})

    @cached_property
    def predictions(self) -> type[BaseModel]:
        """What a batch look-up gives."""
        rows = list[self.prediction]  # type: ignore[name-defined]
        of: Any = python_type(self._type(self.workload.key))
        fields = {
            "predictions": (rows, Field(description="In the order of the ids.")),
            "missing": (list[of], Field(description="Ids that nobody has scored.")),
            "stale": (bool, Field(description="Any of them is.")),
            **VIEW,
        }
        shown = {"predictions": [self._example], "missing": [], "stale": False, "view": 12}
        return self._model("Predictions", fields, shown)

    def course(self, column: str) -> type[BaseModel]:
        """The predictions of one entity."""
        row, example = self.prediction, self._example
        of = python_type(self._type(column))
        fields = {
            column: (of, Field(description="Whose.")),
            "latest": (row, Field(description="The newest of the page: the risk now.")),
            "highest": (row, Field(description="The one with the highest score of the page.")),
            "predictions": (list[row], Field(description="Newest first.")),  # type: ignore[valid-type]
            "next": (str | None, Field(description="Path of the next page; null: no more.")),
            "stale": (bool, Field(description="The newest prediction is.")),
            **VIEW,
        }
        shown: dict[str, Any] = {
            "latest": example,
            "highest": example,
            "predictions": [example],
            "next": None,
        }
        shown |= {column: example.get(column), "stale": False, "view": 12}
        return self._model(f"Of_{column}", fields, shown)

    @cached_property
    def to_score(self) -> type[BaseModel]:
        """Rows to be scored now."""
        row = self.workload.request
        assert row is not None
        fields = {"rows": (list[row], Field(min_length=1, max_length=MOST_SCORED))}  # type: ignore[valid-type]
        extra = row.model_config.get("json_schema_extra")
        examples = extra.get("examples", []) if isinstance(extra, dict) else []
        return self._request("Rows", fields, {"rows": examples})

    @cached_property
    def scored(self) -> type[BaseModel]:
        """What became of them."""
        rows = list[self.prediction]  # type: ignore[name-defined]
        fields = {"predictions": (rows, Field(description="In the order of the rows.")), **VIEW}
        shown = {"predictions": [{**self._example, "source": "realtime"}], "view": 12}
        return self._model("Scored", fields, shown)

    @cached_property
    def explanation(self) -> type[BaseModel]:
        """A prediction, and what its workload says of it."""
        fields = {**self._columns(), **PROVENANCE}
        return self._model("Explanation", fields, self._example, extra="allow")

    @cached_property
    def alerts(self) -> type[BaseModel]:
        """The alerts of a day."""
        reasons: Any = list[str], Field(default=[], description="What raised the score.")
        fields = {**self._columns(), **PROVENANCE, "reasons": reasons}
        example = {**self._example, "reasons": ["amount 83.19 EUR, 2.7 times the usual"]}
        row = self._model("Alert", fields, example, extra="allow")
        alerts = (list[row], Field(description="Best first."))  # type: ignore[valid-type]
        of_day = {"day": (date, Field(description="Which.")), "alerts": alerts, **OF_VIEW}
        shown = {"day": self._example.get("day"), "alerts": [example], **self._example_of_view}
        return self._model("Alerts", of_day, shown)

    @cached_property
    def search(self) -> type[BaseModel]:
        """What to search for, and where."""
        workload, size = self.workload, self.workload.vectors.dimensions
        of_key, k = self.id_of(workload.key), Annotated[int, Field(ge=1, le=MOST_NEIGHBOURS)]
        length = {"min_length": size, "max_length": size}
        of_model = "Of the model that made `vector`; the live one by default."
        fields: dict[str, Any] = {
            workload.key: _option(of_key, "Whose neighbours are asked for."),
            "vector": _option(list[Number], f"Or a vector of {size} numbers.", **length),
            "model_version": _option(Id, of_model),
            "k": (k, Field(default=10, description="How many neighbours.")),
            "exact": (bool, Field(default=False, description="Compare with every vector.")),
            "first_day": _option(Day, "Only of this day or later."),
            "last_day": _option(Day, "Only of this day or earlier."),
        }
        for column in workload.equals:
            fields[column] = _option(self.id_of(column), f"Only of this {column}.")
        for column in workload.ranges:
            fields[f"min_{column}"] = _option(Number, "Lowest.")
            fields[f"max_{column}"] = _option(Number, "Highest.")
        one_of = [{"required": [workload.key]}, {"required": ["vector"]}]
        example = {workload.key: self._example_key, "k": 5}
        return self._request("Search", fields, example, oneOf=one_of)

    @cached_property
    def neighbours(self) -> type[BaseModel]:
        """What a search found."""
        spec, table = self.workload.vectors, self.workload.predictions.columns
        shared = [field for field in spec.schema if field.name in table]
        columns = {f.name: (python_type(f.type) | None, Field(default=None)) for f in shared}
        of_row = {
            "distance": (float, Field(description="From what was searched for.")),
            "label": LABEL,
            "source": (str, Field(description="Where its vector was read.")),
        }
        example = {f.name: self._example.get(f.name) for f in shared}
        example |= {"distance": 0.0007, "label": 1, "source": "memory"}
        row = self._model("Neighbour", {**columns, **of_row}, example)
        share = "Share of the range that is indexed or in memory."
        fields = {
            "neighbours": (list[row], Field(description="Nearest first.")),  # type: ignore[valid-type]
            "exact": (bool, Field(description="Every vector was compared.")),
            "index_coverage": (float, Field(ge=0, le=1, description=share)),
            "in_memory_days": (int, Field(description="Days of the range that are in memory.")),
            "other_model_days": (int, Field(description="Days left out: of another model.")),
            "source": (str, Field(description="Where vectors were read, joined by a plus.")),
        }
        shown = {"neighbours": [example], "exact": True, "index_coverage": 1.0, "source": "memory"}
        shown |= {"in_memory_days": 45, "other_model_days": 0, **self._example_of_view}
        return self._model("Neighbours", {**fields, **OF_VIEW}, shown)

    def _type(self, column: str) -> pa.DataType:
        return self.workload.predictions.schema.field(column).type

    def _columns(self) -> dict[str, Any]:
        """The predictions table's, with what each means."""
        always = (self.workload.key, self.workload.score, "model_version", "scored_at", "day")
        fields = {}
        for name, (kind, meaning) in self.workload.predictions.columns.items():
            python = python_type(kind)
            of = python if name in always else python | None
            fields[name] = (of, Field(description=meaning))
        return fields

    def _model(
        self,
        name: str,
        fields: Fields,
        example: Fields,
        extra: Literal["allow", "ignore"] = "ignore",
    ) -> type[BaseModel]:
        config = ConfigDict(extra=extra, json_schema_extra={"examples": [dict(example)]})
        return create_model(f"{self._name}{name}", __config__=config, **fields)

    def _request(
        self, name: str, fields: Fields, example: Fields, **schema: Any
    ) -> type[BaseModel]:
        config = ConfigDict(json_schema_extra={"examples": [dict(example)], **schema})
        base = type(name, (Strict,), {"model_config": config})
        return create_model(f"{self._name}{name}", __base__=base, **fields)


def _option(kind: Any, meaning: str, **bounds: Any) -> tuple[Any, Any]:
    """A field that may be left out, but not be null."""
    return kind, Field(default=None, description=meaning, **bounds)
