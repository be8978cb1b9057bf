"""The features' SQL against a slow, obvious reference."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import sqrt
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.fraud.features import FEATURES, WINDOW_DAYS, days_read, days_touched
from batch_assets.fraud.sql import sql_text

FIRST, LAST = date(2018, 3, 1), date(2018, 4, 20)  # Europe's clocks change on 25 March
DAYS = [FIRST + timedelta(days=i) for i in range((LAST - FIRST).days + 1)]
NAMES = [feature.name for feature in FEATURES]
TOTALS = ("customer_days", "terminal_days", "terminal_frauds")


@dataclass(frozen=True)
class Tx:
    id: str
    at: datetime
    customer: str = "c"
    terminal: str = "t"
    hundredths: int = 1000
    zone: str = "UTC"

    @property
    def day(self) -> date:
        return self.at.date()

    @property
    def local(self) -> datetime:
        return self.at.replace(tzinfo=UTC).astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)


@dataclass(frozen=True)
class Label:
    id: str
    day: date
    known_on: date
    is_fraud: bool = True


Row = tuple[object, ...]


def reference(rows: Sequence[Tx], labels: Sequence[Label], scored: Iterable[Tx]) -> list[Row]:
    """Ids and features of the scored rows, in order: each window looked at row by row."""
    known_on = {label.id: label.known_on for label in labels if label.is_fraud}
    result: list[Row] = []
    for t in sorted(scored, key=lambda x: (x.at, x.id)):
        own = [r for r in rows if r.customer == t.customer]
        known = {i for i, day in known_on.items() if day <= t.day}
        found: dict[str, object] = {
            "amount": t.hundredths / 100,
            "during_weekend": int(t.local.weekday() >= 5),
            "during_night": int(t.local.hour <= 6),
            **_customer(t, own, known),
            **_terminal(t, rows, known),
        }
        result.append((t.id, *(found[name] for name in NAMES)))
    return result


def _customer(t: Tx, own: Sequence[Tx], known: set[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    others, earlier = {}, {}
    for w in WINDOW_DAYS:
        within = _within(own, t.at, w)
        found[f"customer_tx_count_{w}d"] = len(within)
        found[f"customer_amount_mean_{w}d"] = _mean(within)
        others[w] = [r for r in within if r.id != t.id]
        earlier[w] = [r.hundredths / 100 for r in within if r.at < t.at]
    mean, amount = _mean(others[30]), t.hundredths / 100
    found["customer_amount_ratio_7d"] = _ratio(amount, _mean(others[7]))
    found["customer_amount_ratio_30d"] = _ratio(amount, mean)
    found["customer_max_ratio_30d"] = _ratio(amount, max(earlier[30], default=0.0))
    found["customer_peak_7d"] = _ratio(max(earlier[7]), mean) if earlier[7] else 1.0
    before = [r for r in others[30] if r not in others[7]]
    found["customer_amount_ratio_before_7d"] = _ratio(amount, _mean(before))
    squares = [(r.hundredths / 100 - mean) ** 2 for r in others[30]]
    found["customer_amount_spread_30d"] = sqrt(sum(squares) / max(1, len(squares)))
    spread = sqrt((sum(squares) + mean**2) / (1 + len(squares)))
    found["customer_amount_deviation_30d"] = (amount - mean) / spread if spread else 0.0
    frauds = [r for r in _settled(own, t.at, 30) if r.id in known]
    found["customer_fraud_count_30d"] = len(frauds)
    found["customer_days_since_fraud"] = _days(t.at - frauds[-1].at) if frauds else 37.0
    return found


def _terminal(t: Tx, rows: Sequence[Tx], known: set[str]) -> dict[str, object]:
    there = [r for r in rows if r.terminal == t.terminal]
    found: dict[str, object] = {}
    for w in WINDOW_DAYS:
        settled = _settled(there, t.at, w)
        frauds = [r for r in settled if r.id in known]
        found[f"terminal_tx_count_{w}d"] = len(settled)
        found[f"terminal_fraud_share_{w}d"] = len(frauds) / len(settled) if settled else 0.0
    found["terminal_fraud_count_30d"] = len(frauds)
    excess = [_excess(fraud, rows) for fraud in frauds]
    found["terminal_usual_fraud_count_30d"] = sum(e <= 1500 for e in excess)
    found["terminal_fraud_excess_30d"] = sum(excess) / 1000 / len(excess) if excess else 0.0
    found["terminal_days_since_fraud"] = _days(t.at - frauds[-1].at) if frauds else 37.0
    found["terminal_days_clean"] = _days(settled[-1].at - frauds[-1].at) if frauds else 37.0
    return found | _run(t, there, known)


def _run(t: Tx, there: Sequence[Tx], known: set[str]) -> dict[str, object]:
    """The frauds after the last day that was not of frauds alone."""
    ago = {r.id: (t.day - r.day).days for r in there if 8 <= (t.day - r.day).days <= 37}
    clean = min((days for i, days in ago.items() if i not in known), default=38)
    run = [days for i, days in ago.items() if i in known and days < clean]
    return {
        "terminal_fraud_run_days": max(run, default=0),
        "terminal_fraud_run_days_at_most": min(clean, 37) if run else 0,
    }


def _excess(fraud: Tx, rows: Sequence[Tx]) -> int:
    """Thousandths of what else the customer paid on average on the fraud's day and six more."""
    week = [fraud.day + timedelta(days=i) for i in range(7)]
    others = [r for r in rows if r.customer == fraud.customer and r.day in week and r != fraud]
    spent = sum(r.hundredths for r in others)
    return min(10_000, 1000 * fraud.hundredths * len(others) // spent) if spent else 1000


def _within(rows: Sequence[Tx], end: datetime, days: int) -> list[Tx]:
    """Rows of the days up to and with ``end``, in order of time."""
    found = [r for r in rows if end - timedelta(days=days) < r.at <= end]
    return sorted(found, key=lambda r: r.at)


def _settled(rows: Sequence[Tx], at: datetime, days: int) -> list[Tx]:
    return _within(rows, at - timedelta(days=7), days)


def _mean(rows: Sequence[Tx]) -> float:
    return sum(r.hundredths for r in rows) / (100 * len(rows)) if rows else 0.0


def _ratio(amount: float, usual: float) -> float:
    return amount / usual if usual else 1.0


def _days(time: timedelta) -> float:
    return time / timedelta(days=1)


class Store:
    """The tables in DuckDB; a statement sees only the days that it is said to read."""

    def __init__(self, rows: Sequence[Tx], labels: Sequence[Label]) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("SET threads = 1")
        self.tables = {"clean_transactions": _clean(rows), "fraud_labels": _labels(labels)}
        for name, table in self.tables.items():
            self.connection.register(name, table)
        first = min((r.day for r in rows), default=FIRST)
        last = max((r.day for r in rows), default=LAST)
        self.tables |= {name: self._select(name, first, last) for name in TOTALS}

    def features(self, first: date, last: date) -> pa.Table:
        """``transaction_features`` of a range of days."""
        for name in ("clean_transactions", *TOTALS):
            self.connection.register(f"all_{name}", self.tables[name])
            ranges = days_read(first, last)[name]
            within = " OR ".join(f"day BETWEEN '{a}' AND '{b}'" for a, b in ranges) or "false"
            self.connection.unregister(name)
            self.connection.execute(
                f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM all_{name} WHERE {within}"
            )
        return self._select("transaction_features", first, last)

    def _select(self, name: str, first: date, last: date) -> pa.Table:
        parameters = {"first_day": first, "last_day": last}
        return self.connection.sql(sql_text(name), params=parameters).to_arrow_table()


def _clean(rows: Sequence[Tx]) -> pa.Table:
    when, text = pa.timestamp("us"), pa.string()
    return pa.table(
        {
            "transaction_id": pa.array([r.id for r in rows], text),
            "customer_id": pa.array([r.customer for r in rows], text),
            "terminal_id": pa.array([r.terminal for r in rows], text),
            "happened_at": pa.array([r.at for r in rows], when),
            "local_time": pa.array([r.local for r in rows], when),
            "amount": pa.array(
                [Decimal(r.hundredths).scaleb(-2) for r in rows], pa.decimal128(18, 2)
            ),
            "day": pa.array([r.day for r in rows], pa.date32()),
        }
    )


def _labels(labels: Sequence[Label]) -> pa.Table:
    return pa.table(
        {
            "transaction_id": pa.array([label.id for label in labels], pa.string()),
            "is_fraud": pa.array([label.is_fraud for label in labels], pa.bool_()),
            "known_on": pa.array([label.known_on for label in labels], pa.date32()),
            "day": pa.array([label.day for label in labels], pa.date32()),
        }
    )


@contextmanager
def store(rows: Sequence[Tx], labels: Sequence[Label] = ()) -> Iterator[Store]:
    made = Store(rows, labels)
    try:
        yield made
    finally:
        made.connection.close()


def values(table: pa.Table) -> list[Row]:
    columns = table.select(["transaction_id", *NAMES]).to_pydict()
    return list(zip(*columns.values(), strict=True))


def approximately(rows: Sequence[Row]) -> list[Row]:
    """Rows that equal others whose floats differ by rounding alone; the reference rounds often."""
    return [
        tuple(pytest.approx(v, rel=1e-9, abs=1e-7) if isinstance(v, float) else v for v in row)
        for row in rows
    ]


def feature(table: pa.Table, name: str, transaction_id: str = "x") -> object:
    return table.column(name)[
        table.column("transaction_id").to_pylist().index(transaction_id)
    ].as_py()


# Days and clock times that often lie exactly a window apart, or a microsecond off.
_OFFSETS = st.sampled_from([0, 1, 6, 7, 8, 13, 14, 15, 29, 30, 31, 36, 37, 38, 44, 50])
_NOON = timedelta(hours=12)
_CLOCKS = st.sampled_from(
    [
        timedelta(),
        timedelta(hours=1),
        _NOON,
        _NOON - timedelta(microseconds=1),
        _NOON + timedelta(microseconds=1),
        timedelta(days=1) - timedelta(microseconds=1),
    ]
)


@st.composite
def data(draw: st.DrawFn) -> tuple[list[Tx], list[Label]]:
    midnight = datetime.combine(FIRST, datetime.min.time())
    rows = [
        Tx(
            f"x{i}",
            midnight + timedelta(days=draw(_OFFSETS)) + draw(_CLOCKS),
            draw(st.sampled_from(["a", "b"])),
            draw(st.sampled_from(["s", "t"])),
            draw(st.integers(0, 30_000)),
            draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"])),
        )
        for i in range(draw(st.integers(0, 25)))
    ]
    orphans = [Tx("orphan", midnight + timedelta(days=draw(_OFFSETS)))]
    delays = st.sampled_from([-2, 0, 6, 7, 8, 9, 14, 15, 20, 36, 37, 38, 60])
    labels = [
        Label(
            r.id,
            r.day,
            r.day + timedelta(days=draw(delays)),
            draw(st.sampled_from([True, True, False])),
        )
        for r in [*rows, *orphans]
        if draw(st.booleans())
    ]
    return rows, labels


@given(data())
@settings(deadline=None, max_examples=40)
def test_a_range_agrees_with_the_reference(made: tuple[list[Tx], list[Label]]) -> None:
    rows, labels = made
    with store(rows, labels) as tables:
        assert values(tables.features(FIRST, LAST)) == approximately(reference(rows, labels, rows))


@given(data(), st.sets(st.sampled_from(DAYS[1:]), max_size=6))
@settings(deadline=None, max_examples=25)
def test_a_range_split_anywhere_gives_the_same_rows(
    made: tuple[list[Tx], list[Label]], cuts: set[date]
) -> None:
    starts = [FIRST, *sorted(cuts)]
    ends = [*(cut - timedelta(days=1) for cut in sorted(cuts)), LAST]
    with store(*made) as tables:
        parts = [tables.features(a, b) for a, b in zip(starts, ends, strict=True)]
        assert pa.concat_tables(parts).equals(tables.features(FIRST, LAST))


@given(data())
@settings(deadline=None, max_examples=15)
def test_each_day_alone_gives_the_rows_of_the_range(made: tuple[list[Tx], list[Label]]) -> None:
    days = sorted({row.day for row in made[0]})
    with store(*made) as tables:
        whole = tables.features(FIRST, LAST)
        alone = [tables.features(day, day) for day in days]
        assert pa.concat_tables([*alone, whole.slice(0, 0)]).equals(whole)


@given(data(), st.data())
@settings(deadline=None, max_examples=30)
def test_a_row_touches_no_day_outside_days_touched(
    made: tuple[list[Tx], list[Label]], draws: st.DataObject
) -> None:
    rows, labels = made
    late = Tx(
        "late", datetime.combine(draws.draw(st.sampled_from(DAYS)), datetime.min.time()), "a", "s"
    )
    first, last = days_touched("clean_transactions", late.day)
    with store(rows, labels) as before, store([*rows, late], labels) as after:
        old, new = before.features(FIRST, LAST), after.features(FIRST, LAST)
    changed = set(zip(old["day"].to_pylist(), values(old), strict=True)) ^ set(
        zip(new["day"].to_pylist(), values(new), strict=True)
    )
    assert all(first <= day <= last for day, _ in changed)


AT = datetime(2018, 4, 10, 12)
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize("days", [1, 7, 30])
def test_a_customer_window_is_open_at_its_far_end(days: int) -> None:
    far = Tx("far", AT - timedelta(days=days))
    scored = Tx("x", AT)
    for first in (AT.date(), FIRST):
        with store([far, scored]) as tables:
            found = feature(tables.features(first, AT.date()), f"customer_tx_count_{days}d")
        assert found == 1
        with store([replace(far, at=far.at + TICK), scored]) as tables:
            found = feature(tables.features(first, AT.date()), f"customer_tx_count_{days}d")
        assert found == 2


@pytest.mark.parametrize("days", [1, 7, 30])
def test_a_terminal_window_is_open_at_its_far_end_and_closed_a_week_before(days: int) -> None:
    week, scored = AT - timedelta(days=7), Tx("x", AT)
    inside = [Tx("far", week - timedelta(days=days) + TICK), Tx("near", week)]
    outside = [Tx("beyond", week - timedelta(days=days)), Tx("after", week + TICK)]
    for first in (AT.date(), FIRST):
        with store([*inside, *outside, scored]) as tables:
            found = feature(tables.features(first, AT.date()), f"terminal_tx_count_{days}d")
        assert found == 2


def test_all_of_the_same_second_count_for_each_other() -> None:
    rows = [Tx(f"x{i}", AT, hundredths=100 * i) for i in range(3)]
    with store(rows) as tables:
        found = tables.features(AT.date(), AT.date())
    assert found["customer_tx_count_1d"].to_pylist() == [3, 3, 3]
    assert found["customer_amount_mean_1d"].to_pylist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("known_after", "share"), [(-1, 1.0), (7, 1.0), (10, 1.0), (11, 0.0), (40, 0.0)]
)
def test_a_fraud_counts_from_the_day_its_label_is_known(known_after: int, share: float) -> None:
    fraud = Tx("fraud", AT - timedelta(days=10))
    label = Label("fraud", fraud.day, fraud.day + timedelta(days=known_after))
    with store([fraud, Tx("x", AT)], [label]) as tables:
        found = tables.features(AT.date(), AT.date())
    assert feature(found, "terminal_fraud_share_7d") == share
    assert feature(found, "terminal_tx_count_7d") == 1


