"""``batch-assets models ...``: the versions of the model, and which of them is live."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batch_assets.show import Json, console, print_json, print_rows

if TYPE_CHECKING:
    from batch_assets.fraud.pipeline import Pipeline

models = typer.Typer(
    name="models",
    help="The versions of the model: candidates, the live one, and those that were live.",
)
out = console(sys.stdout)
_LISTED = (
    "version",
    "model",
    "state",
    "since",
    "trained on",
    "average_precision",
    "auc",
    "measured on",
    "size",
    "decision",
)
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Its first digits are enough.")]


def _pipeline() -> "Pipeline":
    from batch_assets.fraud.run import open_pipeline

    return open_pipeline()


@models.command("list")
def list_versions(as_json: Json = False) -> None:
    """All versions, the newest first: what it is, state, trained on, how good, how it compared."""
    from batch_assets.fraud.versions import listed

    found = listed(_pipeline())
    if as_json:
        return print_json(found)
    if not found:
        out.print("there is no model yet; `batch-assets run` trains one")
        return
    print_rows(out, [row | _in_short(row) for row in found], _LISTED)


def _in_short(row: dict[str, Any]) -> dict[str, Any]:
    """What several fields of a summary say, in a column each."""
    return {
        "model": row["title"] or row["kind"],
        "since": f"{row['state_since']:%F %R}",
        "trained on": row["trained_from"] and f"{row['trained_from']} to {row['trained_to']}",
        "measured on": row["measured_on"],
        "size": f"{row['bytes'] / 1e6:.1f} MB",
    }


@models.command()
def show(version: Version, as_json: Json = False) -> None:
    """One version: when it was live and why, how it compared, and its card."""
    from batch_assets.fraud.versions import shown

    found = shown(_pipeline(), version)
    if as_json:
        return print_json(found)
    card, promotions = found.pop("card"), found.pop("promotions")
    comparison = found.pop("comparison") or {}
    plain = {n: v for n, v in card.items() if isinstance(v, str | int | float)}
    for name, value in {**found, **plain, "features": ", ".join(card["features"])}.items():
        _line(name, value)
    for version, metrics in comparison.get("metrics", {}).items():
        _line("compared", f"{version}: {_in_words(metrics)}")
    for promotion in promotions:
        how = "back again" if promotion["rollback"] else "went live"
        _line(how, f"{promotion['at']:%F %R} UTC: {promotion['why']}")


def _line(name: str, value: Any) -> None:
    text = f"{value:.4f}" if isinstance(value, float) else "" if value is None else value
    out.print(f"{name:30} {text}", highlight=False, markup=False, soft_wrap=True)


def _in_words(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


@models.command()
def register(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="model.pt2 or model.onnx.")],
    card: Annotated[Path, typer.Option(help="What goes in and comes out, YAML or JSON.")],
    as_json: Json = False,
) -> None:
    """Take in a model that was made elsewhere as a candidate, once it was checked on a sample."""
    from batch_assets.fraud.register import register as register_model

    _tell(register_model(_pipeline(), file, card), as_json)


@models.command()
def promote(version: Version, as_json: Json = False) -> None:
    """Make a version live, whatever a comparison says; days that it did not score are then."""
    from batch_assets.fraud.versions import promote_by_hand

    _tell(promote_by_hand(_pipeline(), version), as_json)


@models.command()
def rollback(as_json: Json = False) -> None:
    """Make live again what was live before; a second time, what was before that."""
    from batch_assets.fraud.versions import roll_back

    _tell(roll_back(_pipeline()), as_json)


def _tell(change: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return print_json({name: value for name, value in change.items() if name != "text"})
    for line in change["text"]:
        out.print(line, highlight=False, markup=False)
