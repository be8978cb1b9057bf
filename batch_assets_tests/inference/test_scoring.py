import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.blocks import NotFinite, check_finite
from batch_assets.inference.known import Keys, row_keys
from batch_assets.inference.network import TabularNetwork
from batch_assets.inference.planned import device_kind
from batch_assets.inference.scoring import OUTPUT_ROWS, Scorer
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning

FEATURES = ["a", "b", "c"]
ROWS = 3000


def small_network() -> TabularNetwork:
    torch.manual_seed(3)
    network = TabularNetwork(len(FEATURES))
    network.fit_encoding(np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32))
    return network


def table_of(rows: int) -> pa.Table:
    random = np.random.default_rng(1)
    columns = {name: random.normal(size=rows) for name in FEATURES}
    return pa.table({"id": [str(n) for n in range(rows)], **columns})


SCORER = Scorer(small_network(), FEATURES, device="cpu", batch_rows=512)
TABLE = table_of(ROWS)


def scored(scorer: Scorer, batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(scorer.score(batches, ["id"]))


WHOLE = scored(SCORER, TABLE.to_batches())


def vectors_of(table: pa.Table) -> np.ndarray:
    return table["vector"].combine_chunks().flatten().to_numpy()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, ROWS), max_size=20))
def test_any_cut_of_the_same_rows_gives_the_same_bits(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), ROWS]
    batches = [
        batch
        for start, end in pairwise(ends)
        for batch in TABLE.slice(start, end - start).to_batches()
    ]
    result = scored(SCORER, batches)
    assert result["id"].equals(WHOLE["id"])
    assert result["score"].to_numpy().tobytes() == WHOLE["score"].to_numpy().tobytes()
    assert vectors_of(result).tobytes() == vectors_of(WHOLE).tobytes()


@pytest.mark.parametrize("batch_rows", [256, 1024, 4096])
def test_every_batch_size_gives_the_same_bits_on_the_cpu(batch_rows: int) -> None:
    scorer = Scorer(small_network(), FEATURES, device="cpu", batch_rows=batch_rows)
    result = scored(scorer, TABLE.to_batches())
    assert vectors_of(result).tobytes() == vectors_of(WHOLE).tobytes()
    assert result["score"].to_numpy().tobytes() == WHOLE["score"].to_numpy().tobytes()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, ROWS - 1))
def test_a_row_has_the_same_bits_wherever_it_stands(start: int) -> None:
    result = scored(SCORER, TABLE.slice(start).to_batches())
    expected = WHOLE.slice(start)
    assert result["score"].to_numpy().tobytes() == expected["score"].to_numpy().tobytes()


def test_output_has_the_columns_and_types_promised() -> None:
    assert WHOLE.schema == SCORER.output_schema(TABLE.schema, ["id"])
    assert WHOLE.schema.field("score").type == pa.float32()
    assert WHOLE.schema.field("vector").type == pa.list_(pa.float32(), 64)
    assert WHOLE.num_rows == ROWS
    assert WHOLE["id"].to_pylist() == TABLE["id"].to_pylist()


