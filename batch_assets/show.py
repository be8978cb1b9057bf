"""How the command line shows things: tables, JSON, progress bars."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, TextIO

import pyarrow as pa
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from batch_assets import progress

WIDTH_OF_FILES = 300
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def console(stream: TextIO) -> Console:
    """A console on a stream; where it is no terminal, long lines stay whole."""
    return Console(file=stream, width=None if stream.isatty() else WIDTH_OF_FILES)


def print_json(value: Any) -> None:
    """JSON on stdout; days and times in ISO 8601, decimals as numbers."""
    print(json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def print_table(out: Console, rows: pa.Table, as_json: bool) -> None:
    """Rows as a table for people, or as a JSON list of objects."""
    if as_json:
        return print_json([{k: _finite(v) for k, v in row.items()} for row in rows.to_pylist()])
    print_rows(out, rows.to_pylist(), rows.column_names)
    if not rows.num_rows:
        out.print("no rows")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and value - value != 0 else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "; ".join(_cell(one) for one in value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def status_tables(out: Console, found: dict[str, Any]) -> None:
    """The status of all assets, then of files."""
    table = Table(
        "asset", "days", "missing", "first", "newest", "rows", box=None, header_style="bold"
    )
    for asset in found["assets"]:
        table.add_row(
            asset["asset"],
            f"{asset['days_present']:,}",
            f"{asset['days_missing']:,}",
            asset["first_day"] or "",
            asset["newest_day"] or "",
            f"{asset['rows']:,}",
        )
    out.print(table)
    files = found["files"]
    out.print(
        f"\nfiles seen {files['seen']:,}, new or changed {files['new']:,}, "
        f"copies {files['copies']:,}"
    )
    for odd in files["noted"]:
        out.print(f"  {odd['file']}: {odd['note']}", highlight=False, markup=False)
    for odd in files["damaged"]:
        out.print(f"  {odd['file']}: {odd['reason']}", highlight=False, markup=False)
    scoring = found["scoring"]
    for day in scoring["unfinished_days"]:
        out.print(f"{day['day']} is not scored to its end; {day['rows_kept']:,} rows are kept")
    if scoring["rows_computed_twice"]:
        out.print(f"after interruptions, {scoring['rows_computed_twice']:,} rows were scored twice")
    if cache := scoring["embedding_cache"]:
        pays = "pays" if cache["pays"] else "does not pay"
        out.print(f"the embedding cache {pays} for this model")
    out.print(f"live model {found['model_version'] or 'none'}")
    if found["outdated_days"]:
        days = found["outdated_days"]
        out.print(
            f"outdated: {len(days)} days, {days[0]} to {days[-1]}; `batch-assets run` rebuilds them"
        )


QUALITY_SHOWN = (
    "day",
    "transactions",
    "frauds",
    "auc",
    "average_precision",
    "card_precision_at_100",
    "card_precision_at_100_ceiling",
    "fraud_value_caught",
    "mean_score",
    "fraud_share",
    "model_version",
)
DRIFT_SHOWN = ("feature", "psi", "missing_share", "trained_missing_share", "moved")
MOST_DRIFTED = 10


def quality_tables(out: Console, found: dict[str, Any]) -> None:
    """Quality of each measured day, and what has drifted most on the newest day."""
    measured = [row for row in found["quality"] if row["measured"]]
    print_rows(out, measured, QUALITY_SHOWN)
    waiting = len(found["quality"]) - len(measured)
    if waiting:
        out.print(f"{waiting} days wait for their labels")
    if not found["drift"]:
        return
    day, warn = found["drift"][0]["day"], found["drift_warn"]
    judged = [row for row in found["drift"] if row["psi"] is not None]
    drifted = [row for row in judged if row["psi"] >= warn]
    out.print(f"\ndrift on {day}: {len(drifted)} of {len(judged)} compared reach {warn}")
    print_rows(out, judged[:MOST_DRIFTED], DRIFT_SHOWN)


def print_rows(out: Console, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Some columns of some rows as a table for people."""
    table = Table(box=None, header_style="bold")
    for name in names:
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row[name])) for name in names))
    out.print(table)


