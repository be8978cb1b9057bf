"""How a model is computed, as far as a bit of its results depends on it."""

from dataclasses import asdict, dataclass

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.sizing import ROW_STEP

LARGEST_ROWS = 2**20


class PlanChanged(BatchAssetsError):
    """The compute plan had to change while rows were scored: earlier results have other bits.

    What was given out under the plan before must be computed again by whoever mixes the two;
    ``Scorer.salt`` already is that of the new plan.
    """


@dataclass(frozen=True)
class ComputePlan:
    """Chosen once for a model version on a kind of device, and kept.

    Attributes:
        precision: ``fp32`` or ``bf16``.
        compiled: whether the network runs as ``torch.compile`` made it.
        batch_rows: rows of every compute batch, tails padded to it; None where results do not
            depend on the size, from ``smallest`` to ``largest`` rows.
    """

    precision: str
    compiled: bool = False
    batch_rows: int | None = None
    smallest: int = ROW_STEP
    largest: int = ROW_STEP

    @property
    def half(self) -> bool:
        """Whether matrix products run in bf16."""
        return self.precision == "bf16"

    @property
    def salt(self) -> str:
        """What tells results of other bits apart."""
        compiled = "compiled" if self.compiled else "eager"
        return f"{self.precision} {compiled} {self.batch_rows or 'any'}"

    def as_json(self) -> dict[str, object]:
        """For the registry; :func:`plan_of` reads it."""
        return asdict(self)


def plan_of(entry: object) -> ComputePlan | None:
    """The plan that ``as_json`` wrote, or None if the entry is not one."""
    if not isinstance(entry, dict):
        return None
    try:
        plan = ComputePlan(**entry)
    except TypeError:
        return None
    sizes = (plan.smallest, plan.largest, plan.batch_rows or ROW_STEP)
    right = (
        plan.precision in ("fp32", "bf16")
        and isinstance(plan.compiled, bool)
        and all(isinstance(size, int) and 0 < size <= LARGEST_ROWS for size in sizes)
        and ROW_STEP % plan.smallest == 0
        and all(size % ROW_STEP == 0 for size in sizes[1:])
    )
    return plan if right else None
