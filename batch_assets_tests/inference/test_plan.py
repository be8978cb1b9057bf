import json

import pytest

from batch_assets.inference.plan import ComputePlan, plan_of

PLANS = [
    ComputePlan("fp32"),
    ComputePlan("bf16", smallest=32, largest=16_384),
    ComputePlan("fp32", compiled=True, batch_rows=2048, smallest=256, largest=2048),
]


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_is_read_as_it_was_written(plan: ComputePlan) -> None:
    assert plan_of(json.loads(json.dumps(plan.as_json()))) == plan


def test_the_salt_tells_plans_of_other_bits_apart_and_no_others() -> None:
    assert len({plan.salt for plan in PLANS}) == 3
    assert ComputePlan("fp32", smallest=32, largest=4096).salt == PLANS[0].salt
    assert PLANS[0].salt.endswith("any")


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "int8"},
        {"compiled": 1},
        {"batch_rows": 777},
        {"batch_rows": "512"},
        {"smallest": 0},
        {"largest": -256},
        {"more": 1},
    ],
)
def test_what_is_not_a_plan_is_none(change: dict[str, object]) -> None:
    assert plan_of(PLANS[0].as_json() | change) is None
    assert plan_of([]) is None
