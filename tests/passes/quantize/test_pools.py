"""Means over all positions become GlobalAveragePool; all other means stay."""

from __future__ import annotations

import numpy as np
import pytest
from zoo import feeds_of, model_of, run

from edgec.graph.lint import lint
from edgec.passes.base import Context
from edgec.passes.quantize.pools import GlobalPools


@pytest.mark.parametrize(
    ("mean", "ops"),
    [
        ("ReduceMean<keepdims = 1>(x, all)", ["GlobalAveragePool"]),
        ("ReduceMean<keepdims = 0>(x, all)", ["GlobalAveragePool", "Flatten"]),
        ("ReduceMean(x, one)", ["ReduceMean"]),
        ("ReduceMean(x)", ["ReduceMean"]),
        ("AveragePool<kernel_shape = [4,6]>(x)", ["GlobalAveragePool"]),
        ("AveragePool<kernel_shape = [4,4]>(x)", ["AveragePool"]),
        ("AveragePool<kernel_shape = [4,6], pads = [0,1,0,1]>(x)", ["AveragePool"]),
    ],
)
@pytest.mark.parametrize("head", ["y", "m"])
def test_means(mean: str, ops: list[str], head: str) -> None:
    tail = "" if head == "y" else "  y = Sin(m)"
    model = model_of(
        f"(float[N,3,4,6] x) => (y) <int64[2] all = {{-1, 2}}, int64[1] one = {{2}}>"
        f" {{ {head} = {mean}{tail} }}"
    )
    feeds = feeds_of(model)
    (expected,) = run(model, feeds)
    model = GlobalPools()(model, Context())
    lint(model)
    assert [n.op_type for n in model.graph] == ops + ["Sin"] * (head != "y")
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-5, atol=1e-6)


def test_axes_as_an_attribute() -> None:
    model = model_of("(float[2,3,5] x) => (y) { y = ReduceMean<axes = [2]>(x) }", opset=13)
    model = GlobalPools()(model, Context())
    assert [n.op_type for n in model.graph] == ["GlobalAveragePool"]
