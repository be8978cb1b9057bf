import numpy as np
import torch
from torch import Tensor, nn

from batch_assets.inference.precision import SAMPLE_ROWS, choose_precision, modes

CPU = torch.device("cpu")
ROWS = np.random.default_rng(5).normal(size=(SAMPLE_ROWS, 8)).astype(np.float32)


class Doubtful(nn.Module):
    """Much slower in fp32 on any machine, and other by ``moved`` in bf16."""

    def __init__(self, moved: float) -> None:
        super().__init__()
        self.moved = moved

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        half = torch.is_autocast_enabled("cpu")
        for _ in range(0 if half else 300):
            rows.exp()
        scores = torch.full((len(rows),), 0.5)
        return (scores + self.moved if half else scores), rows


def test_bf16_is_chosen_where_it_is_faster_and_scores_stay_within_the_bound() -> None:
    assert choose_precision(Doubtful(0.001), CPU, ROWS) == "bf16"
    assert choose_precision(Doubtful(-0.001), CPU, ROWS, bound=0.0005) == "fp32"
    assert choose_precision(Doubtful(0.01), CPU, ROWS) == "fp32"
    assert choose_precision(Doubtful(float("nan")), CPU, ROWS) == "fp32"


class Slower(nn.Module):
    """Slower in bf16."""

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(300 if torch.is_autocast_enabled("cpu") else 0):
            rows.exp()
        return rows[:, 0], rows


def test_fp32_is_chosen_where_bf16_is_slower_or_rows_are_too_few_to_tell() -> None:
    assert choose_precision(Slower(), CPU, ROWS) == "fp32"
    assert choose_precision(Doubtful(0), CPU, ROWS[1:]) == "fp32"


def test_bf16_computes_products_in_bf16_and_the_rest_in_float32() -> None:
    with modes(CPU, True):
        rows = torch.from_numpy(ROWS)
        assert (rows @ rows.T).dtype == torch.bfloat16
        assert (rows + rows).dtype == torch.float32
