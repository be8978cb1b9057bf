import datetime

import numpy as np
import pytest

from batch_assets.simulate.fraud import (
    CUSTOMER_DAYS,
    TERMINAL_DAYS,
    Compromises,
    Pattern,
    foresee_compromises,
    is_fraud,
)
from batch_assets.simulate.population import Population, settle
from batch_assets.simulate.transactions import Transactions, pay
from batch_assets.simulate.world import EUROPE, Parameters

PARAMETERS = Parameters(40, 7, datetime.date(2026, 3, 1), 4000, 4000)
World = tuple[Population, Compromises, list[Transactions]]


@pytest.fixture(scope="module")
def world() -> World:
    population = settle(PARAMETERS, EUROPE)
    compromises = foresee_compromises(PARAMETERS, EUROPE, population)
    days = [pay(PARAMETERS, EUROPE, population, compromises, day) for day in range(40)]
    return population, compromises, days


def test_every_pattern_happens_from_the_first_week_on(world: World) -> None:
    for week in (world[2][:7], world[2][-7:]):
        patterns = np.concatenate([day.pattern for day in week])
        assert set(np.unique(patterns)) == set(Pattern)
        assert 0.004 < is_fraud(patterns).mean() < 0.02


def test_compromises_last_for_weeks(world: World) -> None:
    compromises = world[1]
    for starts, on, length in (
        (compromises.terminals, compromises.terminals_on, TERMINAL_DAYS),
        (compromises.customers, compromises.customers_on, CUSTOMER_DAYS),
    ):
        first = next(day for day in range(10) if len(starts[day]))
        who = starts[first][0]
        assert [who in on(day) for day in (first, first + length - 1)] == [True, True]
        later = [w for day in range(first + 1, first + length + 1) for w in starts[day]]
        assert (who in on(first + length)) == (who in later)


def test_frauds_are_where_the_compromised_are(world: World) -> None:
    _, compromises, days = world
    for number, day in enumerate(days):
        tapped = day.terminal[day.pattern == Pattern.COMPROMISED_TERMINAL]
        stolen = day.customer[day.pattern == Pattern.COMPROMISED_CUSTOMER]
        assert np.isin(tapped, compromises.terminals_on(number)).all()
        assert np.isin(stolen, compromises.customers_on(number)).all()


def test_large_and_stolen_amounts_stand_out(world: World) -> None:
    amount = np.concatenate([day.amount for day in world[2]]) / 100
    pattern = np.concatenate([day.pattern for day in world[2]])
    usual = amount[pattern == Pattern.GENUINE].mean()
    assert amount[pattern == Pattern.LARGE_AMOUNT].min() >= 300
    assert amount[pattern == Pattern.COMPROMISED_CUSTOMER].mean() > 3 * usual
    tapped = amount[pattern == Pattern.COMPROMISED_TERMINAL].mean()
    assert 0.8 * usual < tapped < 1.3 * usual
