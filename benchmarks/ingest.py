"""From landing files to the raw table: a million rows in each format, and many small files."""

import tempfile
from pathlib import Path

from benchmarks.deliveries import DAY, Delivery, deliver
from benchmarks.harness import Result, Watch, Work, data_home, in_own_process, measure

ROWS = 1_000_000
SMALL_FILES_ROWS = 200_000
CASES = {
    "CSV": Delivery("csv"),
    "CSV, gzipped, European notation, local time": Delivery("csv.gz", european=True),
    "JSON lines": Delivery("jsonl"),
    "Parquet": Delivery("parquet"),
    "200 small Parquet files on 20 days": Delivery("parquet", files=10, days=20),
}


def main() -> Result:
    """Measure each format."""
    results: Result = {}
    for name, how in CASES.items():
        with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
            home = Path(folder)
            in_own_process(deliver, home, ROWS if how.days == 1 else SMALL_FILES_ROWS, how)
            results[name] = measure(ingest_all, home, how)
            results[name]["landing_bytes"] = sum(
                path.stat().st_size for path in (home / "landing").rglob("*") if path.is_file()
            )
    return results


def ingest_all(home: Path, how: Delivery) -> Work:
    """Ingest all days of a data home into a new warehouse."""
    with data_home(home), tempfile.TemporaryDirectory(dir=home) as folder:
        from batch_assets.fraud import tables
        from batch_assets.fraud.feeds import load_feeds
        from batch_assets.fraud.ingest import ingest
        from batch_assets.fraud.keys import days_between
        from batch_assets.fraud.repeated import check_repeated_keys
        from batch_assets.settings import load_settings
        from batch_assets.storage.warehouse import Warehouse

        settings = load_settings()
        warehouse = Warehouse(f"{folder}/warehouse", settings.memory_limit, settings.threads)
        days = days_between(DAY, how.last_day)
        with warehouse.connect():  # imports what it needs
            watch = Watch()
        ingest(warehouse, load_feeds(home), settings, "transactions", days)
        reading = watch.seconds
        check_repeated_keys(warehouse, days)
        seconds = watch.seconds
        rows = warehouse.snapshot(tables.RAW_TRANSACTIONS).rows()
    return Work(rows, seconds, {"seconds_for_repeated_keys": round(seconds - reading, 3)})
