import json
import os
import subprocess
import sys
import threading
import zlib
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
from batch_assets.inference.encoder import HistoryEncoder
from batch_assets.inference.sequences.scoring import SequenceScorer
from batch_assets.inference.sequences.windows import Encoded, sequence_array
from batch_assets.inference.stats import EngineStats
from batch_assets.inference.tuning import Tuning

FEATURES = 3
LENGTHS = [0, 1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 40, 63, 70, 100, 130, 200, 290]


def network() -> HistoryEncoder:
    torch.manual_seed(8)
    return HistoryEncoder(FEATURES, width=32, layers=2, heads=2, embedding=8)


Shape = tuple[int, ...]


def scorer(
    batch_steps: int | None = None, watch: list[Shape] | None = None, **options: Any
) -> SequenceScorer:
    """A scorer of the small network; ``watch`` gets the shape of each batch."""
    encoder = network()
    if watch is not None:
        encoder.register_forward_pre_hook(lambda _, inputs: watch.append(tuple(inputs[0].shape)))
    return SequenceScorer(
        encoder, "steps", FEATURES, device="cpu", batch_steps=batch_steps, **options
    )


def rows_of(lengths: list[int], seed: int = 9) -> pa.RecordBatch:
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    values = np.random.default_rng(seed).normal(size=(ends[-1], FEATURES))
    return pa.record_batch(
        {"id": pa.array(range(len(lengths))), "steps": sequence_array(values, ends)}
    )


def scored(scorer: SequenceScorer, batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(scorer.score(batches, ["id"]))


def bits(table: pa.Table) -> tuple[list[int], bytes, bytes]:
    vectors = table["vector"].combine_chunks().flatten().to_numpy()
    return table["id"].to_pylist(), table["score"].to_numpy().tobytes(), vectors.tobytes()


ONE_BY_ONE = scorer()


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=5),
    st.sampled_from([256, 2048, 8192]),
    st.sampled_from([2000, 2**15, 2**25]),
)
def test_order_and_bits_are_those_of_sequences_scored_one_by_one(
    lengths: list[int], cuts: list[int], batch_steps: int, window_bytes: int
) -> None:
    rows = rows_of(lengths)
    ends = [0, *sorted(min(each, len(lengths)) for each in cuts), len(lengths)]
    batches = [rows.slice(start, end - start) for start, end in pairwise(ends)]
    result = scored(scorer(batch_steps, window_bytes=window_bytes), batches)
    alone = [scored(ONE_BY_ONE, [rows.slice(row, 1)]) for row in range(len(lengths))]
    assert bits(result) == bits(pa.concat_tables(alone))


def test_scores_are_those_of_the_network_without_padding() -> None:
    rows = rows_of(LENGTHS)
    result = scored(scorer(), [rows])
    encoder = network().eval()
    for row, steps in enumerate(rows["steps"].to_pylist()):
        values = torch.tensor(steps, dtype=torch.float32).reshape(1, -1, FEATURES)
        if not len(steps):
            values = torch.zeros(1, 1, FEATURES)
        with torch.inference_mode():
            score, vector = encoder(values, torch.tensor([len(steps)]))
        np.testing.assert_allclose(result["score"][row].as_py(), float(score), atol=1e-6)
        np.testing.assert_allclose(result["vector"][row].as_py(), vector[0].numpy(), atol=1e-5)


def test_output_has_the_columns_and_types_promised() -> None:
    result = scored(ONE_BY_ONE, [rows_of([3, 2])])
    assert result.schema == ONE_BY_ONE.output_schema(rows_of([1]).schema, ["id"])
    assert result.schema.field("score").type == pa.float32()
    assert result.schema.field("vector").type == pa.list_(pa.float32(), 8)


def test_nothing_to_score_gives_nothing() -> None:
    assert list(ONE_BY_ONE.score([])) == []
    assert list(ONE_BY_ONE.score([rows_of([4]).slice(0, 0)])) == []


def test_a_null_is_a_sequence_without_steps_and_a_null_number_is_missing() -> None:
    kind = pa.list_(pa.list_(pa.float32(), FEATURES))
    nan = float("nan")
    steps = [
        None,
        [],
        [[1.0, None, 3.0]],
        [[1.0, nan, 3.0]],
        [None],
        [[nan] * 3],
        [[1.0, 2.0, 3.0]],
    ]
    rows = pa.record_batch({"id": list(range(7)), "steps": pa.array(steps, kind)})
    for start in (0, 1):  # as a slice, too, whose first rows are elsewhere in memory
        result = scored(ONE_BY_ONE, [rows.slice(start)])["vector"].to_pylist()[-6:]
        assert result[1] == result[2]
        assert result[3] == result[4]
        assert result[1] != result[5]
    every = scored(ONE_BY_ONE, [rows])["vector"].to_pylist()
    assert every[0] == every[1]


