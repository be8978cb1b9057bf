"""What is in the cache is right, bounded, and shared by processes that may be killed."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from batch_assets.errors import BatchAssetsError
from batch_assets.inference.cache import SAMPLED, EmbeddingCache, open_cache, read_reports
from batch_assets.inference.network import TabularNetwork
from batch_assets.inference.payoff import Payoff, write_payoff
from batch_assets.inference.scoring import Scorer
from batch_assets.inference.stats import EngineStats
from batch_assets_tests.inference import cache_writer
from batch_assets_tests.inference.cache_writer import LIMIT, ROWS, block, check

FEATURES = [f"feature_{number}" for number in range(15)]
MODEL = "a model"
CHEAP = Payoff(looked_up=10, look_up_seconds=1e9, computed=10, compute_seconds=1.0, computations=2)
COSTLY = Payoff(looked_up=10, look_up_seconds=0.1, computed=10, compute_seconds=1e9, computations=2)


def always(folder: Path, limit: int = LIMIT) -> EmbeddingCache:
    return EmbeddingCache(folder, limit, always=True)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.rows"))


def process(what: str, folder: Path, seed: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", cache_writer.__name__, what, str(folder), str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(running: "subprocess.Popen[str]") -> tuple[int, str]:
    _, errors = running.communicate()
    return running.returncode, errors


def test_what_was_kept_is_found_at_once_and_by_the_next_run(tmp_path: Path) -> None:
    with always(tmp_path / "cache") as cache:
        assert check(cache, 1) == 0
        cache.keep(*block(1))
        assert check(cache, 1) == ROWS
    with always(tmp_path / "cache") as cache:
        assert check(cache, 1) == ROWS
        assert check(cache, 2) == 0
        keys, scores, vectors = (
            np.concatenate(pair) for pair in zip(block(1), block(2), strict=True)
        )
        mixed = np.random.default_rng(0).permutation(len(keys))
        known, known_scores, known_vectors = cache.find(keys[mixed])
        assert np.array_equal(known, mixed < ROWS)
        assert np.array_equal(known_scores, scores[mixed][known])
        assert np.array_equal(known_vectors, vectors[mixed][known])


def test_a_cache_that_nobody_asked_leaves_no_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with always(tmp_path / "cache"):
        pass
    assert not (tmp_path / "cache").exists()
    assert not caplog.text


def test_the_folder_keeps_to_its_size_and_what_was_used_last_stays(tmp_path: Path) -> None:
    limit = 2**20  # of blocks of about 140 kB
    with always(tmp_path, limit) as cache:
        cache.keep(*block(0))
    for path in files(tmp_path):
        os.utime(path, (1, 1))
    with always(tmp_path, limit) as cache:
        for seed in range(1, 15):
            assert check(cache, 0) == ROWS
            cache.keep(*block(seed))
            assert sum(path.stat().st_size for path in tmp_path.glob("*.rows")) <= limit
        assert check(cache, 0) == ROWS
        assert check(cache, 1) < ROWS // 10
        assert check(cache, 14) == ROWS


def test_a_row_that_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    with always(tmp_path, 20) as cache:
        cache.keep(*block(0))
        assert check(cache, 0) == 0
    assert not files(tmp_path)


def test_small_files_become_one(tmp_path: Path) -> None:
    for seed in range(40):
        with always(tmp_path) as cache:
            cache.keep(*(values[:100] for values in block(seed)))
    assert len(files(tmp_path)) < 10
    with always(tmp_path) as cache:
        assert all(check(cache, seed) == 100 for seed in range(40))


def test_the_filter_grows_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_assets.inference.stored_rows.LEAST_CAPACITY", 1_000)
    with always(tmp_path) as cache:
        for seed in range(10):
            cache.keep(*block(seed))
        assert all(check(cache, seed) == ROWS for seed in range(10))


def test_indexes_are_let_go_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_assets.inference.stored_rows.INDEX_BYTES", 50_000)
    with always(tmp_path, 2**30) as cache:
        cache._rows.segment_bytes = 100_000
        for _ in range(2):
            for seed in range(10):
                cache.keep(*block(seed)) if not check(cache, seed) else None
        loaded = [segment for segment in cache._rows.segments if segment.loaded is not None]
        assert 0 < len(loaded) < len(cache._rows.segments)
        assert all(check(cache, seed) == ROWS for seed in range(10))


def test_results_of_other_sizes_stand_side_by_side(tmp_path: Path) -> None:
    keys, scores, vectors = block(0)
    with always(tmp_path) as cache:
        cache.keep(keys, scores, vectors[:, :3])
        cache.keep(*block(1))
    with always(tmp_path) as cache:
        assert cache.find(keys)[2].shape == (ROWS, 3)
        assert check(cache, 1) == ROWS


def test_a_damaged_file_is_removed_and_its_rows_are_unknown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with always(tmp_path) as cache:
        cache.keep(*block(0))
    (path,) = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with always(tmp_path) as cache:
        assert check(cache, 0) == 0
        assert "is not what was written" in caplog.text
        assert not files(tmp_path)
        cache.keep(*block(0))
        assert check(cache, 0) == ROWS


def test_the_folder_may_be_deleted_at_any_moment(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with always(folder) as cache:
        cache.keep(*block(0))
        cache._rows.flush()
        shutil.rmtree(folder)
        assert check(cache, 0) == 0
        cache.keep(*block(1))
    with always(folder) as cache:
        assert check(cache, 1) == ROWS


def test_a_folder_that_cannot_be_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with always(tmp_path / "file" / "cache") as cache:
        assert check(cache, 0) == 0
        cache.keep(*block(0))
    assert "is done without" in caplog.text


def test_a_full_disk_is_done_without(tmp_path: Path) -> None:
    code, errors = ended(process("full", tmp_path, 0))
    assert code == 0, errors
    assert errors.count("cannot be written") == 1
    assert not files(tmp_path)
    assert not list(tmp_path.glob(".new-*.rows"))


def test_what_another_process_keeps_is_seen(tmp_path: Path) -> None:
    with always(tmp_path) as cache:
        assert check(cache, 5) == 0
        code, errors = ended(process("work", tmp_path, 0))
        assert code == 0, errors
        assert check(cache, 5) == ROWS


def test_processes_that_write_at_once_find_what_is_right(tmp_path: Path) -> None:
    running = [process("work", tmp_path, seed) for seed in (0, 10, 1_000, 2_000)]
    for one in running:
        code, errors = ended(one)
        assert code == 0, errors
    with always(tmp_path) as cache:
        assert sum(check(cache, seed) for seed in (0, 15, 1_000, 2_000)) == 4 * ROWS


def test_a_process_killed_while_it_writes_leaves_nothing_that_counts(tmp_path: Path) -> None:
    with always(tmp_path) as cache:
        cache.keep(*block(0))
    code, _ = ended(process("torn", tmp_path, 1))
    assert code == -signal.SIGKILL
    (torn,) = tmp_path.glob(".new-*.rows")
    with always(tmp_path) as cache:
        assert check(cache, 0) == ROWS
        assert check(cache, 1) == 0
        cache.keep(*block(1))
        assert check(cache, 1) == ROWS
    assert torn.exists()  # its writer could still be there
    os.utime(torn, (1, 1))
    with always(tmp_path) as cache:
        assert not torn.exists()
        assert check(cache, 1) == ROWS


def test_a_process_killed_at_any_moment_leaves_what_is_right(tmp_path: Path) -> None:
    for seed in range(0, 300, 100):
        running = process("forever", tmp_path, seed)
        kept = [running.stdout.readline() for _ in range(10 + seed // 50)] if running.stdout else []
        running.kill()
        assert ended(running)[0] == -signal.SIGKILL
        assert kept[-1]
        with always(tmp_path) as cache:
            assert sum(check(cache, number) for number in range(seed, seed + 100)) > 5 * ROWS


def scorer(seed: int = 0, version: str = "1") -> Scorer:
    torch.manual_seed(seed)
    network = TabularNetwork(len(FEATURES))
    network.fit_encoding(np.random.default_rng(seed).standard_normal((1_000, 15), dtype=np.float32))
    return Scorer(network, FEATURES, device="cpu", version=version)


def batches(rows: np.ndarray) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(rows), 3_000):
        columns = [pa.array(column) for column in rows[start : start + 3_000].T]
        yield pa.record_batch(columns, names=FEATURES)


def scored(rows: np.ndarray, cache: EmbeddingCache | None) -> tuple[bytes, int]:
    """Bits of scores and vectors, and how many rows were known."""
    stats = EngineStats()
    table = pa.Table.from_batches(scorer().score(batches(rows), stats=stats, known=cache))
    vectors = table["vector"].combine_chunks().flatten().to_numpy()
    return table["score"].to_numpy().tobytes() + vectors.tobytes(), stats.reused


def test_scores_and_vectors_are_the_same_bits_whatever_is_known(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((10_001, 15), dtype=np.float32)
    rows[5_000:5_100] = rows[:100]
    rows[7, 3], rows[8, 3], rows[9, 3] = np.nan, -0.0, np.inf
    expected, _ = scored(rows, None)
    with always(tmp_path) as cache:
        assert scored(rows[1::2], cache)[1] <= 50  # those that come twice
        half, known = scored(rows, cache)
        assert half == expected
        assert len(rows) // 2 <= known < len(rows)
        assert scored(rows, cache) == (expected, len(rows))
    with always(tmp_path) as cache:  # the next run
        assert scored(rows, cache) == (expected, len(rows))
    assert ended(process("torn", tmp_path, 1))[0] == -signal.SIGKILL
    with always(tmp_path) as cache:
        assert scored(rows, cache) == (expected, len(rows))
        assert scored(rows[::-1], cache)[1] == len(rows)


def test_another_version_of_the_model_finds_nothing(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((1_000, 15), dtype=np.float32)
    with always(tmp_path) as cache:
        scored(rows, cache)
        stats = EngineStats()
        list(scorer(1, version="2").score(batches(rows), stats=stats, known=cache))
        assert stats.reused == 0


def test_where_it_does_not_pay_nothing_is_found_and_a_sample_is_kept(tmp_path: Path) -> None:
    write_payoff(tmp_path, MODEL, CHEAP)
    with EmbeddingCache(tmp_path, LIMIT, model=MODEL) as cache:
        assert not cache.in_use
        for seed in (*range(20), *range(20)):
            assert check(cache, seed) == 0
            cache.keep(*block(seed))
        cache.close()
        report = cache.report()
        assert abs(report["rows"] * SAMPLED / (20 * ROWS) - 1) < 0.2
        assert (report["hits"], report["misses"], report["pays"]) == (0, 0, False)
    with always(tmp_path) as cache:
        assert sum(check(cache, seed) for seed in range(20)) == report["rows"]


def test_where_it_pays_all_rows_are_kept_and_how_many_come_again_is_learned(
    tmp_path: Path,
) -> None:
    write_payoff(tmp_path, MODEL, COSTLY)
    with EmbeddingCache(tmp_path, LIMIT, model=MODEL) as cache:
        assert cache.in_use
        cache.find(block(0)[0])
        cache.keep(*block(0))
        assert check(cache, 0) == ROWS
        before = cache.report()
        for _ in range(500):
            check(cache, 0)
        assert cache.report()["expected_hit_rate"] > 3 * before["expected_hit_rate"]
        assert cache.report()["hits"] == 501 * ROWS
    assert read_reports(tmp_path)[MODEL]["hits"] == 501 * ROWS


def test_the_sample_says_how_many_rows_would_be_known(tmp_path: Path) -> None:
    """Though nearly none is kept, repeats are noticed: the sample is chosen by content."""
    write_payoff(tmp_path, MODEL, CHEAP)
    with EmbeddingCache(tmp_path, LIMIT, model=MODEL) as cache:
        for _ in range(2):
            for seed in range(100):
                cache.find(block(seed)[0])
                cache.keep(*block(seed))
        ever = cache._ever
        assert abs(ever.seen / (200 * ROWS) - 1) < 0.1
        assert ever.hits == ever.seen // 2


def test_what_it_costs_decides() -> None:
    million = 1_000_000
    assert Payoff().pays
    known = Payoff(
        looked_up=million,
        look_up_seconds=1.0,
        kept=million,
        keep_seconds=1.0,
        computed=million,
        computations=2,
    )
    assert replace(known, compute_seconds=100.0).pays
    assert not replace(known, compute_seconds=1.0).pays
    assert replace(known, compute_seconds=2.0, seen=10 * million, hits=9 * million).pays
    assert not replace(known, compute_seconds=100.0, seen=100 * million).pays


def test_what_was_seen_long_ago_counts_less() -> None:
    payoff = Payoff(seen=30_000_000, hits=3_000_000)
    payoff.forget()
    assert (payoff.seen, payoff.hits) == (15_000_000, 1_500_000)


def test_the_first_computation_counts_only_until_there_is_another() -> None:
    payoff = Payoff()
    payoff.add_computation(10, 100.0)
    assert payoff.compute_row_seconds == 10.0
    payoff.add_computation(10, 1.0)
    payoff.add_computation(10, 3.0)
    assert payoff.compute_row_seconds == 0.2


def test_what_was_learned_and_cannot_be_read_is_learned_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for content in ("{", "[]", '{"a model": 3}', '{"a model": {"seen": "many"}}'):
        (tmp_path / "payoff.json").write_text(content)
        with caplog.at_level(logging.WARNING):
            assert EmbeddingCache(tmp_path, LIMIT, model=MODEL).in_use
    assert caplog.text.count("cannot be read") == 4


def test_modes(tmp_path: Path) -> None:
    assert open_cache(tmp_path, "off", LIMIT) is None
    write_payoff(tmp_path, MODEL, CHEAP)
    automatic, on = (open_cache(tmp_path, mode, LIMIT, MODEL) for mode in ("auto", "on"))
    assert automatic is not None
    assert on is not None
    assert (automatic.in_use, on.in_use) == (False, True)
    with pytest.raises(BatchAssetsError, match="'yes'"):
        open_cache(tmp_path, "yes", LIMIT)
