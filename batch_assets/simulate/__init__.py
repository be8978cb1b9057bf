"""A small world of card payments, delivered the way real institutions deliver.

from batch_assets.simulate import simulate

summary = simulate(pathlib.Path("home"), days=45)
"""

from batch_assets.simulate.simulation import SimulationSummary, simulate

__all__ = ["SimulationSummary", "simulate"]
