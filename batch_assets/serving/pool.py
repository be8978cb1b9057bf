"""Threads for what blocks, and a bound on what may wait for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from batch_assets.serving.problems import busy

P = ParamSpec("P")
R = TypeVar("R")


class Pool:
    """Runs blocking calls in threads; refuses them when too many wait.

    Args:
        name: of the threads, and what a refusal speaks of.
        threads: calls that run at the same moment.
        waiting: further ones that may wait for a thread.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name = name
        self._most = threads + waiting
        self._taken = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    @property
    def taken(self) -> int:
        """Calls that run or wait."""
        return self._taken

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of the call; its place is taken until it ends, even if nobody waits for it.

        Raises:
            Problem: too many calls wait already.
        """
        if self._taken >= self._most:
            raise busy(f"{self._most} requests wait for the {self.name} already")
        self._taken += 1
        future = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: call(*args, **kwargs)
        )
        future.add_done_callback(self._leave)
        return await asyncio.shield(future)

    def _leave(self, future: "asyncio.Future[R]") -> None:
        self._taken -= 1
        if not future.cancelled():
            future.exception()  # it was told to whoever waited; nobody may have

    def stop(self) -> None:
        """Wait for the calls that run."""
        self._threads.shutdown(wait=True, cancel_futures=True)
