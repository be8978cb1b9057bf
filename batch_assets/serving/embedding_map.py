"""A two-dimensional map of a workload's embeddings: their principal components."""

import hashlib
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch_assets.serving.workload import Workload
from batch_assets.storage.vectors.search import Snapshot, lookup

if TYPE_CHECKING:
    from batch_assets.serving.served import Served
    from batch_assets.serving.view import View

MOST_READ = 20_000
"""Vectors that the axes are computed from, about: 5 MB of 64 numbers."""
NEWEST = 60
"""Of so many of the newest files, which are days, if no day is so large that it has several."""
BINS = 20
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Axes:
    """Two directions in the space of one model's vectors.

    Args:
        name: equal names mean equal axes; points of different ones cannot be shown together.
        centre: float32 [dimensions].
        directions: float32 [dimensions, 2], orthonormal.
        kept: share of the variance that the two show, 0 to 1.
    """

    name: str
    model_version: str
    centre: Floats
    directions: Floats
    kept: float

    def place(self, vectors: Floats) -> list[list[float]]:
        """Where vectors [rows, dimensions] are on the map: x and y of each."""
        placed = (vectors - self.centre) @ self.directions
        return np.round(placed.astype(np.float64), 5).tolist()


class EmbeddingMap:
    """Makes the map of a served workload; safe to share between threads.

    The axes stay as they are while the model does, so that a point does not wander from day to
    day. All heights of scores count alike in them: else the map would show how the many rows
    with a low score differ, and nothing of the few with a high one.
    """

    def __init__(self, served: "Served") -> None:
        self._served = served
        self._lock = threading.Lock()
        self._axes: Axes | None = None
        self._sampled: tuple[int, pa.Table] | None = None

    @property
    def _workload(self) -> Workload:
        return self._served.workload

    def sample(self, view: "View", size: int) -> dict[str, Any]:
        """Points to be seen as the background of the map.

        Half of them are any of the newest rows, half are chosen so that all heights of scores
        are there.

        Args:
            size: the most points.

        Returns:
            axes (name), model_version, kept, of_rows, days (first, last), points (key, x, y,
            score, label). Without vectors: points is empty, axes None.
        """
        axes, rows = self._state(view)
        if axes is None:
            return {
                "axes": None,
                "model_version": view.model_version,
                "kept": None,
                "of_rows": 0,
                "days": None,
                "points": [],
            }
        shown = rows.take(_shown(_scores(rows, self._workload), size))
        days = rows[self._workload.vectors.day].unique().to_pylist()
        return {
            "axes": axes.name,
            "model_version": axes.model_version,
            "kept": axes.kept,
            "of_rows": rows.num_rows,
            "days": [str(min(days)), str(max(days))],
            "points": self._points(axes, shown),
        }

    def locate(self, view: "View", keys: Sequence[str]) -> dict[str, Any]:
        """Where rows with these keys are on the map.

        Returns:
            axes, points as of :meth:`sample`, missing (keys without a vector of this model).
        """
        axes, _ = self._state(view)
        if axes is None or view.vectors is None:
            return {"axes": None, "points": [], "missing": list(keys)}
        found = lookup(view.vectors, keys, columns=self._columns, valid=view.days)
        points: dict[str, dict[str, Any]] = {}
        for rows in (self._realtime(keys), found.select(self._columns)):
            of_model = rows.filter(pc.equal(rows["model_version"], axes.model_version))
            points.update({point["key"]: point for point in self._points(axes, of_model)})
        return {
            "axes": axes.name,
            "points": [points[key] for key in dict.fromkeys(keys) if key in points],
            "missing": [key for key in dict.fromkeys(keys) if key not in points],
        }

    @property
    def _columns(self) -> list[str]:
        spec = self._workload.vectors
        return [spec.key, spec.vector, self._workload.score, "model_version"]

    def _realtime(self, keys: Sequence[str]) -> pa.Table:
        """The rows with these keys that this server has scored."""
        if self._served.realtime is None:
            return self._workload.vectors.schema.empty_table()
        rows = self._served.realtime.vectors()
        return rows.filter(pc.is_in(rows[self._workload.key], pa.array(keys, pa.string())))

    def _points(self, axes: Axes, rows: pa.Table) -> list[dict[str, Any]]:
        keys = rows[self._workload.key].to_pylist()
        known = self._workload.known(keys)
        placed = axes.place(_matrix(rows, self._workload))
        scores = _scores(rows, self._workload).tolist()
        return [
            {"key": key, "x": x, "y": y, "score": round(score, 5), "label": known.get(key)}
            for key, (x, y), score in zip(keys, placed, scores, strict=True)
        ]

    def _state(self, view: "View") -> tuple[Axes | None, pa.Table]:
        """The axes, and the newest rows of their model."""
        with self._lock:
            if self._sampled is None or self._sampled[0] != view.number:
                self._sampled = view.number, self._newest(view)
            rows = self._sampled[1]
            if rows.num_rows:
                version = rows["model_version"][0].as_py()
                if self._axes is None or self._axes.model_version != version:
                    self._axes = _axes(rows, self._workload)
            return (self._axes if rows.num_rows else None), rows

    def _newest(self, view: "View") -> pa.Table:
        """About ``MOST_READ`` rows of the newest days: of the live model, if it has scored any."""
        if view.vectors is None:
            return pa.table({})
        spec = self._workload.vectors
        columns = [*self._columns, spec.day, spec.version_column]
        rows = _newest_rows(view.vectors, view.days, columns)
        if not rows.num_rows:
            return rows
        versions = rows["model_version"].value_counts().to_pylist()
        counted = {one["values"]: one["counts"] for one in versions}
        version = view.model_version
        if version not in counted:
            version = max(counted, key=lambda name: counted[name])
        return rows.filter(pc.equal(rows["model_version"], version))


