"""The lift of embeddings is 1 for noise, high where frauds are near each other, and honest."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from batch_assets.errors import BatchAssetsError
from batch_assets.fraud.embedding_lift import Found, Points, embedding_lift, neighbour_frauds
from batch_assets_tests.fraud.zone import START, Zone, a_day_of_rows, days, put_any_model_live

DAYS = 16


def points(vectors: np.ndarray, frauds: np.ndarray, owners: np.ndarray | None = None) -> Points:
    if owners is None:
        owners = np.arange(2 * len(frauds)).reshape(-1, 2)
    return Points(vectors.astype(np.float64), frauds.astype(int), owners)


def test_noise_has_a_lift_of_one() -> None:
    random = np.random.default_rng(0)
    noise = points(random.normal(size=(3000, 8)), random.random(3000) < 0.1)
    figures = neighbour_frauds(noise, noise, within=True, strangers=False).figures()
    assert figures["lift"] == pytest.approx(1, abs=0.2)
    assert figures["queries"] == noise.frauds.sum()
    assert figures["chance"] == pytest.approx(0.1, abs=0.02)


def test_frauds_near_each_other_have_all_of_their_neighbours_frauds() -> None:
    random = np.random.default_rng(1)
    frauds = np.arange(1000) % 50 == 0
    near = points(random.normal(size=(1000, 4)) + 100.0 * frauds[:, None], frauds)
    figures = neighbour_frauds(near, near, within=True, strangers=False).figures()
    assert figures["share_of_frauds"] == 1.0
    assert figures["lift"] == pytest.approx(999 / 19, abs=0.01)


def test_a_fraud_is_not_its_own_neighbour_and_strangers_share_no_owner() -> None:
    frauds = np.array([True, True, True, False])
    owners = np.array([[1, 1], [1, 2], [3, 1], [4, 4]])
    line = points(np.array([[0.0], [1.0], [3.0], [9.0]]), frauds, owners)
    all_of = neighbour_frauds(line, line, within=True, strangers=False, k=1)
    assert all_of.shares.tolist() == [1, 1, 1]
    assert all_of.chances.tolist() == pytest.approx([2 / 3] * 3)
    others = neighbour_frauds(line, line, within=True, strangers=True, k=1)
    assert others.shares.tolist() == [0, 1, 1]
    assert others.chances.tolist() == pytest.approx([0, 0.5, 0.5])


def test_frauds_of_another_kind_are_frauds_but_not_of_the_same_kind() -> None:
    line = points(np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([1, 2, 1, 0]))
    found = neighbour_frauds(line, line, within=True, strangers=False, k=2)
    assert found.shares.tolist() == [1, 1, 1]
    assert found.same.tolist() == [0.5, 0, 0.5]


def test_another_pool_leaves_nobody_out() -> None:
    one = points(np.array([[0.0]]), np.array([True]))
    pool = points(np.array([[0.0], [1.0]]), np.array([True, False]))
    found = neighbour_frauds(one, pool, within=False, strangers=False, k=1)
    assert found.shares.tolist() == [1.0]
    assert found.chances.tolist() == [0.5]


def test_the_interval_is_the_same_each_time_and_holds_the_lift() -> None:
    random = np.random.default_rng(2)
    found = Found(random.random(40), np.zeros(40), np.full(40, 0.01))
    figures = found.figures()
    assert figures == found.figures()
    assert figures["lift_low"] < figures["lift"] < figures["lift_high"]


def test_stored_embeddings_are_measured_beside_features_and_score(home: Path) -> None:
    zone = Zone(home).describe()
    for day in days(DAYS):
        zone.deliver(day, a_day_of_rows(day))
        zone.label(day, [(row[0], row[4], 1) for row in a_day_of_rows(day)[::4]])
    pipeline = zone.pipeline()
    put_any_model_live(pipeline)
    pipeline.update(days(DAYS))
    last = START + timedelta(days=DAYS - 1)
    found = embedding_lift(pipeline, [last - timedelta(days=1), last])
    assert set(found) == {"same day", "same day, strangers", "known by then"}
    for by_space in found.values():
        assert set(by_space) == {"embedding", "embedding, cosine", "features", "score"}
    figures = found["same day"]["embedding"]
    assert figures["queries"] == 6
    assert figures["chance"] == pytest.approx(2 / 11, abs=1e-4)
    assert found["known by then"]["score"]["chance"] == 0.25
    with pytest.raises(BatchAssetsError, match="is not scored"):
        embedding_lift(pipeline, [last + timedelta(days=1)])
