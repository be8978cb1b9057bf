"""Embedding lift: frauds among the ten nearest of a fraud against chance, features as baseline."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import duckdb

from batch_assets.fraud.embedding_lift import KNOWN_DAYS, embedding_lift
from batch_assets.fraud.features import LABEL_DELAY_DAYS, LOOK_BACK_DAYS
from batch_assets.fraud.keys import (
    CLEAN,
    FEATURES,
    LABELS,
    PREDICTIONS,
    RATES,
    TOTALS,
    days_between,
)
from batch_assets.fraud.pipeline import KINDS, Pipeline
from batch_assets.fraud.run import open_pipeline
from batch_assets.fraud.scorer import MODEL
from batch_assets.fraud.train_model import train_and_save
from batch_assets.simulate import simulate
from benchmarks.harness import Result, Watch, data_home, in_own_process

TRAINING_DAYS, TEST_DAYS = 28, 7
SIMULATED_DAYS = LOOK_BACK_DAYS + TRAINING_DAYS + 2 * LABEL_DELAY_DAYS + TEST_DAYS
NOTES = """\
Frauds are those known at the end. The pool is all transactions of the fraud's day, or those of
them with another customer and another terminal, or the last seven days whose labels had arrived by
then; the fraud itself is left out. Of the same kind: of its fraud scenario, where the data tell
it, which no feature knows. Intervals are bootstrapped over the frauds. Spaces: the embedding by
distance, as it is searched, and by cosine; the features that the model reads, each with mean 0 and
deviation 1; the logit of the score alone."""
FEEDS = """
feeds:
  handbook:
    glob: %s/{day}.parquet
    format: parquet
    currency: EUR
    label_delay_days: 7
    columns:
      key: transaction_id
      customer: customer_id
      terminal: terminal_id
      amount: tx_amount
      time: tx_datetime
      label: tx_fraud
"""


def main() -> Result:
    """Train, score and measure on the days that follow, for simulated data and the handbook's."""
    with tempfile.TemporaryDirectory(prefix="embeddings-") as folder:
        found: Result = {"simulated": in_own_process(_simulated, Path(folder) / "simulated")}
        if handbook := os.environ.get("BATCH_ASSETS_HANDBOOK"):
            found["handbook"] = in_own_process(_handbook, Path(folder) / "handbook", Path(handbook))
        else:
            found["handbook"] = "skipped: BATCH_ASSETS_HANDBOOK is not set"
    return found


def _simulated(home: Path) -> Result:
    home.mkdir()
    with data_home(home):
        summary = simulate(home, days=SIMULATED_DAYS)
        return _measure(open_pipeline(), summary.last_day)


def markdown(results: Result) -> str:
    """A table for each source of data."""
    lines = []
    for source, found in results.items():
        if isinstance(found, str):
            lines += [f"{source}: {found}", ""]
            continue
        lines += [
            f"## {source}",
            "",
            f"Trained on {found['trained_on']} with {found['features_of_the_model']} features, "
            f"measured on the frauds of {found['measured_on']}.",
            "",
            "| neighbours among | in the space of | lift | 95 % interval | frauds of ten "
            "| of the same kind | by chance | frauds asked for |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for pool, spaces in found["lift"].items():
            lines += [f"| {pool} | {space} | {_cells(f)} |" for space, f in spaces.items()]
        lines.append("")
    return "\n".join([*lines, NOTES])


def _cells(figures: Result) -> str:
    same = figures.get("share_of_frauds_of_the_same_kind")
    shown = (
        f"{figures['lift']:.1f}",
        f"{figures['lift_low']:.1f} to {figures['lift_high']:.1f}",
        f"{10 * figures['share_of_frauds']:.2f}",
        "" if same is None else f"{10 * same:.2f}",
        f"{10 * figures['chance']:.3f}",
        f"{figures['queries']:,}",
    )
    return " | ".join(shown)


def _handbook(home: Path, files: Path) -> Result:
    """The last days of the folder."""
    newest = date.fromisoformat(max(files.glob("????-??-??.parquet")).stem)
    home.mkdir()
    first = newest - timedelta(days=SIMULATED_DAYS - 1)
    (home / "settings.toml").write_text(f'start_date = {first}\ncurrency = "EUR"\n')
    (home / "feeds.yaml").write_text(FEEDS % files)
    with data_home(home):
        return _measure(open_pipeline(), newest, _kinds(files))


def _kinds(files: Path) -> dict[str, int]:
    """Scenario of each fraud, which no feature knows."""
    statement = (
        "SELECT transaction_id::VARCHAR, tx_fraud_scenario FROM read_parquet($files) "
        "WHERE tx_fraud_scenario > 0"
    )
    found = duckdb.execute(statement, {"files": f"{files}/????-??-??.parquet"}).fetchall()
    return dict(found)


def _measure(pipeline: Pipeline, newest: date, kinds: Mapping[str, int] | None = None) -> Result:
    """Frauds of the newest days whose labels have had time to arrive."""
    watch = Watch()
    last = newest - timedelta(days=LABEL_DELAY_DAYS)
    test = days_between(last - timedelta(days=TEST_DAYS - 1), last)
    trained_last = test[0] - timedelta(days=LABEL_DELAY_DAYS + 1)
    training = days_between(trained_last - timedelta(days=TRAINING_DAYS - 1), trained_last)
    days = days_between(newest - timedelta(days=SIMULATED_DAYS - 1), newest)
    _build_features(pipeline, days)
    version, card = train_and_save(pipeline, training, pipeline.settings.training_seed)
    pipeline.models.promote(version, MODEL)
    scored = days_between(test[0] - timedelta(days=LABEL_DELAY_DAYS + KNOWN_DAYS), last)
    pipeline.build(PREDICTIONS, scored)
    return {
        "trained_on": f"{training[0]} to {training[-1]}",
        "measured_on": f"{test[0]} to {test[-1]}",
        "features_of_the_model": len(card["features"]),
        "lift": embedding_lift(pipeline, test, kinds),
        "minutes": round(watch.seconds / 60, 1),
    }


def _build_features(pipeline: Pipeline, days: Sequence[date]) -> None:
    for kind in KINDS:
        pipeline.ingest(kind, days)
    for step in (RATES, CLEAN, LABELS, TOTALS, FEATURES):
        pipeline.build(step, days)
