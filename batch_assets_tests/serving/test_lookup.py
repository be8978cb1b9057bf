"""Every prediction is found, whole, wherever it lies."""

from pathlib import Path

import pytest

from batch_assets_tests.serving.library import Library, day_number

IN_MEMORY, ON_DISK = 50_000_000, 1_000


@pytest.fixture(params=["vectors", "no vectors"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Library:
    made = Library(tmp_path, with_vectors=request.param == "vectors")
    for n in range(4):
        made.publish(day_number(n), 40, "aa", files=n % 2 + 1)
    return made


def test_what_is_in_memory_is_what_was_published(library: Library) -> None:
    lookups, view = library.lookups, library.loaded()
    for rows in library.published.values():
        for row in rows:
            found = lookups.in_memory(view, row["loan"])
            assert found is not None
            assert (found.row, found.source) == (row, "memory")
    assert lookups.in_memory(view, "0301-40") is None
    assert not lookups.maybe(view, "0301-40")
    assert lookups.from_store(view, ["0301-40"]) == {}


def test_what_is_on_disk_is_what_was_published(library: Library) -> None:
    library.memory = ON_DISK
    lookups, view = library.lookups, library.loaded()
    assert not view.blocks
    wanted = {row["loan"]: row for rows in library.published.values() for row in rows}
    assert not any(lookups.in_memory(view, key) for key in wanted)
    assert all(lookups.maybe(view, key) for key in wanted)
    found = lookups.from_store(view, [*wanted, "never lent"])
    assert {key: one.row for key, one in found.items()} == wanted
    assert {one.source for one in found.values()} == {"store"}
    assert {k: f.row for k in wanted for f in lookups.from_store(view, [k]).values()} == wanted
