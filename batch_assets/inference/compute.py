"""A network over a matrix, batch after batch, whatever the device's memory allows."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.precision import modes
from batch_assets.inference.sizing import ROW_STEP, BatchSizer
from batch_assets.inference.stats import EngineStats

# Scores [n] and vectors [n, size] of rows, float32 [n, features].
Network = Callable[[Tensor], tuple[Tensor, Tensor]]

# What torch, oneDNN and MKL say on a CPU without memory; on CUDA there is a class for it.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "std::bad_alloc",
    "Cannot allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


class DoesNotFit(BatchAssetsError):
    """Rows of the one shape that a plan allows do not fit into the device's memory."""


class Compute:
    """One network on one device, used by ``threads`` threads at once; a context manager.

    Each thread computes other batches, with one torch thread: torch's own threads wait for each
    other in every operation, which on cores that are also busy otherwise made the same work five
    to ten times slower.

    Args:
        network: maps float32 [n, features] to scores [n] and vectors [n, size].
        size: the length of a vector.
        torch_threads: torch's own threads for the rest of the process, set again at the end:
            setting it in a thread counts for all threads that start later.
    """

    def __init__(
        self,
        network: Network,
        device: torch.device,
        *,
        threads: int,
        size: int,
        torch_threads: int,
    ) -> None:
        self._network = network
        self._device = device
        self._threads = threads
        self._size = size
        self._torch_threads = torch_threads
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: set[Job] = set()
        self._last_ended = 0.0
        # A batch on the CPU is computed by one thread, whose CPU time does not count what other
        # threads and processes take: by the wall clock, a batch that kept the rest idle would win.
        self._clock = time.thread_time if device.type == "cpu" else time.perf_counter

    def __enter__(self) -> "Compute":
        self._last_ended = time.perf_counter()
        self._pool = ThreadPoolExecutor(
            self._threads,
            thread_name_prefix="batch_assets-compute",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._pool is not None
        for job in self._jobs:
            job.stop()
        self._pool.shutdown()
        torch.set_num_threads(self._torch_threads)

    def run(
        self,
        rows: np.ndarray,
        sizer: BatchSizer,
        half: bool,
        stats: EngineStats,
        pinned_rows: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 [n] and vectors float32 [n, size] of rows, float32 [n, features].

        Matrix products run in bf16 if ``half``. Batches that do not fit into memory are tried
        again in smaller ones; with ``pinned_rows`` every batch is padded to so many rows, and
        DoesNotFit is raised.
        """
        return self.finish(self.start(rows, sizer, half, pinned_rows), stats)

    def start(
        self, rows: np.ndarray, sizer: BatchSizer, half: bool, pinned_rows: int | None = None
    ) -> "Job":
        """Begin what ``run`` does; threads without work left go on with what was started next."""
        assert self._pool is not None
        job = Job(rows, self._size, pinned_rows, pinned_memory=self._device.type == "cuda")
        self._jobs.add(job)
        for _ in range(self._threads):
            job.workers.append(self._pool.submit(self._work, job, sizer, half))
        return job

    def finish(self, job: "Job", stats: EngineStats) -> tuple[np.ndarray, np.ndarray]:
        """The results of the job that was started first of those that are not finished."""
        try:
            for worker in job.workers:
                worker.result()
        finally:
            job.stop()
            self._jobs.discard(job)
        # Jobs overlap: what the one before took is not counted again.
        stats.compute_seconds += job.ended - max(job.started, self._last_ended)
        stats.waiting_seconds += max(0.0, job.started - self._last_ended)
        self._last_ended = job.ended
        stats.out_of_memory += job.retries
        return job.scores.numpy(), job.vectors.numpy()

    def _work(self, job: "Job", sizer: BatchSizer, half: bool) -> None:
        try:
            with modes(self._device, half), self._stream():
                while part := job.take(sizer):
                    self._part(job, part, sizer)
                self._wait()
            job.ended = max(job.ended, time.perf_counter())
        except BaseException:
            job.stop()
            raise

    def _part(self, job: "Job", part: range, sizer: BatchSizer) -> None:
        """Compute some rows; if they do not fit into memory, free, halve, and put them back."""
        padded = job.pinned_rows or len(part) + -len(part) % ROW_STEP
        started = self._clock()
        try:
            self._batch(job, part, padded)
            if not sizer.settled:
                self._wait()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            sizer.executed(padded, self._clock() - started)
            return
        # Outside of the handler: the exception held the frames, and these the tensors.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if job.pinned_rows:
            raise DoesNotFit(f"{padded} rows do not fit into the memory of {self._device}.")
        sizer.failed(padded)
        job.put_back(part)

    def _batch(self, job: "Job", part: range, padded: int) -> None:
        rows = job.rows[part.start : part.stop]
        if padded > len(part):
            rows = np.concatenate([rows, np.zeros((padded - len(part), rows.shape[1]), rows.dtype)])
        elif not rows.flags.writeable:
            # The caller's own memory, which a network that works in place must not change.
            rows = rows.copy()
        scores, vectors = self._network(self._sent(torch.from_numpy(rows)))
        on_cuda = self._device.type == "cuda"
        for target, result in ((job.scores, scores), (job.vectors, vectors)):
            target[part.start : part.stop].copy_(result[: len(part)], non_blocking=on_cuda)

    def _sent(self, rows: Tensor) -> Tensor:
        """Rows on the device."""
        if self._device.type == "cuda":
            return rows.pin_memory().to(self._device, non_blocking=True)
        return rows.to(self._device)

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """On CUDA a stream for each thread: copies of one pass beside the products of another."""
        if self._device.type != "cuda":
            yield
            return
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.default_stream(self._device))
        with torch.cuda.stream(stream):
            yield

    def _wait(self) -> None:
        """Until all that this thread asked the device for is done."""
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()


class Job:
    """Rows to compute and room for the results, handed out to threads."""

    def __init__(
        self, rows: np.ndarray, size: int, pinned_rows: int | None, *, pinned_memory: bool
    ) -> None:
        self.rows = rows
        self.pinned_rows = pinned_rows
        self.scores = torch.empty(len(rows), pin_memory=pinned_memory)
        self.vectors = torch.empty(len(rows), size, pin_memory=pinned_memory)
        self.workers: list[Future[None]] = []
        self.retries = 0
        self.started = self.ended = time.perf_counter()
        self._left = [range(len(rows))] if len(rows) else []
        self._lock = threading.Lock()

    def take(self, sizer: BatchSizer) -> range | None:
        """Rows that no other thread has, or None when all are taken."""
        with self._lock:
            if not self._left:
                return None
            left = self._left.pop()
            size = self.pinned_rows or sizer.next_rows()
            if size < len(left):
                self._left.append(left[size:])
            return left[:size]

    def put_back(self, part: range) -> None:
        """Rows that did not fit; they are the next to be taken."""
        with self._lock:
            self.retries += 1
            self._left.append(part)

    def stop(self) -> None:
        """Hand out no more."""
        with self._lock:
            self._left.clear()