def test_a_label_of_no_transaction_and_a_genuine_label_never_count() -> None:
    genuine, day = Tx("genuine", AT - timedelta(days=8)), AT.date() - timedelta(days=8)
    labels = [Label("nobody", day, day), Label("genuine", day, day, is_fraud=False)]
    with store([genuine, Tx("x", AT)], labels) as tables:
        found = tables.features(AT.date(), AT.date())
    assert feature(found, "terminal_fraud_share_30d") == 0.0


@pytest.mark.parametrize(
    ("at", "zone", "weekend", "night"),
    [
        (datetime(2018, 3, 25, 0, 59), "Europe/Berlin", 1, 1),  # 01:59, before the hour that is not
        (datetime(2018, 3, 25, 4, 59, 59), "Europe/Berlin", 1, 1),  # 06:59:59 in summer time
        (datetime(2018, 3, 25, 5), "Europe/Berlin", 1, 0),
        (datetime(2018, 3, 24, 5, 59), "Europe/Berlin", 1, 1),  # 06:59 in winter time
        (datetime(2018, 3, 24, 6), "Europe/Berlin", 1, 0),
        (datetime(2018, 3, 26, 3, 59), "America/New_York", 1, 0),  # still Sunday there
        (datetime(2018, 3, 25, 15), "Asia/Tokyo", 0, 1),  # already Monday there
    ],
)
def test_weekend_and_night_follow_the_local_clock(
    at: datetime, zone: str, weekend: int, night: int
) -> None:
    with store([Tx("x", at, zone=zone)]) as tables:
        found = tables.features(at.date(), at.date())
    assert (feature(found, "during_weekend"), feature(found, "during_night")) == (weekend, night)


