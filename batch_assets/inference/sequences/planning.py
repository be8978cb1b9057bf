"""In which batches a window is computed, and in which order.

Sequences of one padded length go together, the longest first: the batches that are left at the
end are small, so that all threads end at about the same time. Where the host has to decode,
batches that are heavy for the host and those that are heavy for the device alternate such that
both get through their work in proportion, and neither waits for the other: the idea of BlendServe
(Zhao et al. 2024, arXiv 2411.16102). Johnson's rule (1954), the optimum for two machines in a row,
would do all that is light for the host first, and needs room for all that the host is ahead.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from batch_assets.inference.sequences.lengths import padded_lengths, row_step
from batch_assets.inference.sequences.windows import Window

# What the host does for a batch is at most what the device does meanwhile for so many full ones.
PAIRED_BATCHES = 2
# Padded length -> steps and sequences that the next batch may have.
Ask = Callable[[int], tuple[int, int]]


@dataclass(frozen=True)
class Part:
    """Sequences that are computed together.

    Attributes:
        picked: int64 [n], where they stand in the window.
        length: to what they are padded.
        asked: steps that were allowed.
        full: whether the window had as many sequences as were allowed.
    """

    window: Window
    picked: np.ndarray
    length: int
    asked: int
    full: bool

    @property
    def rows(self) -> int:
        """Rows to compute, those of padding included."""
        return len(self.picked) + -len(self.picked) % row_step(self.length)


@dataclass(frozen=True)
class _Group:
    """Sequences of like cost, not planned yet."""

    length: int
    picked: np.ndarray
    host: np.ndarray


def plan(window: Window, ask: Ask) -> Iterator[Part]:
    """The window's sequences in batches; sizes are asked for one at a time, as they are learned."""
    groups = deque(_groups(window))
    total_host = sum(float(group.host.sum()) for group in groups)
    total_device = sum(group.length * len(group.picked) for group in groups)
    host = device = 0.0
    while groups:
        heavy_for_host = host * total_device < device * total_host
        group = groups.pop() if heavy_for_host else groups.popleft()
        steps, rows = ask(group.length)
        cost = PAIRED_BATCHES * steps * total_host / total_device
        taken = min(rows, _rows_of_cost(group, cost)) if total_host else rows
        picked = group.picked[:taken]
        yield Part(window, picked, group.length, steps, full=len(picked) == rows)
        host += float(group.host[:taken].sum())
        device += group.length * len(picked)
        if taken < len(group.picked):
            left = _Group(group.length, group.picked[taken:], group.host[taken:])
            (groups.append if heavy_for_host else groups.appendleft)(left)


def _rows_of_cost(group: _Group, cost: float) -> int:
    """Sequences that the host gets ready for at most this, in full steps of rows."""
    rows, step = int(np.searchsorted(np.cumsum(group.host), cost, "right")), row_step(group.length)
    return max(step, rows - rows % step)


def _groups(window: Window) -> list[_Group]:
    """Those that are heavy for the device first; if all are alike, the longest first."""
    padded = padded_lengths(window.lengths)
    costs = np.zeros(len(padded)) if window.costs is None else window.costs
    # Each class is four times as heavy for the host as the one before, a step of it.
    classes = np.floor(np.log2(np.maximum(costs / padded, 1e-12)) / 2)
    order = np.lexsort((-padded, classes))
    edges = np.flatnonzero(np.diff(padded[order]) | np.diff(classes[order]).astype(bool)) + 1
    return [
        _Group(int(padded[picked[0]]), np.sort(picked), costs[np.sort(picked)])
        for picked in np.split(order, edges)
        if len(picked)
    ]
