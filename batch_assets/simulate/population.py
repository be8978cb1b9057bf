"""Customers, terminals, and which terminals a customer can reach.

The idea follows the transaction simulator of the Fraud Detection Handbook: everybody
lives on a square map, spends in a way of their own, and pays at terminals nearby.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batch_assets.simulate.world import Draw, Parameters, Region

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TERMINALS_A_CELL = 5
PAYMENTS_A_DAY = (0.05, 3.8)
MEAN_AMOUNT_EUROS = (5.0, 100.0)


@dataclass(frozen=True)
class Population:
    """The people and shops of a region; arrays have one entry a customer.

    Terminals are numbered along the cells of the map, row by row. The terminals that a
    customer reaches stand in the cells around: three rows of up to three cells, hence
    three runs of numbers, which stay small however large the population is.
    """

    terminals: int
    payments_a_day: Floats
    mean_amount: Floats  # euros
    reach_first: Ints  # [customers, 3], first terminal of each run
    reach_until: Ints  # [customers, 3], running sum of the runs' lengths

    @property
    def customers(self) -> int:
        """Number of customers, who are numbered from 0."""
        return len(self.payments_a_day)

    def nearby_terminal(self, customer: Ints, luck: Floats) -> Ints:
        """A terminal within reach of each customer; `luck` in [0, 1) says which."""
        until = self.reach_until[customer]
        pick = (luck * until[:, 2]).astype(np.int64)
        run = (pick >= until[:, 0]).astype(np.int64) + (pick >= until[:, 1])
        before = np.where(run == 0, 0, until[np.arange(len(pick)), np.maximum(run - 1, 0)])
        chosen: Ints = self.reach_first[customer, run] + pick - before
        return chosen


def settle(parameters: Parameters, region: Region) -> Population:
    """Draw the population of a region."""
    customers, terminals = parameters.inhabitants(region)
    random = parameters.random(Draw.POPULATION, region=region)
    side = max(1, int(np.sqrt(terminals / TERMINALS_A_CELL)))
    cell_of_terminal = np.sort(random.integers(0, side * side, terminals))
    row, column = random.integers(0, side, (2, customers))
    first, until = _reach(cell_of_terminal, side, row, column)
    return Population(
        terminals=terminals,
        payments_a_day=random.uniform(*PAYMENTS_A_DAY, customers),
        mean_amount=random.uniform(*MEAN_AMOUNT_EUROS, customers),
        reach_first=first,
        reach_until=until,
    )


def _reach(cell_of_terminal: Ints, side: int, row: Ints, column: Ints) -> tuple[Ints, Ints]:
    """First terminal and running length of the runs of terminals around each customer."""
    rows = row[:, None] + np.array([-1, 0, 1])
    left = np.maximum(column - 1, 0)[:, None]
    right = np.minimum(column + 1, side - 1)[:, None]
    first = np.searchsorted(cell_of_terminal, rows * side + left, side="left")
    last = np.searchsorted(cell_of_terminal, rows * side + right, side="right")
    inside = (rows >= 0) & (rows < side)
    until = np.cumsum(np.where(inside, last - first, 0), axis=1)
    alone = until[:, 2] == 0  # nobody sells here: these customers travel anywhere
    first[alone] = 0
    until[alone] = len(cell_of_terminal)
    return first, until
