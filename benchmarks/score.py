"""Scoring of a million transactions: the network alone, and all the way into both stores."""

import shutil
import tempfile
from pathlib import Path

from benchmarks.deliveries import DAY, Delivery
from benchmarks.harness import Result, Watch, Work, in_own_process, measure
from benchmarks.steps import build, open_home, prepare

ROWS = 1_000_000
BEFORE = (
    "exchange_rates",
    "clean_transactions",
    "fraud_labels",
    "daily_totals",
    "transaction_features",
)


def main() -> Result:
    """Measure on the device that is there; the model's weights do not matter for the speed."""
    with tempfile.TemporaryDirectory(prefix="score-") as folder:
        home = Path(folder)
        in_own_process(prepare, home, ROWS, Delivery("parquet"), BEFORE)
        in_own_process(train_briefly, home)
        return {
            "network alone": measure(score_in_memory, home),
            "features to predictions (Delta) and embeddings (LanceDB)": measure(score_day, home),
            "indexes of the embeddings": measure(index_day, home, runs=1),
        }


def train_briefly(home: Path) -> None:
    """A live model of the usual size, after one epoch."""
    from batch_assets.fraud.features import FEATURES
    from batch_assets.fraud.scorer import MODEL
    from batch_assets.fraud.training import TrainingOptions, train
    from batch_assets.fraud.training_data import labelled_rows
    from batch_assets.inference.fitting import FitOptions

    pipeline = open_home(home)
    rows = labelled_rows(pipeline.state(), [DAY], 50_000)
    tensors, card = train(
        rows.table,
        rows.table["is_fraud"],
        rows.table["day"],
        feature_names=[feature.name for feature in FEATURES],
        genuine_kept=rows.genuine_kept,
        options=TrainingOptions(fit=FitOptions(epochs=1)),
    )
    pipeline.models.promote(pipeline.models.save(tensors, card), MODEL)


def score_in_memory(home: Path) -> Work:
    """The network over features that are in memory."""
    import pyarrow.parquet as pq

    pipeline = open_home(home)
    scorer = pipeline.scorer()
    files = (home / "warehouse" / "transaction_features").rglob("*.parquet")
    batches = [b for path in files for b in pq.ParquetFile(path).iter_batches(65_536)]
    watch = Watch()
    rows = sum(batch.num_rows for batch in scorer.score(batches, ["transaction_id"]))
    return Work(rows, watch.seconds, {"device": str(scorer.device)})


def score_day(home: Path) -> Work:
    """The step as the pipeline does it, on empty stores."""
    pipeline = open_home(home)
    shutil.rmtree(home / "warehouse" / "fraud_predictions", ignore_errors=True)
    shutil.rmtree(home / "vectors", ignore_errors=True)
    pipeline.scorer()
    watch = Watch()
    build(pipeline, ["fraud_predictions"])
    return Work(ROWS, watch.seconds)


def index_day(home: Path) -> Work:
    """Scalar and vector indexes over the vectors that the run before left."""
    from batch_assets.fraud.embeddings import EMBEDDINGS

    pipeline = open_home(home)
    watch = Watch()
    pipeline.vectors.optimise(EMBEDDINGS)
    return Work(ROWS, watch.seconds)
