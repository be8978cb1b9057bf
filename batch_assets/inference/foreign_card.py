"""The card of a model that was made elsewhere: what its file cannot say by itself."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from batch_assets.errors import BatchAssetsError

CHANGES_STATE = (
    "the program changes its own state while it runs: export it in evaluation mode (model.eval())"
)
Number = Annotated[float, Field(allow_inf_nan=False)]


class ForeignModelError(BatchAssetsError):
    """A model that was made elsewhere cannot be used; the message says why and what to do."""


class Scaling(BaseModel):
    """What is done to one feature before the model sees it, in the order of the fields.

    Args:
        missing: stands for a missing value; None leaves it NaN.
        clip: lowest and highest value.
        log1p: take the logarithm of 1 + value.
        mean: is subtracted.
        std: divides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    missing: Number | None = None
    clip: tuple[Number, Number] | None = None
    log1p: bool = False
    mean: Number = 0.0
    std: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @field_validator("clip")
    @classmethod
    def _in_order(cls, clip: tuple[float, float] | None) -> tuple[float, float] | None:
        if clip and clip[0] >= clip[1]:
            raise ValueError("the lowest value must be below the highest")
        return clip


class TrainingDays(BaseModel):
    """First and last day that the model was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: date
    last: date


class ForeignCard(BaseModel):
    """What a person says of a model.

    Args:
        title: what people call it.
        features: the columns of its one input, in order.
        output: whether its score is a probability or a logit.
        score: the output that is the score, by name or position; [n], [n, 1], or [n, 2] with
            fraud second.
        embedding: the output, [n, size], that is the row's vector; None if it has none.
        scaling: feature -> what is done to it; a feature that is not named is used as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, Field(min_length=1, max_length=100)]
    features: Annotated[tuple[str, ...], Field(min_length=1)]
    output: Literal["probability", "logit"]
    score: str | Annotated[int, Field(ge=0)] = 0
    embedding: str | Annotated[int, Field(ge=0)] | None = None
    scaling: dict[str, Scaling] = {}
    description: str = ""
    training_days: TrainingDays | None = None
    metrics: dict[str, Number] = {}

    @model_validator(mode="after")
    def _names_fit(self) -> "ForeignCard":
        twice = sorted({name for name in self.features if self.features.count(name) > 1})
        if twice:
            raise ValueError(f"features: {', '.join(twice)} is named more than once")
        if unknown := sorted(set(self.scaling) - set(self.features)):
            raise ValueError(f"scaling: {', '.join(unknown)} is not one of the features")
        return self


def card_from(content: object) -> ForeignCard:
    """The card in content that was read from JSON or YAML.

    Raises ForeignModelError that names each field which is missing, unknown or wrong.
    """
    if not isinstance(content, Mapping):
        raise ForeignModelError(
            "the card must have fields such as title, features and output, and is "
            f"{type(content).__name__} instead"
        )
    try:
        return ForeignCard.model_validate(content)
    except ValidationError as error:
        wrong = [
            _field(cause["loc"]) + cause["msg"].removeprefix("Value error, ")
            for cause in error.errors()
        ]
        raise ForeignModelError(f"the card is wrong: {'; '.join(dict.fromkeys(wrong))}") from error


def stored_card(card: Mapping[str, Any]) -> ForeignCard:
    """The card again that was stored with other fields beside its own."""
    return card_from({name: card[name] for name in ForeignCard.model_fields if name in card})


def output_position(wanted: str | int, outputs: Sequence[str], what: str) -> int:
    """Which of the outputs, by their names, the card means by its field ``what``."""
    if isinstance(wanted, str) and wanted in outputs:
        return list(outputs).index(wanted)
    if isinstance(wanted, int) and wanted < len(outputs):
        return wanted
    there = ", ".join(f"{at} ({name!r})" for at, name in enumerate(outputs)) or "none"
    raise ForeignModelError(
        f"the card says that {what} is output {wanted!r}, and the model's outputs are {there}; "
        f"name one of these as {what}"
    )


def first_line(error: BaseException) -> str:
    """What a library said, as far as one line of a message can hold it."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _field(place: Sequence[str | int]) -> str:
    # Which member of a union was tried is of no use to a reader.
    parts = [str(part) for part in place if part not in ("str", "constrained-int")]
    return f"{'.'.join(parts)}: " if parts else ""
