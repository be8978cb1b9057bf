"""The benchmark of the scoring engine judges outputs rightly, and says what it was asked to say."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scoring import data, report
from benchmarks.scoring.settings import SETTINGS
from benchmarks.scoring.trial import Trial

ROWS = 1_000
rates = st.lists(st.floats(1e3, 1e9), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    data.prepare(folder, ROWS, threads=1)
    return folder


def right_output(prepared: Path) -> pa.Table:
    vectors = np.load(prepared / "vectors.npy")
    return pa.table(
        {
            "id": np.arange(ROWS),
            "score": np.load(prepared / "scores.npy"),
            "vector": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), 64),
        }
    )


def judged(prepared: Path, target: Path, *tables: pa.Table) -> str:
    for number, table in enumerate(tables):
        pq.write_table(table, target / f"{number}.parquet")
    return data.check(prepared, target)


def test_right_output_in_any_order_and_number_of_files_is_accepted(
    prepared: Path, tmp_path: Path
) -> None:
    output = right_output(prepared).sort_by([("id", "descending")])
    lists = output["vector"].cast(pa.list_(pa.float32()))
    first = output.slice(0, 300).set_column(2, "vector", lists.slice(0, 300))
    assert judged(prepared, tmp_path, first, output.slice(300)) == ""


def test_a_missing_row_is_found(prepared: Path, tmp_path: Path) -> None:
    assert "1 rows are missing" in judged(prepared, tmp_path, right_output(prepared).slice(1))


def test_a_row_that_is_there_twice_is_found(prepared: Path, tmp_path: Path) -> None:
    output = right_output(prepared)
    assert "1 are there twice" in judged(prepared, tmp_path, output, output.slice(7, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5001])
def test_a_wrong_score_is_found(prepared: Path, tmp_path: Path, value: float) -> None:
    output = right_output(prepared)
    scores = output["score"].to_numpy().copy()
    scores[3] = value
    assert "differ" in judged(prepared, tmp_path, output.set_column(1, "score", pa.array(scores)))


def test_vectors_of_other_rows_are_found(prepared: Path, tmp_path: Path) -> None:
    output = right_output(prepared)
    shifted = np.roll(np.load(prepared / "vectors.npy"), 1, axis=0)
    vectors = pa.FixedSizeListArray.from_arrays(shifted.reshape(-1), 64)
    assert "differ" in judged(prepared, tmp_path, output.set_column(2, "vector", vectors))


def test_the_bound_is_the_cores_over_the_cpu_seconds_of_a_row() -> None:
    assert report.overlap_bound(2, [4.0, 2.0, 1.0]) == pytest.approx(2 / 1.75)


@given(rates)
def test_the_bound_is_below_what_all_cores_do_in_the_slowest_stage(found: list[float]) -> None:
    assert report.overlap_bound(2, found) <= 2 * min(found) * (1 + 1e-9)


def test_the_ceiling_takes_the_fastest_way_by_the_median() -> None:
    stages = ("decode", "products", "network", "encode")
    runs = [{stage: {"a": a, "b": 4.0} for stage in stages} for a in (1.0, 2.0, 9.0)]
    found = report.ceiling(runs, cores=3)
    assert found["fastest"] == dict.fromkeys(stages, "b")
    assert found["rows_per_second"] == 4


def test_an_engine_has_medians_and_its_highest_peak() -> None:
    trials = [
        Trial(100, start, seconds, peak, 7)
        for start, seconds, peak in [(1.0, 1.0, 30), (2.0, 4.0, 10), (9.0, 2.0, 20)]
    ]
    found = report.engine(trials, "as it comes")
    assert (found["rows_per_second"], found["startup_seconds"], found["peak_bytes"]) == (50, 2, 30)


def test_every_engine_has_its_module() -> None:
    assert set(SETTINGS) == {"ours", "daft", "ray_data", "spark", "pandas", "ray_naive"}
    folder = Path(data.__file__).parent
    assert all((folder / f"{name}.py").exists() for name in SETTINGS)
