"""The device that models run on, as a Dagster resource."""

from dagster import ConfigurableResource
from pydantic import Field

GPU_POOL = "gpu"


class GPU(ConfigurableResource):  # type: ignore[type-arg]
    """A GPU, or the CPU where there is none.

    Steps that use it run in the pool ``gpu``, whose limit says how many may run at once.
    """

    device: str = Field(
        "auto", description="auto (a GPU if there is one, else the CPU), cpu, cuda, cuda:1, mps."
    )

    def resolve(self) -> tuple[str, str]:
        """The device as torch names it, and a sentence that says why it is this one."""
        from batch_assets.inference.devices import resolve_device

        device, note = resolve_device(self.device)
        return str(device), note
