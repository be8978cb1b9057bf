"""The fraud workload as the server serves it."""

from batch_assets.fraud import tables
from batch_assets.fraud.answers import FraudAnswers
from batch_assets.fraud.embeddings import EMBEDDINGS
from batch_assets.fraud.realtime_request import TransactionRequest
from batch_assets.fraud.scorer import MODEL
from batch_assets.serving.workload import RealtimeModel, Workload


def _realtime() -> RealtimeModel:
    from batch_assets.fraud.realtime import FraudRealtime  # what scores takes a while to import

    return FraudRealtime()


def fraud_workload() -> Workload:
    """What is served below ``/v1/fraud``."""
    answers = FraudAnswers()
    return Workload(
        name="fraud",
        title="Fraud",
        words={
            "one": "transaction",
            "many": "transactions",
            "positive": "fraud",
            "negative": "no fraud",
        },
        model=MODEL,
        key="transaction_id",
        time="happened_at",
        score="score",
        predictions=tables.FRAUD_PREDICTIONS,
        vectors=EMBEDDINGS,
        entities={"customers": "customer_id", "terminals": "terminal_id"},
        equals=("customer_id", "terminal_id"),
        ranges=("amount", "score"),
        request=TransactionRequest,
        realtime=_realtime,
        units=answers.units,
        known=answers.known,
        refresh=answers.refresh,
        alerts=answers.alerts,
        explain=answers.explain,
        asset="fraud_predictions",
        example={
            "transaction_id": "E260430-10002163",
            "customer_id": "K1914",
            "terminal_id": "H777",
            "happened_at": "2026-04-30T07:46:54Z",
            "amount": 83.19,
            "score": 0.0213,
            "model_version": "1292bdc780cf2463",
            "scored_at": "2026-05-01T02:03:11Z",
            "day": "2026-04-30",
        },
    )
