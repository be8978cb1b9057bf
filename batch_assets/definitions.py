"""What Dagster loads."""

from datetime import timedelta
from functools import partial

import dagster as dg

from batch_assets.engines.gpu import GPU
from batch_assets.fraud import checks, drift_checks, jobs
from batch_assets.fraud.assets import (
    cleaning,
    features,
    ingestion,
    model,
    monitoring,
    own,
    reconciliation,
    report,
    scoring,
)
from batch_assets.run_records import write_without_waiting
from batch_assets.settings import load_settings
from batch_assets.storage.resources import ModelStoreResource, WarehouseResource
from batch_assets.storage.vectors.resource import LanceDBResource

write_without_waiting()
settings = load_settings()
policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=settings.freshness_hours))
with_policy = partial(dg.apply_freshness_policy, policy=policy, overwrite_existing=False)
assets = dg.load_assets_from_modules(
    [ingestion, cleaning, features, model, scoring, report, monitoring, reconciliation]
)

defs = dg.Definitions(
    assets=[
        a.map_asset_specs(with_policy)
        for a in [*assets, *own.ASSETS]
        if isinstance(a, dg.AssetsDefinition)
    ],
    asset_checks=[
        *checks.BLOCKING_CHECKS,
        *checks.NEWEST_DAY_CHECKS,
        *drift_checks.DRIFT_CHECKS,
        *reconciliation.CHECKS,
        *own.CHECKS,
    ],
    jobs=[
        jobs.daily_job,
        jobs.ingest_job,
        jobs.features_job,
        jobs.scoring_job,
        jobs.training_job,
        jobs.freshness_job,
        jobs.maintenance,
    ],
    schedules=[
        jobs.nightly,
        jobs.weekly_training,
        jobs.daily_freshness,
        jobs.weekly_maintenance,
    ],
    sensors=[jobs.late_data, jobs.model_promoted],
    resources={
        "warehouse": WarehouseResource(
            root=str(settings.home / "warehouse"),
            memory_limit=settings.memory_limit,
            threads=settings.threads,
        ),
        "vectors": LanceDBResource(uri=str(settings.home / "vectors")),
        "models": ModelStoreResource(root=str(settings.home / "models")),
        "gpu": GPU(
            device=settings.device,
            precision=settings.precision,
            memory_share=settings.gpu_memory_share,
            workers=settings.workers,
        ),
    },
    executor=dg.in_process_executor,
)
