import datetime

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.simulate.population import settle
from batch_assets.simulate.world import REGIONS, Parameters, Region

START = datetime.date(2026, 3, 1)
SIZES = st.integers(3, 500)


@settings(deadline=None)
@given(SIZES, SIZES, st.integers(0, 99))
def test_regions_share_everybody_out(customers: int, terminals: int, seed: int) -> None:
    parameters = Parameters(1, seed, START, customers, terminals)
    parts = [parameters.inhabitants(region) for region in REGIONS]
    assert tuple(np.sum(parts, axis=0)) == (customers, terminals)
    assert min(min(part) for part in parts) >= 1


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, st.integers(0, 99), st.sampled_from(REGIONS))
def test_every_customer_reaches_terminals_that_exist(
    customers: int, terminals: int, seed: int, region: Region
) -> None:
    population = settle(Parameters(1, seed, START, customers, terminals), region)
    everybody = np.arange(population.customers)
    for luck in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        chosen = population.nearby_terminal(everybody, np.full(len(everybody), luck))
        assert ((chosen >= 0) & (chosen < population.terminals)).all()


def test_a_customer_stays_in_the_neighbourhood() -> None:
    population = settle(Parameters(1, 7, START, 3000, 5000), REGIONS[0])
    random = np.random.default_rng(1)
    customer = np.repeat(np.arange(population.customers), 200)
    chosen = population.nearby_terminal(customer, random.random(len(customer)))
    seen = [len(set(row.tolist())) for row in chosen.reshape(population.customers, 200)]
    assert max(seen) < 100
    assert np.median(seen) > 20