def test_a_sequence_that_is_not_a_number_spoils_no_other() -> None:
    class Plain(torch.nn.Module):
        def forward(
            self, steps: torch.Tensor, lengths: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            sums = steps.sum(1)
            return sums[:, 0], sums

    plain = SequenceScorer(Plain(), "steps", FEATURES, device="cpu")
    values = np.ones((6, FEATURES))
    values[2] = np.nan
    steps = sequence_array(values, np.array([0, 2, 4, 6]))
    (result,) = plain.score([pa.record_batch({"steps": steps})])
    np.testing.assert_array_equal(result["score"].to_numpy(), np.array([2.0, np.nan, 2.0]))


def test_one_giant_sequence_beyond_budget_and_window_is_scored_alone() -> None:
    shapes: list[Shape] = []
    watched = scorer(512, watch=shapes, window_bytes=10_000)
    lengths = [3, 5000, 2]
    result = scored(watched, [rows_of(lengths)])
    assert result["id"].to_pylist() == [0, 1, 2]
    assert (1, 5120, FEATURES) in shapes
    assert all(rows * length <= 512 for rows, length, _ in shapes if length < 5000)


def test_no_batch_has_more_steps_than_the_budget() -> None:
    shapes: list[Shape] = []
    watched = scorer(4096, watch=shapes)
    lengths = np.random.default_rng(3).integers(0, 500, 400).tolist()
    scored(watched, [rows_of(lengths)])
    assert max(rows * length for rows, length, _ in shapes) <= 4096
    assert {rows * length % 256 for rows, length, _ in shapes} == {0}


def test_only_a_few_windows_are_in_memory() -> None:
    rows = rows_of([20] * 100)
    rows = rows.append_column("text", pa.array(["x" * 30_000] * 100))
    read = 0

    def many() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield rows

    given_out, ahead = 0, []
    for batch in scorer(window_bytes=rows.nbytes).score(many(), ["id", "text"]):
        given_out += batch.num_rows
        ahead.append(read - given_out // 100)
    assert given_out == 10_000
    # A window has 3 MB and one batch: those in 32 MiB of results, and a few on their way.
    assert max(ahead) <= 11 + 10


class Steps:
    """Packs sequences and counts how often they were unpacked."""

    @staticmethod
    def packed(rows: pa.RecordBatch) -> pa.RecordBatch:
        lists = rows["steps"].to_pylist()
        blobs = [zlib.compress(np.array(each, np.float32).tobytes()) for each in lists]
        lengths = [len(each) for each in lists]
        return pa.record_batch({"id": rows["id"], "steps": pa.array(blobs), "length": lengths})

    @staticmethod
    def unpacked(blob: object) -> np.ndarray:
        assert isinstance(blob, bytes)
        return np.frombuffer(zlib.decompress(blob), np.float32).reshape(-1, FEATURES)


ENCODED = Encoded(Steps.unpacked, "length")


@pytest.mark.parametrize("host_threads", [1, 3])
def test_sequences_that_are_decoded_have_the_bits_of_those_that_need_not_be(
    host_threads: int,
) -> None:
    rows = rows_of(LENGTHS * 20)
    unpacking = scorer(encoded=ENCODED, host_threads=host_threads, window_bytes=20_000)
    assert bits(scored(unpacking, [Steps.packed(rows)])) == bits(scored(scorer(), [rows]))


def test_costs_of_decoding_change_the_order_of_work_and_nothing_else() -> None:
    rows = rows_of(LENGTHS * 20)
    packed = Steps.packed(rows)
    costs = pa.array([None if n % 9 == 0 else (-1.0) ** n * n for n in range(packed.num_rows)])
    packed = packed.append_column("cost", costs)
    unpacking = scorer(encoded=Encoded(Steps.unpacked, "length", "cost"))
    assert bits(scored(unpacking, [packed])) == bits(scored(scorer(), [rows]))


def test_a_length_that_is_not_what_is_decoded_is_named() -> None:
    packed = Steps.packed(rows_of([3, 5])).set_column(2, "length", pa.array([3, 6]))
    with pytest.raises(BatchAssetsError, match=r"6 steps of 3 numbers.*\(5, 3\)"):
        list(scorer(encoded=ENCODED).score([packed]))
    packed = packed.set_column(2, "length", pa.array([3, -1]))
    with pytest.raises(BatchAssetsError, match="'length' has a negative length"):
        list(scorer(encoded=ENCODED).score([packed]))
    assert working() == []


def working() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("batch_assets")]


def test_a_consumer_that_ends_early_leaves_no_threads() -> None:
    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            yield rows_of(LENGTHS)

    threads = torch.get_num_threads()
    results = scorer(window_bytes=20_000).score(endless())
    next(results)
    assert working()
    results.close()
    assert working() == []
    with ThreadPoolExecutor(1) as new:
        assert new.submit(torch.get_num_threads).result() == threads


def test_an_error_of_the_input_comes_to_the_consumer_as_it_is() -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield rows_of(LENGTHS)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(scorer(window_bytes=1000).score(broken()))
    assert working() == []


def test_one_scorer_may_serve_several_runs_at_once() -> None:
    rows = rows_of(LENGTHS * 10)
    expected = bits(scored(ONE_BY_ONE, [rows]))
    shared = scorer(threads=2)
    with ThreadPoolExecutor(3) as runs:
        results = list(runs.map(lambda _: bits(scored(shared, [rows])), range(6)))
    assert results == [expected] * 6


def test_bf16_stays_near_and_has_the_same_bits_however_cut() -> None:
    rows = rows_of(LENGTHS * 5)
    exact = scored(scorer(), [rows])["score"].to_numpy()
    half = scored(scorer(precision="bf16"), [rows])
    assert 0 < np.abs(half["score"].to_numpy() - exact).max() < 0.02


def test_stats_say_what_was_done() -> None:
    stats = EngineStats()
    rows = rows_of(LENGTHS * 10)
    list(scorer(threads=2).score([rows], stats=stats))
    assert stats.rows == len(LENGTHS) * 10
    assert (stats.device, stats.precision, stats.threads) == ("cpu", "fp32", 2)
    assert stats.bytes_read == rows.nbytes
    assert min(stats.read_seconds, stats.compute_seconds, stats.elapsed_seconds) > 0
    assert stats.compute_seconds + stats.waiting_seconds <= stats.elapsed_seconds * 1.01
    assert stats.out_of_memory == 0


def test_wrong_settings_and_columns_are_named() -> None:
    with pytest.raises(BatchAssetsError, match="Precision 'int8'"):
        scorer(precision="int8")
    with pytest.raises(BatchAssetsError, match="batch_steps is 100"):
        scorer(100)
    with pytest.raises(BatchAssetsError, match="threads and host_threads"):
        scorer(host_threads=0)
    with pytest.raises(BatchAssetsError, match="does not run on sequences of 4 features"):
        SequenceScorer(network(), "steps", 4, device="cpu")
    with pytest.raises(BatchAssetsError, match="columns to pass through: key"):
        list(ONE_BY_ONE.score([rows_of([1])], ["key"]))
    with pytest.raises(BatchAssetsError, match="lack the columns steps"):
        list(ONE_BY_ONE.score([pa.record_batch({"id": [1]})]))
    with pytest.raises(BatchAssetsError, match=r"'steps' is of type int64, not a list"):
        list(ONE_BY_ONE.score([pa.record_batch({"steps": [1]})]))


def in_little_memory(folder: Path, sequences: int, free_mib: int) -> dict[str, object]:
    command = [sys.executable, "-m", "batch_assets_tests.inference.sequences.little_memory"]
    arguments = [str(folder / "sizes.json"), str(sequences), str(free_mib)]
    # Each thread would otherwise reserve address space for an arena of its own.
    done = subprocess.run(
        [*command, *arguments],
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
def test_what_does_not_fit_into_memory_is_computed_in_smaller_batches(tmp_path: Path) -> None:
    (tmp_path / "free").mkdir()
    expected = in_little_memory(tmp_path / "free", 800, 0)
    assert expected["out_of_memory"] == 0
    first = in_little_memory(tmp_path, 800, 400)
    assert first["rows"] == 800
    assert int(str(first["out_of_memory"])) > 0
    assert int(str(first["batch_steps"])) <= 2048
    assert first["digest"] == expected["digest"]
    # The next run begins with what was learned, and nothing fails any more.
    again = in_little_memory(tmp_path, 800, 400)
    assert again["out_of_memory"] == 0
    assert again["digest"] == expected["digest"]


def test_budgets_that_were_found_are_used_by_the_next_run(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path / "sizes.json", "m")
    first = scorer(tuning=tuning, threads=1)
    rows = rows_of([8] * 20_000)
    for _ in range(40):
        scored(first, [rows])
        if first.budgets.settled:
            break
    assert first.budgets.settled
    again = scorer(tuning=tuning, threads=1)
    scored(again, [rows.slice(0, 1)])
    assert again.budgets.settled
    assert again.budgets.steps == first.budgets.steps
