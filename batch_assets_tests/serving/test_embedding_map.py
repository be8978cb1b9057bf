"""The map of embeddings: stable axes, the view's rows only, all heights of scores in sight."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.serving.embedding_map import BINS, EmbeddingMap, _shown
from batch_assets_tests.serving.library import Library, day_number

MODEL = "m1"


@pytest.fixture
def library(home: Path) -> Library:
    library = Library(home)
    for n in range(3):
        library.publish(day_number(n), 40, MODEL)
    return library


def map_of(library: Library) -> EmbeddingMap:
    served: Any = SimpleNamespace(workload=library.workload, realtime=None)
    return EmbeddingMap(served)


def test_points_are_where_locate_says_they_are(library: Library) -> None:
    made, view = map_of(library), library.loaded()
    sample = made.sample(view, 1_000)
    assert len(sample["points"]) == sample["of_rows"] == 120
    assert sample["days"] == [str(day_number(0)), str(day_number(2))]
    assert sample["model_version"] == MODEL
    assert 0 <= sample["kept"] <= 1
    some = sample["points"][::7]
    found = made.locate(view, [*(point["key"] for point in some), "nobody"])
    assert found["points"] == some
    assert found["missing"] == ["nobody"]
    assert found["axes"] == sample["axes"]


def test_distances_on_the_map_are_those_of_the_vectors_along_its_axes(library: Library) -> None:
    """All vectors of these loans lie on one line, so that the map shows all there is."""
    made, view = map_of(library), library.loaded()
    points = made.sample(view, 1_000)["points"]
    for one, other in pairwise(points):
        on_map = np.hypot(one["x"] - other["x"], one["y"] - other["y"])
        assert on_map == pytest.approx(2 * abs(one["score"] - other["score"]), abs=1e-4)


def test_axes_stay_while_the_model_does(library: Library) -> None:
    made, view = map_of(library), library.loaded()
    before = made.sample(view, 10)
    library.publish(day_number(3), 40, MODEL)
    later = library.loaded()
    assert later.number != view.number
    assert made.sample(later, 1_000)["of_rows"] == 160
    assert made.sample(later, 10)["axes"] == before["axes"]
    assert map_of(library).sample(view, 10) == before  # in another process, too


def test_rows_that_predictions_do_not_name_are_not_on_the_map(library: Library) -> None:
    rows = library.published[day_number(1)]
    library.publish_vectors(day_number(1), rows, "unpublished")
    made, view = map_of(library), library.loaded()
    assert made.sample(view, 1_000)["of_rows"] == 80
    assert made.locate(view, [rows[0]["loan"]])["missing"] == [rows[0]["loan"]]


def test_without_vectors_there_is_no_map(home: Path) -> None:
    library = Library(home, with_vectors=False)
    library.publish(day_number(0), 5, MODEL)
    made, view = map_of(library), library.loaded()
    assert made.sample(view, 10)["points"] == []
    assert made.locate(view, ["a"]) == {"axes": None, "points": [], "missing": ["a"]}


@given(st.lists(st.floats(0, 1, width=32), max_size=200), st.integers(1, 100))
def test_what_is_shown_has_all_heights_of_scores(scores: list[float], size: int) -> None:
    array = np.array(scores, np.float32)
    shown = _shown(array, size)
    assert len(shown) == min(size, len(scores))
    assert (np.diff(shown) > 0).all()
    if size >= 2 * BINS:
        heights = np.minimum((array * BINS).astype(int), BINS - 1)
        assert set(heights[shown]) == set(heights)
