"""One value, a column and another process agree on a hash."""

import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_assets.errors import BatchAssetsError
from batch_assets.serving.hashes import hash_of, hashes_of

TEXTS = st.lists(st.text(max_size=40))
NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1))


@given(TEXTS, st.integers(0, 3))
def test_a_column_of_texts_has_the_hashes_of_its_values(texts: list[str], skipped: int) -> None:
    column = pa.array(texts, pa.string()).slice(skipped)
    assert hashes_of(column).tolist() == [hash_of(text) for text in texts[skipped:]]
    assert hashes_of(column.cast(pa.large_string())).tolist() == hashes_of(column).tolist()


@given(NUMBERS)
def test_a_column_of_integers_has_the_hashes_of_its_values(numbers: list[int]) -> None:
    column = pa.array(numbers, pa.int64())
    assert hashes_of(column).tolist() == [hash_of(number) for number in numbers]


def test_a_hundred_thousand_similar_keys_have_as_many_hashes() -> None:
    keys = [f"{prefix}{n}" for prefix in ("E260301-1", "\x00", "") for n in range(33_333)]
    assert len({*hashes_of(pa.array(keys)).tolist()}) == len(set(keys))


def test_another_process_has_the_same_hashes() -> None:
    code = "from batch_assets.serving.hashes import hash_of; print(hash_of('loan-17'), hash_of(17))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == [str(hash_of("loan-17")), str(hash_of(17))]


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (pa.array([1.5]), "texts or integers, not double"),
        (pa.array(["a", None]), "1 rows have no value"),
    ],
)
def test_other_columns_are_refused(column: pa.Array, why: str) -> None:
    with pytest.raises(BatchAssetsError, match=why):
        hashes_of(column)
