import datetime
from collections import Counter

from batch_assets_tests.simulate.received import Delivered


def test_fraud_reports_fit_their_transactions_and_come_about_seven_days_later(
    delivered: Delivered,
) -> None:
    home, summary, rows = delivered.home, delivered.summary, delivered.rows
    happened = {row.key: row.happened_at for row in rows if row.key and row.valid_time}
    delays: Counter[int] = Counter()
    labels: Counter[str] = Counter()
    for path in (home / "landing").glob("fraud_reports/*/*.csv"):
        header, *lines = path.read_text().splitlines()
        assert header == "transaction,time,fraud"
        for line in lines:
            key, time, label = line.split(",")
            moment = datetime.datetime.fromisoformat(time)
            assert moment.tzinfo is not None
            assert happened.get(key, moment) == moment
            day = moment.astimezone(datetime.UTC).date()
            delays[(datetime.date.fromisoformat(path.parent.name) - day).days] += 1
            labels[label] += 1
    assert set(delays) <= {6, 7, 8, 9}
    assert delays[7] > 0.9 * sum(delays.values())
    assert 0 < delays[6] < 0.1 * sum(delays.values())
    planted = {n: count for n, count in summary.planted.items() if n.startswith("fraud_reports")}
    assert labels["1"] == sum(planted.values())
    assert 0 < labels["0"] < 0.1 * labels["1"]


def test_every_day_has_a_rate_for_each_currency(delivered: Delivered) -> None:
    home, rows = delivered.home, delivered.rows
    files = sorted((home / "landing").glob("exchange_rates/*/rates.csv"))
    assert len(files) == 45
    used = {row.currency for row in rows} - {"EUR", "XTS"}
    assert used == {"USD", "JPY", "KRW"}
    for path in files:
        rates = [line.split(",") for line in path.read_text().splitlines()[1:]]
        assert used < {currency for _, currency, _ in rates}
        assert all(day == path.parent.name and float(rate) > 0 for day, _, rate in rates)