@pytest.mark.parametrize("hundredths", [10**18 - 1, -(10**18) + 1])
def test_amounts_at_the_limits_of_their_type_leave_the_counts_right(hundredths: int) -> None:
    rows = [
        Tx(f"x{i:02}", AT - timedelta(days=i // 4, seconds=-i), hundredths=hundredths)
        for i in range(40)
    ]
    with store(rows) as tables:
        found = tables.features(AT.date(), AT.date())
    assert found["customer_tx_count_30d"].to_pylist() == [37, 38, 39, 40]
    assert found["customer_amount_mean_30d"].to_pylist() == pytest.approx([hundredths / 100] * 4)


def test_the_columns_are_those_promised() -> None:
    with store([]) as tables:
        schema = tables.features(FIRST, LAST).schema
    assert schema.names == [
        "transaction_id",
        "customer_id",
        "terminal_id",
        "happened_at",
        *NAMES,
        "day",
    ]
    assert [schema.field(f.name).type for f in FEATURES] == [f.type for f in FEATURES]


def test_the_look_ahead_check_computes_each_feature_that_looks_back() -> None:
    check = sql_text("check_look_ahead")
    own = {"amount", "during_weekend", "during_night"}
    assert [name for name in NAMES if f"'{name}'" not in check] == [n for n in NAMES if n in own]


@pytest.mark.parametrize("name", NAMES)
def test_every_feature_says_what_it_is_and_to_which_group_it_belongs(name: str) -> None:
    (found,) = [feature for feature in FEATURES if feature.name == name]
    assert found.description.endswith(".")
    assert found.group


@given(data())
@settings(deadline=None, max_examples=10)
def test_the_look_ahead_check_finds_nothing_wrong(made: tuple[list[Tx], list[Label]]) -> None:
    with store(*made) as tables:
        features = tables.features(FIRST, LAST)
        for name, table in (*tables.tables.items(), ("transaction_features", features)):
            tables.connection.register(f"checked_{name}", table)
            tables.connection.execute(
                f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM checked_{name}"
            )
        assert tables.connection.sql(sql_text("check_look_ahead")).fetchall() == []


def test_amounts_are_compared_with_the_customers_other_payments() -> None:
    hours = [(80, 1000), (240, 3000), (72, 2000), (0, 9000)]
    rows = [
        Tx("x" if not back else f"x{back}", AT - timedelta(hours=back), hundredths=h)
        for back, h in hours
    ]
    with store(rows) as tables:
        found = tables.features(AT.date(), AT.date())
    assert feature(found, "customer_amount_ratio_7d") == 90 / 15
    assert feature(found, "customer_amount_ratio_30d") == 90 / 20
    assert feature(found, "customer_amount_ratio_before_7d") == 90 / 30
    assert feature(found, "customer_max_ratio_30d") == 90 / 30
    assert feature(found, "customer_peak_7d") == 20 / 20
    assert feature(found, "customer_amount_spread_30d") == pytest.approx(sqrt(200 / 3))
    expected = 70 / sqrt((200 + 20**2) / 4)
    assert feature(found, "customer_amount_deviation_30d") == pytest.approx(expected)


def test_a_first_payment_is_compared_with_nothing() -> None:
    with store([Tx("x", AT)]) as tables:
        (found,) = tables.features(AT.date(), AT.date()).select(NAMES).to_pylist()
    ratios = {n: v for n, v in found.items() if "_ratio_" in n or "_peak_" in n}
    assert set(ratios.values()) == {1.0}
    assert found["customer_amount_deviation_30d"] == found["customer_amount_spread_30d"] == 0.0
    assert found["terminal_days_since_fraud"] == found["terminal_days_clean"] == 37.0


def test_frauds_of_usual_amounts_are_told_from_unusual_ones() -> None:
    rows = [
        Tx("usual", AT - timedelta(days=12), "a", "t", 1200),
        Tx("other", AT - timedelta(days=9), "a", "s", 1000),
        Tx("unusual", AT - timedelta(days=10), "b", "t", 5000),
        Tx("another", AT - timedelta(days=4), "b", "s", 1000),
        Tx("late", AT - timedelta(days=3), "b", "s", 9000),  # the eighth day does not count
        Tx("x", AT, "c", "t"),
    ]
    labels = [Label(r.id, r.day, r.day + timedelta(days=7)) for r in (rows[0], rows[2])]
    with store(rows, labels) as tables:
        found = tables.features(AT.date(), AT.date())
    assert feature(found, "terminal_fraud_count_30d") == 2
    assert feature(found, "terminal_usual_fraud_count_30d") == 1
    assert feature(found, "terminal_fraud_excess_30d") == pytest.approx((1.2 + 5.0) / 2)
    assert feature(found, "terminal_days_since_fraud") == 10.0
    assert feature(found, "terminal_days_clean") == 0.0


def test_a_run_of_frauds_begins_after_the_last_day_with_another_transaction() -> None:
    ago = [("fraud", 30), ("clean", 25), ("first", 21), ("also", 21), ("last", 9), ("late", 7)]
    rows = [Tx(i, AT - timedelta(days=days)) for i, days in ago]
    labels = [Label(r.id, r.day, r.day + timedelta(days=7)) for r in rows if r.id != "clean"]
    with store([*rows, Tx("x", AT)], labels) as tables:
        found = tables.features(AT.date(), AT.date())
    assert feature(found, "terminal_fraud_run_days") == 21
    assert feature(found, "terminal_fraud_run_days_at_most") == 25
    with store([*rows, Tx("other", AT - timedelta(days=9)), Tx("x", AT)], labels) as tables:
        found = tables.features(AT.date(), AT.date())
    assert feature(found, "terminal_fraud_run_days") == 0
    assert feature(found, "terminal_fraud_run_days_at_most") == 0


def test_one_day_reads_few_days_row_by_row() -> None:
    day = date(2018, 4, 10)
    read = days_read(day, day)
    back = {
        (day - a).days - i for a, b in read["clean_transactions"] for i in range((b - a).days + 1)
    }
    assert back == {0, 1, 7, 8, 14, 30, 37}
    assert read["terminal_frauds"] == ((date(2018, 3, 4), date(2018, 4, 3)),)


def test_the_handbook_days_of_every_hundredth_customer_agree_with_the_reference(
    handbook: Path,
) -> None:
    rows, labels = _handbook(handbook, date(2018, 4, 1), date(2018, 5, 12))
    days = [date(2018, 4, 10), date(2018, 5, 12)]
    with store(rows, labels) as tables:
        whole = tables.features(days[0], days[-1])
        for day in days:
            alone = tables.features(day, day)
            assert alone.equals(whole.filter(pa.compute.equal(whole["day"], pa.scalar(day))))
            chosen = [r for r in rows if r.day == day and int(r.customer) % 100 == 0]
            ids = {r.id for r in chosen}
            expected = reference(*_relevant(rows, labels, chosen), chosen)
            found = [row for row in values(alone) if row[0] in ids]
            assert found == approximately(expected)


def _relevant(
    rows: Sequence[Tx], labels: Sequence[Label], chosen: Sequence[Tx]
) -> tuple[list[Tx], list[Label]]:
    """Rows of the same customers or terminals, and of whom was defrauded at these terminals: keeps
    the slow reference bearable."""
    customers, terminals = {r.customer for r in chosen}, {r.terminal for r in chosen}
    known = {label.id for label in labels}
    customers |= {r.customer for r in rows if r.terminal in terminals and r.id in known}
    near = [r for r in rows if r.customer in customers or r.terminal in terminals]
    return near, list(labels)


def _handbook(folder: Path, first: date, last: date) -> tuple[list[Tx], list[Label]]:
    files = [
        str(folder / f"{first + timedelta(days=i)}.parquet") for i in range((last - first).days + 1)
    ]
    found = duckdb.execute(
        "SELECT transaction_id::VARCHAR, tx_datetime::TIMESTAMP, customer_id::VARCHAR, "
        "terminal_id::VARCHAR, round(tx_amount * 100)::BIGINT, tx_fraud FROM read_parquet($files) "
        "WHERE customer_id % 10 = 0",
        {"files": files},
    ).fetchall()
    rows = [Tx(*values) for *values, _ in found]
    labels = [
        Label(row.id, row.day, row.day + timedelta(days=7))
        for row, (*_, fraud) in zip(rows, found, strict=True)
        if fraud
    ]
    return rows, labels