def test_scores_are_those_of_the_network() -> None:
    rows = np.stack([TABLE[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    with torch.inference_mode():
        score, vector = small_network().eval()(torch.from_numpy(rows))
    np.testing.assert_allclose(WHOLE["score"].to_numpy(), score.numpy(), atol=1e-6)
    np.testing.assert_allclose(vectors_of(WHOLE), vector.numpy().ravel(), atol=1e-5)


def test_output_batches_are_bounded_and_input_is_read_only_a_little_ahead() -> None:
    table = table_of(OUTPUT_ROWS)
    batch = table.set_column(0, "id", pa.array(["x" * 300] * OUTPUT_ROWS)).to_batches()[0]
    read = 0

    def many() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for _ in range(16):
            read += 1
            yield batch

    ahead, rows = [], 0
    for result in SCORER.score(many(), ["id"]):
        assert result.num_rows <= OUTPUT_ROWS
        rows += result.num_rows
        ahead.append(read - rows // OUTPUT_ROWS)
    assert rows == 16 * OUTPUT_ROWS
    assert max(ahead) <= 5


PEAK = """
import sys
import numpy as np
import pyarrow as pa
import torch
from torch import nn
from batch_assets.inference.scoring import Scorer
from batch_assets.inference.stats import EngineStats

class Narrow(nn.Module):
    def forward(self, rows):
        return rows[:, 0], rows.repeat(1, 16)

batch = pa.record_batch({name: np.ones(65_536, np.float32) for name in "abcd"})
stats = EngineStats()
scorer = Scorer(Narrow(), list("abcd"), device="cpu", batch_rows=1024)
for _ in scorer.score((batch for _ in range(int(sys.argv[1]))), "abcd", stats):
    pass
print(stats.peak_memory_bytes)
"""


def test_memory_does_not_grow_with_the_partition() -> None:
    def peak(blocks: int) -> int:
        command = [sys.executable, "-c", PEAK, str(blocks)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    block_bytes = 65_536 * (4 + 64) * 4
    assert peak(48) < peak(8) + 5 * block_bytes


def stage_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("batch_assets")]


def test_a_consumer_that_ends_early_leaves_no_threads() -> None:
    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            yield TABLE.to_batches()[0]

    stats = EngineStats()
    results = SCORER.score(endless(), ["id"], stats)
    first = next(results)
    assert len(stage_threads()) >= 2
    results.close()
    assert stage_threads() == []
    assert stats.rows == first.num_rows


def test_an_error_of_the_input_comes_to_the_consumer_as_it_is() -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from TABLE.to_batches()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        list(SCORER.score(broken()))
    assert "broken" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert stage_threads() == []


def test_one_scorer_may_serve_several_runs_at_once() -> None:
    scorer = Scorer(small_network(), FEATURES, device="cpu", threads=2)
    before = torch.get_num_threads()
    with ThreadPoolExecutor(3) as runs:
        results = list(runs.map(lambda _: scored(scorer, TABLE.to_batches()), range(6)))
    for result in results:
        assert vectors_of(result).tobytes() == vectors_of(WHOLE).tobytes()
    with ThreadPoolExecutor(1) as new:
        assert new.submit(torch.get_num_threads).result() == before
    assert stage_threads() == []


def test_stats_say_what_was_done() -> None:
    stats = EngineStats()
    for _ in range(2):
        for _ in SCORER.score(TABLE.to_batches(), ["id"], stats):
            pass
    assert stats.rows == 2 * ROWS
    assert (stats.device, stats.precision, stats.batch_rows) == ("cpu", "fp32", 512)
    assert stats.threads == SCORER.threads >= 1
    assert (stats.out_of_memory, stats.reused, stats.compiled) == (0, 0, False)
    assert stats.bytes_read == 2 * TABLE.nbytes
    assert stats.peak_memory_bytes > stats.bytes_read
    assert min(stats.read_seconds, stats.compute_seconds, stats.elapsed_seconds) > 0
    assert min(stats.write_seconds, stats.waiting_seconds) >= 0


def test_a_size_that_was_found_is_used_by_the_next_run(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    first = Scorer(small_network(), FEATURES, device="cpu", tuning=tuning)
    many = table_of(OUTPUT_ROWS).to_batches() * 40
    stats = EngineStats()
    for _ in first.score(many, stats=stats):
        learned = tuning.read(f"{device_kind(first.device)}, {first.threads} threads", "fp32")
        if learned and learned.settled:
            break
    assert learned is not None
    again = EngineStats()
    scorer = Scorer(small_network(), FEATURES, device="cpu", tuning=tuning)
    list(scorer.score(TABLE.to_batches(), stats=again))
    assert again.batch_rows == learned.rows


def test_auto_precision_says_what_it_chose() -> None:
    scorer = Scorer(small_network(), FEATURES, device="cpu", precision="auto")
    assert scorer.precision == "auto"
    stats = EngineStats()
    list(scorer.score(TABLE.to_batches(), stats=stats))
    assert scorer.precision in ("fp32", "bf16")
    assert stats.precision == scorer.precision


def test_bf16_stays_near_fp32_and_gives_the_same_bits_however_cut() -> None:
    scorer = Scorer(small_network(), FEATURES, device="cpu", precision="bf16")
    result = scored(scorer, TABLE.to_batches())
    assert result.schema == WHOLE.schema
    near = np.abs(result["score"].to_numpy() - WHOLE["score"].to_numpy())
    assert 0 < near.max() < 0.01
    cut = scored(scorer, TABLE.to_batches(max_chunksize=700))
    assert vectors_of(cut).tobytes() == vectors_of(result).tobytes()


class InMemory:
    """Results in a dictionary, and how many were asked for and kept."""

    def __init__(self) -> None:
        self.results: dict[bytes, tuple[np.float32, np.ndarray]] = {}
        self.kept = 0

    def find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mask = np.array([key.tobytes() in self.results for key in keys])
        found = [self.results[key.tobytes()] for key in keys[mask]]
        vectors = np.array([vector for _, vector in found], dtype=np.float32)
        return mask, np.array([score for score, _ in found], dtype=np.float32), vectors

    def keep(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        self.kept += len(keys)
        for key, score, vector in zip(keys, scores, vectors, strict=True):
            self.results[key.tobytes()] = score, vector


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, ROWS), min_size=2, max_size=6))
def test_only_rows_that_are_not_known_are_computed_and_the_bits_are_the_same(
    cuts: list[int],
) -> None:
    known, parts = InMemory(), [TABLE.slice(a, b - a) for a, b in pairwise(sorted(cuts))]
    before = sum(part.num_rows for part in parts[::2])
    for part in parts[::2]:
        list(SCORER.score(part.to_batches(), known=known))
    assert known.kept == before
    for reused in (before, ROWS):
        stats = EngineStats()
        batches = SCORER.score(TABLE.to_batches(), ["id"], stats, known)
        result = pa.Table.from_batches(batches)
        assert result.equals(WHOLE)
        assert vectors_of(result).tobytes() == vectors_of(WHOLE).tobytes()
        assert (stats.reused, stats.rows, stats.precision) == (reused, ROWS, "fp32")
    assert known.kept == ROWS


def test_equal_rows_are_computed_once() -> None:
    known, stats = InMemory(), EngineStats()
    thrice = pa.concat_tables([TABLE.slice(0, 500)] * 3)
    batches = SCORER.score(thrice.to_batches(), ["id"], stats, known)
    assert pa.Table.from_batches(batches).equals(pa.concat_tables([WHOLE.slice(0, 500)] * 3))
    assert (known.kept, stats.reused) == (500, 1000)


def test_hashes_are_the_keys_under_the_salt() -> None:
    batches = list(SCORER.score(TABLE.to_batches(), ["id"], hashes=True))
    result = pa.Table.from_batches(batches)
    assert result.schema == SCORER.output_schema(TABLE.schema, ["id"], hashes=True)
    rows = np.stack([TABLE[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    expected = [key.tobytes() for key in row_keys(rows, SCORER.salt)]
    assert result["input_hash"].to_pylist() == expected
    assert result.drop_columns("input_hash").equals(WHOLE)


def test_the_salt_names_what_results_depend_on() -> None:
    def salt(**options: Any) -> str:
        return Scorer(small_network(), FEATURES, device="cpu", **options).salt

    assert salt(version="v1") == salt(version="v1", batch_rows=1024, threads=1)
    assert len({salt(), salt(version="v1"), salt(version="v1", precision="bf16")}) == 3


def test_one_column_that_holds_all_features_is_used_as_it_is() -> None:
    rows = np.stack([TABLE[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), len(FEATURES))
    table = pa.table({"id": TABLE["id"], "all": lists})
    scorer = Scorer(small_network(), FEATURES, device="cpu", column="all")
    assert scored(scorer, table.to_batches(max_chunksize=700)).equals(WHOLE)


@pytest.mark.parametrize("rows", [1, 2, 31, 33, 256, 257])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_rows_have_the_bits_that_they_have_among_many(rows: int, precision: str) -> None:
    scorer = Scorer(small_network(), FEATURES, device="cpu", precision=precision)
    whole = scored(scorer, TABLE.to_batches())
    matrix = np.stack([TABLE[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    for start in (0, 1, 1000):
        scores, vectors = scorer.score_matrix(matrix[start : start + rows])
        expected = whole.slice(start, rows)
        assert scores.tobytes() == expected["score"].to_numpy().tobytes()
        assert vectors.tobytes() == vectors_of(expected).tobytes()
    assert [part.shape for part in scorer.score_matrix(matrix[:0])] == [(0,), (0, 64)]


def test_single_rows_have_these_bits_also_from_many_threads_beside_a_run() -> None:
    matrix = np.stack([TABLE[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)

    def single(row: int) -> bytes:
        return SCORER.score_matrix(matrix[row : row + 1])[1].tobytes()

    with ThreadPoolExecutor(4) as requests:
        vectors = requests.map(single, range(400))
        assert scored(SCORER, TABLE.to_batches()).equals(WHOLE)
        assert b"".join(vectors) == vectors_of(WHOLE.slice(0, 400)).tobytes()


def test_no_rows_give_no_batches() -> None:
    assert list(SCORER.score([])) == []
    assert list(SCORER.score(TABLE.slice(0, 0).to_batches())) == []


def test_a_null_is_scored_as_the_median() -> None:
    batch = pa.record_batch({"a": [None], "b": [0.5], "c": [0.1]})
    batch = batch.set_column(0, "a", pa.array([None], pa.float64()))
    fill = float(small_network().fill[0])
    filled = pa.record_batch({"a": [fill], "b": [0.5], "c": [0.1]})
    assert next(SCORER.score([batch])).equals(next(SCORER.score([filled])))


def test_wrong_settings_and_columns_are_named() -> None:
    network = small_network()
    with pytest.raises(BatchAssetsError, match="multiple of 256"):
        Scorer(network, FEATURES, device="cpu", batch_rows=777)
    with pytest.raises(BatchAssetsError, match="Precision 'int8'"):
        Scorer(network, FEATURES, device="cpu", precision="int8")
    with pytest.raises(BatchAssetsError, match="does not run on 2 features"):
        Scorer(network, FEATURES[:2], device="cpu")
    with pytest.raises(BatchAssetsError, match="threads is 0"):
        Scorer(network, FEATURES, device="cpu", threads=0)
    with pytest.raises(BatchAssetsError, match="columns to pass through: key"):
        next(SCORER.score(TABLE.to_batches(), ["key"]))


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu() -> None:
    result = scored(Scorer(small_network(), FEATURES, device="cuda"), TABLE.to_batches())
    np.testing.assert_allclose(
        result["score"].to_numpy(), WHOLE["score"].to_numpy(), atol=1e-5, rtol=0
    )


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_gpu_gives_a_row_the_same_bits_however_it_comes(precision: str) -> None:
    table = table_of(100_000)
    matrix = np.stack([table[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    scorer = Scorer(small_network(), FEATURES, device="cuda", precision=precision)
    whole = vectors_of(scored(scorer, table.to_batches()))
    cut = vectors_of(scored(scorer, table.to_batches(max_chunksize=777)))
    assert cut.tobytes() == whole.tobytes()
    for start, rows in ((0, 1), (70_001, 200), (5, 3000)):
        _, vectors = scorer.score_matrix(matrix[start : start + rows])
        assert vectors.tobytes() == whole.reshape(-1, 64)[start : start + rows].tobytes()


@pytest.mark.gpu
def test_what_overlaps_on_the_gpu_gives_each_row_its_own_result() -> None:
    scorer = Scorer(small_network(), FEATURES, device="cuda", threads=3)
    table = table_of(300_000)
    result = scored(scorer, table.to_batches())
    expected = scored(SCORER, table.to_batches())
    assert result["id"].equals(expected["id"])
    np.testing.assert_allclose(vectors_of(result), vectors_of(expected), atol=1e-4, rtol=0)


class Fails(torch.nn.Module):
    """Gives no number where the first feature is above 2, in scores or in vectors."""

    def __init__(self, vectors: bool) -> None:
        super().__init__()
        self.inner, self.vectors = small_network(), vectors

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores, vectors = self.inner(rows)
        wrong = rows[:, 0] > 2
        if self.vectors:
            return scores, vectors.masked_fill(wrong[:, None], float("inf"))
        return scores.masked_fill(wrong, float("nan")), vectors


class Nothing:
    """Knows no result, and keeps what it is given."""

    def __init__(self) -> None:
        self.kept = 0

    def find(self, keys: Keys) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.zeros(len(keys), bool), np.empty(0, np.float32), np.empty((0, 64), np.float32)

    def keep(self, keys: Keys, scores: np.ndarray, vectors: np.ndarray) -> None:
        self.kept += len(keys)


@pytest.mark.parametrize("vectors", [False, True])
def test_a_result_that_is_no_number_is_refused_by_model_and_row(vectors: bool) -> None:
    scorer = Scorer(Fails(vectors), FEATURES, device="cpu", version="3f5c")
    wrong = [row["id"] for row in TABLE.to_pylist() if row["a"] > 2]
    named = f"Model 3f5c .* {len(wrong)} of 3,000 rows .{', '.join(wrong[:5])}, ...."
    assert len(wrong) > 5
    with pytest.raises(NotFinite, match=named):
        scored(scorer, TABLE.to_batches())
    known = Nothing()
    with pytest.raises(NotFinite, match=named):
        list(scorer.score(TABLE.to_batches(), ["id"], known=known))
    assert known.kept == 0
    matrix = np.column_stack([TABLE[name].to_numpy() for name in FEATURES]).astype(np.float32)
    for rows in (matrix, matrix[matrix[:, 0] > 2][:1]):
        with pytest.raises(NotFinite, match="Model 3f5c"):
            scorer.score_matrix(rows)
    assert scored(scorer, TABLE.filter(pa.compute.less(TABLE["a"], 2)).to_batches()).num_rows


def test_large_numbers_whose_sum_is_none_are_numbers() -> None:
    large = np.full((8, 2), 3e38, np.float32)
    check_finite("3f5c", np.zeros(8, np.float32), large)
    large[3, 1] = np.inf
    with pytest.raises(NotFinite, match=r"1 of 8 rows \(3\),"):
        check_finite("3f5c", np.zeros(8, np.float32), large)
