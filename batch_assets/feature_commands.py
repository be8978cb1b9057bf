"""``batch-assets features ...``: SQL files of features of one's own."""

import sys
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from batch_assets.errors import BatchAssetsError
from batch_assets.show import Json, console, print_json, print_table

if TYPE_CHECKING:
    from batch_assets.fraud.pipeline import Pipeline

features = typer.Typer(
    name="features",
    help="SQL files in the data home's folder features, which add features (docs/features.md).",
)
out = console(sys.stdout)


def _pipeline() -> "Pipeline":
    from batch_assets.fraud.run import open_pipeline

    return open_pipeline()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day such as 2026-03-01") from None


@features.command("list")
def list_files(as_json: Json = False) -> None:
    """Of each file: its columns, how far it looks back, days built, and what is wrong with it."""
    import pyarrow as pa

    from batch_assets.fraud.own_check import listed

    found = listed(_pipeline())
    if as_json:
        return print_json(found)
    if not found:
        out.print("there is no file; docs/features.md says what goes into one")
        return
    lists = ("columns", "reads")
    rows = [row | {name: ", ".join(row[name]) for name in lists} for row in found]
    print_table(out, pa.Table.from_pylist(rows), as_json=False)


@features.command()
def check(
    name: Annotated[
        str | None, typer.Argument(metavar="FILE", help="One file; all if none.")
    ] = None,
    day: Annotated[
        date | None,
        typer.Option(parser=_day, metavar="DAY", help="The newest day with rows if none."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the files for a day without storing anything, and see whether they look ahead."""
    from batch_assets.fraud.own_check import checked

    found = checked(_pipeline(), name, day)
    if as_json:
        print_json(found)
    else:
        for row in found:
            if not row["problem"]:
                out.print(
                    f"{row['file']}: {', '.join(row['columns'])}, {row['rows']:,} rows of "
                    f"{row['day']}; none looks ahead",
                    highlight=False,
                    markup=False,
                )
    if wrong := [row["problem"] for row in found if row["problem"]]:
        raise BatchAssetsError("; ".join(wrong))
