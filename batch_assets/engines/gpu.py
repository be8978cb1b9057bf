"""The devices that models run on, as a Dagster resource."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dagster import ConfigurableResource
from pydantic import Field

from batch_assets.engines.leases import Leases
from batch_assets.settings import Settings, data_home, load_settings

GPU_POOL = "gpu"
LEASES = ".leases"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leased:
    """What a run may compute on while it holds a lease.

    Attributes:
        names: the devices, as torch names them, for :func:`batch_assets.inference.spread.spread`:
            several GPUs, or as many times ``cpu`` as there are to be processes.
        note: what they are, for people.
    """

    names: tuple[str, ...]
    note: str

    @property
    def name(self) -> str:
        """The first device."""
        return self.names[0]


class GPU(ConfigurableResource):  # type: ignore[type-arg]
    """GPUs, or the CPU where there is none.

    Steps that use it run in the pool ``gpu``, whose limit says how many may run at once; the lease
    says on which device each of them runs.

    Example:
        >>> with gpu.lease(context.run.run_id, say=context.log.info) as leased:
        ...     context.log.info("scoring on %s (%s)", leased.name, leased.note)
    """

    device: str = Field(
        default="auto",
        description="auto (a free GPU if there are any, else the CPU), cpu, cuda (a free one), "
        "cuda:1, several such as cuda:0,cuda:1, or mps.",
    )
    precision: str = Field(
        default="fp32", description="fp32, bf16, or auto: what is faster and as good."
    )
    memory_share: float = Field(
        default=1.0, ge=0.01, le=1, description="Of a GPU's memory; with 0.5 two runs share a GPU."
    )
    workers: int = Field(
        default=1, ge=1, description="Devices, or processes on the CPU, of one run."
    )

    def resolve(self) -> tuple[str, str]:
        """A device that may be used, without a lease, and a sentence that says why it is this."""
        from batch_assets.inference.devices import resolve_device

        device, note = resolve_device(self.device)
        return str(device), note

    @contextmanager
    def lease(
        self,
        run_id: str,
        *,
        wait: bool = True,
        timeout: float | None = None,
        say: Callable[[str], None] = _log.info,
    ) -> Iterator[Leased]:
        """Hold a free device, up to ``workers`` of them, until the end of the block.

        The CPU is not held: the system divides it among all that runs there, and the limit of the
        pool says how much that is.

        Args:
            run_id: who holds it, for people who wait.
            wait: until a device is free, else fail at once.
            timeout: seconds to wait at most; None waits for ever.
            say: is told whom this run waits for.

        Raises:
            DeviceBusyError: no device became free.
            BatchAssetsError: a device that is configured is not there.
        """
        from batch_assets.inference.devices import allowed_devices, device_note, limit_memory

        allowed = allowed_devices(self.device)
        if allowed == ["cpu"]:
            yield Leased(("cpu",) * self.workers, device_note("cpu", self.device))
            return
        leases = Leases(data_home() / LEASES, slots_of(self.memory_share))
        with leases.hold(
            allowed, run_id, most=self.workers, wait=wait, timeout=timeout, say=say
        ) as names:
            # Several are used by other processes, which ask for their limits themselves.
            limited = names if len(names) == 1 and self.memory_share < 1 else ()
            for name in limited:
                limit_memory(name, self.memory_share)
            try:
                yield Leased(names, "; ".join(device_note(name, self.device) for name in names))
            finally:
                for name in limited:
                    limit_memory(name, 1.0)


def slots_of(memory_share: float) -> int:
    """How many runs fit on a device if each has that share of its memory."""
    return int(1 / memory_share + 1e-9)


def places(device: str, memory_share: float) -> int:
    """How many runs may compute at once: on each GPU as many as share it, on the CPU one.

    Raises BatchAssetsError when a device that is named is not there.
    """
    from batch_assets.inference.devices import allowed_devices

    allowed = allowed_devices(device)
    return 1 if allowed == ["cpu"] else len(allowed) * slots_of(memory_share)


def gpu_tags(settings: Settings | None = None) -> dict[str, Any]:
    """``op_tags`` by which Kubernetes and Ray give a step its GPUs; none if none is configured.

    ``auto`` asks for no GPU: a step that must have one would never start where there is none.
    ``dagster-k8s/config`` is read by dagster-k8s (k8s_job_executor), which gives out whole GPUs;
    ``dagster-ray/config`` by dagster-ray (ray_executor), which also gives out a share of one.
    """
    settings = settings or load_settings()
    if not settings.device.startswith("cuda"):
        return {}
    named = settings.device.count(",") + 1
    count = settings.workers if settings.device == "cuda" else min(settings.workers, named)
    resources = {"limits": {"nvidia.com/gpu": str(count)}}
    return {
        "dagster-k8s/config": {"container_config": {"resources": resources}},
        "dagster-ray/config": {"num_gpus": settings.gpu_memory_share if count == 1 else count},
    }
