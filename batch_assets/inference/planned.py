"""A network on a device, and the plan by which it is computed, chosen on the first rows."""

import threading
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.compiling import compiled_network, consider_compiling
from batch_assets.inference.compute import Compute, DoesNotFit, Job, Network
from batch_assets.inference.memory import memory_budget
from batch_assets.inference.plan import ComputePlan, PlanChanged
from batch_assets.inference.precision import choose_precision, modes, one_thread
from batch_assets.inference.shapes import plan_sizes
from batch_assets.inference.sizing import ROW_STEP, BatchSizer, Learned, half_of
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning

# Bytes of input and output that a block, which is what goes from stage to stage, may have.
BLOCK_BYTES = 12 * 2**20
# About as long takes a block at most.
BLOCK_SECONDS = 1.0
Results = tuple[np.ndarray, np.ndarray]


class PlannedNetwork:
    """Computes rows, float32 [n, features], as scores float32 [n] and vectors float32 [n, size].

    Args:
        network: on its device, in the mode for evaluation.
        version: of the model, for the salt.
        precision: ``fp32``, ``bf16`` or ``auto``, which moves no score by more than ``bound``.
        batch_rows: rows of a batch, or None to find out.
        output_rows: the most rows that are computed in one call.
        tuning: where plan and sizes are kept.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        *,
        features: int,
        version: str,
        precision: str,
        bound: float,
        batch_rows: int | None,
        output_rows: int,
        threads: int,
        tuning: Tuning | None,
    ) -> None:
        self._network = network
        self._device = device
        self._features = features
        self._version = version
        self._precision = precision
        self._bound = bound
        self._fixed_rows = batch_rows
        self._threads = threads
        self._torch_threads = torch.get_num_threads()
        self._tuning = tuning
        self._kind = device_kind(device)
        self._lock = threading.RLock()
        self._plan: ComputePlan | None = None
        self._run: Network = network
        self._memory = 0
        self._kept: Learned | None = None
        self.size, seconds = self._probe()
        self.block_rows = _block_rows(
            output_rows, features + self.size, batch_rows, seconds / threads
        )

    @property
    def plan(self) -> ComputePlan | None:
        """The plan, as soon as there is one."""
        with self._lock:
            if self._plan is None and self._tuning is not None:
                kept = self._tuning.read_plan(self._kind, self._wanted)
                if kept is not None:
                    self._adopt(kept)
            return self._plan

    def is_current(self) -> bool:
        """Whether the plan is still the one that counts, which another process may change."""
        if self._plan is None or self._tuning is None:
            return True
        return self._tuning.read_plan(self._kind, self._wanted) == self._plan

    def salt(self, plan: ComputePlan) -> str:
        """What tells apart results of other bits: model version, device and plan."""
        return f"{self._version} | {self._kind} | {plan.salt}"

    def prepare(self, rows: np.ndarray | None, expected: float = 0) -> ComputePlan:
        """The plan; if there is none, it is made on these rows.

        Args:
            rows: None if there are none yet, which is enough unless the precision is ``auto``.
            expected: rows that will be computed, for which compiling may pay.
        """
        if self._plan is not None:
            return self._plan
        with self._lock:
            plan = self.plan
            if plan is None:
                self._adopt(self._settled(self._new_plan(self._sample(rows), expected)))
                plan = self._plan
            assert plan is not None
            return plan

    def compute(self) -> Compute:
        """The threads that compute; a context manager."""
        return Compute(
            lambda rows: self._run(rows),
            self._device,
            threads=self._threads,
            size=self.size,
            torch_threads=self._torch_threads,
        )

    def start(self, compute: Compute, rows: np.ndarray, plan: ComputePlan) -> Job:
        """Begin to compute rows; raises PlanChanged when ``plan`` is not used any more."""
        if plan != self._plan:
            raise PlanChanged(f"Rows are computed otherwise by now: {self._plan}, not {plan}.")
        return compute.start(rows, self._sizer, plan.half, plan.batch_rows)

    def finish(self, compute: Compute, job: Job, plan: ComputePlan, stats: EngineStats) -> Results:
        """Results of what was started; raises PlanChanged when ``plan`` cannot be used."""
        try:
            results = compute.finish(job, stats)
        except DoesNotFit as error:
            self._halve(plan)
            raise PlanChanged(f"{error} The plan is now {self._plan}.") from error
        learned = self._sizer.learned
        stats.precision, stats.compiled = plan.precision, plan.compiled
        stats.batch_rows = plan.batch_rows or learned.rows
        if self._tuning and learned != self._kept and not (self._fixed_rows or plan.batch_rows):
            self._tuning.keep(learned, self._place, plan.precision, memory=self._memory)
            self._kept = learned
        return results

    def run_few(self, rows: np.ndarray, plan: ComputePlan) -> Results:
        """Results of at most 256 rows, computed in this thread; no threads are started for it."""
        size = plan.batch_rows or plan.smallest
        while size < len(rows):
            size *= 2
        padded = np.zeros((size, self._features), dtype=np.float32)
        padded[: len(rows)] = rows
        try:
            with modes(self._device, plan.half):
                torch.set_num_threads(1)
                scores, vectors = self._run(torch.from_numpy(padded).to(self._device))
                return _host(scores, len(rows)), _host(vectors, len(rows))
        finally:
            torch.set_num_threads(self._torch_threads)

    @property
    def _wanted(self) -> str:
        """What was asked for; each has a plan of its own."""
        rows = f", {self._fixed_rows} rows" if self._fixed_rows else ""
        bound = f" within {self._bound:g}" if self._precision == "auto" else ""
        return f"{self._precision}{bound}{rows}"

    @property
    def _place(self) -> str:
        return f"{self._kind}, {self._threads} threads"

    @property
    def _largest_rows(self) -> int:
        """Rows of a batch at most: on a CPU, each thread has two or more of each block."""
        if self._fixed_rows or self._device.type != "cpu":
            return self._fixed_rows or self.block_rows
        return max(ROW_STEP, half_of(self.block_rows // self._threads))

    def _sample(self, rows: np.ndarray | None) -> np.ndarray:
        if rows is not None and len(rows):
            return rows
        if self._precision == "auto":
            raise BatchAssetsError(
                "How this model is computed is chosen on the first rows, and there are none yet. "
                "Score some first, or name the precision."
            )
        shape = (self._largest_rows, self._features)
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def _new_plan(self, rows: np.ndarray, expected: float) -> ComputePlan:
        precision = self._precision
        if precision == "auto":
            precision = choose_precision(self._network, self._device, rows, self._bound)
        plan = plan_sizes(
            self._network, self._device, ComputePlan(precision), rows, self._largest_rows
        )
        if self._fixed_rows and (plan.batch_rows or plan.largest < self._fixed_rows):
            plan = replace(plan, batch_rows=self._fixed_rows, largest=self._fixed_rows)
        return consider_compiling(
            self._network, self._device, plan, rows, expected / self._threads, self._bound
        )

    def _settled(self, plan: ComputePlan, replaces: ComputePlan | None = None) -> ComputePlan:
        """The plan that counts: another process may have been first."""
        if self._tuning is None:
            return plan
        return self._tuning.keep_plan(plan, self._kind, self._wanted, replaces)

    def _adopt(self, plan: ComputePlan) -> None:
        """Be ready to compute by this plan."""
        self._run = self._network
        if plan.compiled:
            shape = (plan.batch_rows or plan.largest, self._features)
            self._run = compiled_network(self._network, self._device, plan.half, shape)
        self._memory = memory_budget(self._device)
        largest = plan.batch_rows or min(plan.largest, self._largest_rows)
        self._kept = None
        if plan.batch_rows or self._fixed_rows:
            self._kept = Learned(plan.batch_rows or self._fixed_rows or largest, settled=True)
        elif self._tuning is not None:
            self._kept = self._tuning.read(self._place, plan.precision, memory=self._memory)
        self._sizer = BatchSizer(largest, self._kept)
        self._plan = plan

    def _halve(self, plan: ComputePlan) -> None:
        """Plan half the rows from now on; raises BatchAssetsError when not even 256 fit."""
        with self._lock:
            if self._plan != plan:
                return
            assert plan.batch_rows is not None
            self._sizer.failed(plan.batch_rows)
            rows = half_of(plan.batch_rows)
            self._adopt(self._settled(replace(plan, batch_rows=rows, largest=rows), plan))

    def _probe(self) -> tuple[int, float]:
        """Size of the vectors, and about how many seconds a row takes; also shows that the network
        takes as many features as named."""
        try:
            with modes(self._device, False), one_thread():
                rows = torch.zeros(ROW_STEP, self._features, device=self._device)
                size = int(self._run(rows)[1].shape[1])
                started = time.perf_counter()
                self._run(rows)[0].cpu()
                return size, (time.perf_counter() - started) / ROW_STEP
        except RuntimeError as error:
            raise BatchAssetsError(
                f"The network does not run on {self._features} features on {self._device}: "
                f"{error}. Check that the card's features are those that it was trained on."
            ) from error


def device_kind(device: torch.device) -> str:
    """What computes the same bits: a CPU by what it can do, or a GPU by its name, under a torch."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        name = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    else:
        name = device.type
    return f"{name}, torch {torch.__version__}"


def _block_rows(rows: int, columns: int, batch_rows: int | None, seconds: float) -> int:
    """At most so many rows of float32 columns, in and out, each of which takes so many seconds:
    no large piece of memory, and soon done, as what stops the work waits for that. A multiple of
    the batch's rows."""
    while rows > ROW_STEP and (rows * columns * 4 > BLOCK_BYTES or rows * seconds > BLOCK_SECONDS):
        rows //= 2
    return rows if batch_rows is None else max(batch_rows, rows - rows % batch_rows)


def _host(values: Tensor, rows: int) -> np.ndarray:
    return values[:rows].float().cpu().numpy()
