"""A transaction as a request for its score gives it."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

LONGEST_ID = 200
TIME_PATTERN = (
    r"^(19[7-9][0-9]|20[0-9]{2}|21[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])?$"
)
Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, strip_whitespace=True)]


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


class TransactionRequest(BaseModel):
    """One transaction that no batch has seen.

    Ids are those of the tables: with the feed's prefix, if it has one.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "transaction_id": "E260430-10002163",
                    "customer_id": "K1914",
                    "terminal_id": "H777",
                    "amount": "83.19",
                    "currency": "EUR",
                    "happened_at": "2026-04-30T09:46:54+02:00",
                    "feed": "europe_cards",
                }
            ]
        },
    )

    transaction_id: Id = Field(
        description="Of the transaction; nobody has scored it yet.", strict=True
    )
    customer_id: Id = Field(description="Who pays.", strict=True)
    terminal_id: Id = Field(description="Where.", strict=True)
    amount: Annotated[Decimal, BeforeValidator(_no_bool)] = Field(
        description="In its own currency, with up to 4 decimals.",
        ge=0,
        max_digits=18,
        decimal_places=4,
    )
    currency: str | None = Field(
        None,
        pattern="^[A-Z]{3}$",
        description="ISO 4217; by default that of the feed.",
        strict=True,
    )
    happened_at: str = Field(
        pattern=TIME_PATTERN,
        description="ISO 8601; without an offset, on the feed's own clock.",
        strict=True,
    )
    feed: str | None = Field(
        None,
        max_length=LONGEST_ID,
        description="Feed that the transaction will come with: its clock says what is night and "
        "weekend. May be left out where there is only one.",
        strict=True,
    )
