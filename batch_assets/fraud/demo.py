"""``make demo``: simulated days from files to search, and what was found."""

from datetime import date, timedelta

from rich.console import Console

from batch_assets.fraud.drift import training_days
from batch_assets.fraud.pipeline import Pipeline
from batch_assets.fraud.prediction_quality import quality_of_days
from batch_assets.fraud.queries import alerts, similar
from batch_assets.fraud.run import open_pipeline, run_days
from batch_assets.fraud.summary import summarise
from batch_assets.instance import dagster_instance
from batch_assets.settings import data_home
from batch_assets.show import print_table, progress_bars
from batch_assets.simulate import simulate


def run_demo(out: Console, err: Console, days: int) -> None:
    """Simulate, run every asset, and print what a newcomer wants to see."""
    with progress_bars(err) as bars:
        simulated = simulate(
            data_home(), days=days, progress=lambda done, of: bars.advance_to("simulate", done, of)
        )
        pipeline = open_pipeline()
        with dagster_instance() as instance:
            done = run_days(instance, pipeline, simulated.first_day, simulated.last_day, bars)
    out.print()
    for line in summarise(pipeline, done)["text"]:
        out.print(line)
    _show_quality(out, pipeline, simulated.first_day, simulated.last_day)
    riskiest = alerts(pipeline, simulated.last_day, 10)
    out.print(f"\n[bold]the ten riskiest customers of {simulated.last_day}[/bold]")
    print_table(out, riskiest.drop_columns("model_version"), as_json=False)
    first = riskiest["transaction_id"][0].as_py()
    out.print(f"\n[bold]transactions most similar to the riskiest one, {first}[/bold]")
    found = similar(pipeline, first, top=5)
    shown = ["transaction_id", "day", "customer_id", "terminal_id", "amount", "score", "distance"]
    print_table(out, found.select(shown), as_json=False)
    out.print(f"\nall of it lies in {data_home()}; go on with\n", markup=False)
    out.print("  make dev                                  the Dagster UI over these data")
    out.print(f"  .venv/bin/batch-assets similar {first}    other questions: batch-assets --help")


def _show_quality(out: Console, pipeline: Pipeline, first: date, last: date) -> None:
    card = pipeline.live_card()
    trained_on = training_days(card) if card else []
    unseen = max(trained_on, default=first - timedelta(days=1)) + timedelta(days=1)
    quality = [q for q in quality_of_days(pipeline, unseen, last) if q["auc"] is not None]
    if not quality:
        out.print("quality: no day after those that the model was trained on has known labels yet")
        return
    mean = {n: sum(q[n] for q in quality) / len(quality) for n in ("auc", "average_precision")}
    share = sum(q["fraud_share"] for q in quality) / len(quality)
    out.print(
        f"quality on the {len(quality)} days with known labels after those it was trained on: "
        f"AUC {mean['auc']:.3f}, average precision {mean['average_precision']:.3f} "
        f"(chance: {share:.3f})"
    )
