"""What is outdated, and what is merely not there."""

from datetime import timedelta
from pathlib import Path

from batch_assets_tests.fraud.zone import START, Zone, a_day_of_rows, days, put_any_model_live


def test_days_that_were_never_built_make_no_other_outdated_until_they_are_built(home: Path) -> None:
    zone = Zone(home).describe()
    for day in days(6):
        zone.deliver(day, a_day_of_rows(day))
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    later = days(2, START + timedelta(days=4))

    pipeline.update(later)
    assert pipeline.stale_days(later) == []
    assert pipeline.stale_days(days(6)) == days(6)  # the others are wanted, and these look back

    pipeline.update(days(4))
    assert pipeline.stale_days(later) == later
    pipeline.update(later)
    assert pipeline.stale_days(days(6)) == []