def _newest_rows(vectors: Snapshot, valid: Mapping[date, str], columns: list[str]) -> pa.Table:
    """A sample of the newest days' rows, always the same one of the same version of the table."""
    spec, parts = vectors.spec, []
    held = [(one, sum(state.rows for state in one.days.values())) for one in vectors.fragments]
    newest = sorted(held, key=lambda one: max(one[0].days, default=date.min))[-NEWEST:]
    share = min(1.0, MOST_READ / max(1, sum(rows for _, rows in newest)))
    for fragment, count in newest:
        if not count:
            continue
        rng = np.random.default_rng(0)
        chosen = np.sort(rng.choice(count, math.ceil(share * count), replace=False))
        file = vectors.dataset.get_fragment(fragment.metadata.id)
        parts.append(file.take(chosen.tolist(), columns=columns))
    if not parts:
        return pa.table({name: [] for name in columns})
    rows = pa.concat_tables(parts)
    days, keys = rows[spec.day].to_pylist(), rows[spec.version_column].to_pylist()
    seen = [valid.get(day) == key for day, key in zip(days, keys, strict=True)]
    return rows.filter(pa.array(seen, pa.bool_()))


def _axes(rows: pa.Table, workload: Workload) -> Axes:
    """Principal components, rows weighted so that each height of score counts alike."""
    vectors = _matrix(rows, workload).astype(np.float64)
    bins = _bins(_scores(rows, workload))
    weights = 1.0 / np.bincount(bins, minlength=BINS)[bins]
    weights /= weights.sum()
    centre = weights @ vectors
    around = vectors - centre
    values, directions = np.linalg.eigh((around * weights[:, None]).T @ around)
    first = directions[:, ::-1][:, :2]
    if first.shape[1] < 2:
        first = np.hstack([first, np.zeros((len(first), 2 - first.shape[1]))])
    # Which way an axis points is arbitrary: here, always the same way.
    first = first * np.where(first[np.abs(first).argmax(0), [0, 1]] < 0, -1.0, 1.0)
    kept = float(values[::-1][:2].sum() / values.sum()) if values.sum() > 0 else 1.0
    directions32, centre32 = first.astype(np.float32), centre.astype(np.float32)
    digest = hashlib.sha256(centre32.tobytes() + directions32.tobytes()).hexdigest()[:12]
    version = rows["model_version"][0].as_py()
    return Axes(digest, version, centre32, directions32, round(kept, 4))


def _shown(scores: Floats, size: int) -> npt.NDArray[np.int64]:
    """Rows to be shown, ascending: half of them any, half from all heights of scores."""
    rows = len(scores)
    if rows <= size:
        return np.arange(rows)
    rng = np.random.default_rng(0)
    chosen = set(rng.choice(rows, size // 2, replace=False).tolist())
    bins = _bins(scores)
    each = [rng.permutation(np.flatnonzero(bins == n)).tolist() for n in range(BINS)]
    while len(chosen) < size and any(each):
        for members in each:
            if members and len(chosen) < size:
                chosen.add(members.pop())
    return np.array(sorted(chosen), np.int64)


def _bins(scores: Floats) -> npt.NDArray[np.int64]:
    return np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)


def _scores(rows: pa.Table, workload: Workload) -> Floats:
    return np.asarray(rows[workload.score].to_numpy(), np.float32)


def _matrix(rows: pa.Table, workload: Workload) -> Floats:
    """The vectors, float32 [rows, dimensions]."""
    column = rows[workload.vectors.vector].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return flat.reshape(rows.num_rows, workload.vectors.dimensions)
