"""The command line, ``batch-assets``.

Exit codes: 0 done; 1 something that the message says how to put right; 2 wrong usage.
"""

import os
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape

from batch_assets.errors import BatchAssetsError
from batch_assets.feature_commands import features
from batch_assets.model_commands import models
from batch_assets.serve_commands import keys, serve
from batch_assets.show import (
    Json,
    console,
    print_json,
    print_table,
    progress_bars,
    status_tables,
)

if TYPE_CHECKING:
    from batch_assets.fraud.pipeline import Pipeline

INTERRUPTED = 130

app = typer.Typer(
    name="batch-assets",
    help="Batch inference made of Dagster assets: from raw files to predictions one can search.\n\n"
    "Data lives in $BATCH_ASSETS_HOME (default: data/ in the clone). Start with [b]batch-assets "
    "demo[/b], or describe your own feeds in feeds.yaml (docs/feeds.md) and use [b]run[/b].",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(models)
app.add_typer(features)
app.add_typer(keys)
app.command()(serve)
out = console(sys.stdout)
err = console(sys.stderr)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day such as 2026-03-01") from None


def _days(text: str) -> tuple[date, date]:
    first, colon, last = text.partition(":")
    if not colon:
        raise typer.BadParameter(f"{text!r} is not a range of days such as 2026-03-01:2026-03-07")
    return _day(first), _day(last)


def _day_option(name: str, what: str) -> Any:
    return typer.Option(name, parser=_day, metavar="DAY", help=what)


From = Annotated[date, _day_option("--from", "First day.")]
To = Annotated[date, _day_option("--to", "Last day, included.")]
MaybeFrom = Annotated[date | None, _day_option("--from", "First day.")]
MaybeTo = Annotated[date | None, _day_option("--to", "Last day, included.")]
Top = Annotated[int, typer.Option(min=1, max=10_000, help="How many.")]


def _pipeline() -> "Pipeline":
    from batch_assets.fraud.run import open_pipeline

    return open_pipeline()


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            out.print(version("batch_assets"))
        except PackageNotFoundError:
            out.print("not installed")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Options of all commands."""


@app.command()
def simulate(
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 45,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 7,
    customers: Annotated[int | None, typer.Option(min=3, help="How many customers.")] = None,
    terminals: Annotated[int | None, typer.Option(min=3, help="How many terminals.")] = None,
    start: Annotated[date | None, _day_option("--start", "First day.")] = None,
    as_json: Json = False,
) -> None:
    """Write simulated feeds into the data home: three institutions that agree on nothing."""
    from batch_assets.settings import data_home
    from batch_assets.simulate import simulate as simulate_feeds

    chosen = {"customers": customers, "terminals": terminals, "start": start}
    with progress_bars(err) as bars:
        summary = simulate_feeds(
            data_home(),
            days=days,
            seed=seed,
            progress=lambda done, of: bars.advance_to("simulate", done, of),
            **{k: v for k, v in chosen.items() if v is not None},  # type: ignore[arg-type]
        )
    if as_json:
        return print_json(vars(summary))
    out.print(
        f"{summary.transactions:,} transactions of {summary.first_day} to {summary.last_day}, "
        f"{summary.frauds:,} of them frauds, in {summary.files:,} files under "
        f"{data_home() / 'landing'}",
        markup=False,
    )


@app.command()
def run(first: From, last: To, as_json: Json = False) -> None:
    """Build all assets of some days in this process, and whatever late rows changed before them.

    Days that are up to date are skipped. Trains a first model if none is live.
    """
    from batch_assets.fraud.run import run_days
    from batch_assets.fraud.summary import summarise
    from batch_assets.instance import dagster_instance

    pipeline = _pipeline()
    with dagster_instance() as instance, progress_bars(err) as bars:
        done = run_days(instance, pipeline, first, last, bars)
    summary = summarise(pipeline, done)
    if as_json:
        return print_json(summary)
    for line in summary["text"]:
        out.print(line)


@app.command()
def status(as_json: Json = False) -> None:
    """Of each asset: days present, missing, newest, and rows; files that are new or odd."""
    from batch_assets.fraud.queries import status as status_of

    found = status_of(_pipeline())
    if as_json:
        return print_json(found)
    status_tables(out, found)


@app.command()
def cost(
    first: From,
    last: To,
    calls: Annotated[int, typer.Option(min=1, help="Calls of one row to measure.")] = 2_000,
    as_json: Json = False,
) -> None:
    """What scoring some days cost, and what the same rows would have cost one by one on demand."""
    from batch_assets.fraud.cost import cost as cost_of
    from batch_assets.show import cost_tables

    found = cost_of(_pipeline(), first, last, calls)
    if as_json:
        return print_json(found)
    cost_tables(out, found)


@app.command()
def quality(first: MaybeFrom = None, last: MaybeTo = None, as_json: Json = False) -> None:
    """How good the scores were of days whose labels are known, and how far the newest has drifted.

    Of the last 60 days with predictions, unless days are named.
    """
    from batch_assets.fraud.monitoring import quality_and_drift
    from batch_assets.show import quality_tables

    found = quality_and_drift(_pipeline(), first, last)
    if as_json:
        return print_json(found)
    quality_tables(out, found)


@app.command()
def similar(
    transaction_id: Annotated[str, typer.Argument(metavar="ID", help="A scored transaction.")],
    top: Top = 10,
    first: MaybeFrom = None,
    last: MaybeTo = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer.")] = None,
    min_amount: Annotated[float | None, typer.Option(help="Smallest amount.")] = None,
    max_amount: Annotated[float | None, typer.Option(help="Largest amount.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Lowest score.")] = None,
    max_score: Annotated[float | None, typer.Option(help="Highest score.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    as_json: Json = False,
) -> None:
    """Transactions that are most similar to one, by their embeddings."""
    from batch_assets.fraud.queries import similar as similar_to

    found = similar_to(
        _pipeline(),
        transaction_id,
        top=top,
        days=(first, last),
        customer_id=customer,
        amount=(min_amount, max_amount),
        score=(min_score, max_score),
        exact=exact,
    )
    print_table(out, found, as_json)


@app.command()
def alerts(
    day: Annotated[date, _day_option("--day", "Which day.")], top: Top = 100, as_json: Json = False
) -> None:
    """The riskiest customers of a day, and what raised their scores."""
    from batch_assets.fraud.queries import alerts as alerts_of

    print_table(out, alerts_of(_pipeline(), day, top), as_json)


@app.command()
def explain(
    transaction_id: Annotated[str, typer.Argument(metavar="ID", help="A scored transaction.")],
    top: Annotated[int, typer.Option(min=1, max=100, help="How many reasons, and frauds.")] = 5,
    as_json: Json = False,
) -> None:
    """Why a transaction was an alert: what raised its score, and the nearest known frauds."""
    from batch_assets.fraud.explain import explain as explain_one
    from batch_assets.show import explanation

    found = explain_one(_pipeline(), transaction_id, top=top, neighbours=top)
    if as_json:
        return print_json(found)
    explanation(out, found)


@app.command()
def sql(
    select: Annotated[str, typer.Argument(help="One SELECT statement; every table is a view.")],
    as_json: Json = False,
) -> None:
    """Query the tables, read only. With --json: a list of objects."""
    from batch_assets.fraud.queries import query

    print_table(out, query(_pipeline(), select), as_json)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.duckdb", help="Replaced if it exists.")],
    as_json: Json = False,
) -> None:
    """Write all tables to one DuckDB file, for BI tools and notebooks."""
    from batch_assets.fraud.queries import export as export_to

    rows = export_to(_pipeline(), file)
    if as_json:
        return print_json(rows)
    out.print(f"{len(rows)} tables, {sum(rows.values()):,} rows in {file}", markup=False)


@app.command()
def evaluate(
    train: Annotated[Any, typer.Option(parser=_days, metavar="DAY:DAY", help="Days to train on.")],
    test: Annotated[Any, typer.Option(parser=_days, metavar="DAY:DAY", help="Days to test on.")],
    delay: Annotated[int, typer.Option(min=0, help="Days until a label is known.")] = 7,
    seed: Annotated[int | None, typer.Option(help="Seed of training.")] = None,
    as_json: Json = False,
) -> None:
    """Train on some days and measure on later ones; the live model stays as it is.

    The protocol is that of the Fraud Detection Handbook: customers known as compromised leave
    the test days, and card precision@100 is averaged over days. They are known by a fraud of
    the last seven training days, or later, however long the training is.
    """
    from batch_assets.fraud.evaluate import evaluate_split
    from batch_assets.instance import dagster_instance

    with dagster_instance() as instance, progress_bars(err):
        result = evaluate_split(instance, _pipeline(), train, test, delay, seed)
    if as_json:
        return print_json(result)
    for name, value in result.items():
        out.print(f"{name:32} {value:.4f}" if isinstance(value, float) else f"{name:32} {value}")


@app.command()
def demo(days: Annotated[int, typer.Option(min=1, help="How many days to simulate.")] = 45) -> None:
    """Simulate some days, run every asset, and show what was found."""
    from batch_assets.fraud.demo import run_demo

    run_demo(out, err, days)


@app.command()
def dev(port: Annotated[int, typer.Option(help="Port of the UI.")] = 3000) -> None:
    """The Dagster UI, schedules and sensors over the data home."""
    from batch_assets.engines.gpu import places
    from batch_assets.engines.pool import fit_pool
    from batch_assets.instance import dagster_instance
    from batch_assets.settings import load_settings

    settings = load_settings()
    with dagster_instance() as instance:  # made before several processes of the UI all try to
        try:
            fit_pool(instance, places(settings.device, settings.gpu_memory_share))
        except BatchAssetsError as error:  # the UI is of use without the device
            err.print(f"the limit of the gpu pool stays as it is: {error}", markup=False)
    os.environ.setdefault("PYTHONWARNINGS", "ignore:Function `dev_command` is superseded")
    dagster = Path(sys.executable).with_name("dagster")
    arguments = ["dagster", "dev", "-m", "batch_assets.definitions", "-p", str(port)]
    os.execv(dagster, arguments)


def main() -> None:
    """Entry point: a mistake that a person can put right is one line on stderr."""
    from typer.exceptions import Abort, TyperException

    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False, prog_name=app.info.name)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else app.info.name
        _fail(f"{error.format_message()} (see {command} --help)", error.exit_code)
    except BatchAssetsError as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # which is what typer makes of KeyboardInterrupt
        _fail("stopped; what was committed stays, and the next run goes on from there", code)
    raise SystemExit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    raise SystemExit(code)