def explanation(out: Console, found: dict[str, Any]) -> None:
    """Why a transaction has its score, and the frauds most similar to it."""
    lines = [
        f"{found['transaction_id']}: {found['amount']:,.2f} {found['currency']}, "
        f"{found['happened_at']:%Y-%m-%d %H:%M:%S} UTC, customer {found['customer_id']}, "
        f"terminal {found['terminal_id']}",
        f"score {found['score']:.4f} by model {found['model_version']}; "
        f"a usual transaction has {found['usual_score']:.4f}",
        "",
    ]
    raised = [f"  {r['contribution']:+.2f}  {r['text']}" for r in found["reasons"]]
    lines += (
        ["what raised it, by how much of the logit:", *raised] if raised else ["nothing raised it"]
    )
    for line in [*lines, *(f"note: {note}" for note in found["notes"]), ""]:
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    if found["nearest_known_frauds"]:
        out.print("known frauds that are most similar:")
        shown = pa.Table.from_pylist(found["nearest_known_frauds"])
        print_table(out, shown.drop_columns("happened_at"), as_json=False)
    else:
        out.print("no fraud is known that was scored by the same model")


def cost_tables(out: Console, found: dict[str, Any]) -> None:
    """What each day cost, what all did, and the same rows one by one."""
    money = found["currency"] or "money"
    table = Table(box=None, header_style="bold")
    for name in ("day", "asset", "attempts", "rows", "rows twice", "device-seconds", money):
        table.add_column(name)
    table.add_column(f"{money} a million rows")
    for line in [*found["days"], {"day": "in all", "asset": "", **found["total"]}]:
        table.add_row(
            str(line["day"]),
            escape(line["asset"]),
            f"{line['attempts']:,}",
            f"{line['rows']:,}",
            f"{line['rows_twice']:,}",
            f"{line['device_seconds']:,.2f}",
            _price(line["money"]),
            _price(line["money_per_million_rows"]),
        )
    out.print(table)
    per_million = found["total"]["device_seconds_per_million_rows"]
    if per_million is not None:
        out.print(f"\n{per_million:,.2f} device-seconds a million rows", highlight=False)
    for line in _on_demand_lines(found):
        out.print(line, highlight=False, markup=False)
    for note in found["notes"]:
        out.print(f"note: {note}", highlight=False, markup=False)


def _on_demand_lines(found: dict[str, Any]) -> list[str]:
    alone, saved = found["on_demand"], found["saving_percent"]
    if not alone:
        return []
    cost = f", {_price(alone['money'])} {found['currency']}" if alone["money"] is not None else ""
    lines = [
        f"one by one on demand, {alone['calls']:,} calls of the model on {alone['device']}: "
        f"median {alone['milliseconds_median']:.3f} ms, p95 {alone['milliseconds_p95']:.3f} ms",
        f"  all rows, {alone['calls_at_once']} calls at once, "
        f"the machine {alone['utilisation']:.0%} busy: "
        f"{alone['device_seconds']:,.2f} device-seconds{cost}",
    ]
    if saved:
        line = f"  the batch saved {saved['from_time']:.1f}% of the time"
        if saved["in_all"] is not None:
            line += f" and {saved['from_price']:.1f}% of the price, {saved['in_all']:.1f}% in all"
        lines.append(line)
    return lines


def _price(money: float | None) -> str:
    return "" if money is None else f"{money:,.6f}" if money < 0.01 else f"{money:,.4f}"


class Bars:
    """A progress bar for each thing that reports days, as soon as it reports one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self.days = 0

    def expect(self, days: int) -> None:
        """How many days each bar that appears from now on has."""
        self.days = days
        self._tasks.clear()

    def advance_to(self, what: str, done: int, of: int) -> None:
        """Set a bar."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=of)
        self._progress.update(self._tasks[what], completed=done, total=of)

    def advance(self, what: str, day: date) -> None:
        """One more day of something."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=self.days or None)
        self._progress.advance(self._tasks[what])


@contextmanager
def progress_bars(console: Console) -> Iterator[Bars]:
    """Progress bars on a terminal; nothing where nobody looks."""
    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        bars = Bars(shown)
        with progress.watched_by(bars):
            yield bars
