"""Exchange rates of a day as the batch would find them now."""

from datetime import date

import pyarrow as pa

from batch_assets.fraud.build import register_rates
from batch_assets.fraud.keys import State
from batch_assets.fraud.realtime_cleaning import RATES
from batch_assets.fraud.realtime_known import connected
from batch_assets.fraud.sql import sql_text


def rates_of(state: State, day: date) -> pa.Table:
    """Currency, rate and day."""
    with connected() as connection:
        register_rates(connection, state, day, day)
        connection.execute(sql_text("exchange_rates_prepare"))
        found = connection.sql(
            sql_text("exchange_rates"),
            params={
                "first_day": day,
                "last_day": day,
                "rate_max_age_days": state.settings.rate_max_age_days,
            },
        )
        return found.to_arrow_table().select(RATES.names).cast(RATES)
