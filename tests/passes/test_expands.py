"""Expands that broadcasting does anyway are dropped; all others stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from zoo import feeds_of, model_of, run

from edgec.passes.base import Context
from edgec.passes.expands import DropExpands
from edgec.passes.fold import Fold


def ops_after(text: str) -> list[str]:
    model = Fold()(model_of(text), Context())
    feeds = [feeds_of(model, dims={"N": size}) for size in (1, 3)]
    expected = run(model, *feeds)
    model = DropExpands()(model, Context())
    for a, b in zip(run(model, *feeds), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("op", ["Div", "Pow", "Max", "Sub"])
def test_an_expand_to_the_other_operand_goes(op: str) -> None:
    text = (
        "(float[N,5,8] x) => (y) <int64[1] last = {-1}> { a = Abs(x)  n = ReduceL2(a, last)"
        "  s = Shape(a)  e = Expand(n, s)  y = OP(a, e) }"
    )
    assert ops_after(text.replace("OP", op)) == ["Abs", "ReduceL2", op]


def test_an_expand_that_shapes_the_result_stays() -> None:
    text = (
        "(float[N,1,8] x) => (y) <int64[3] to = {1,5,8}, float[8] w>"
        " { e = Expand(x, to)  y = Mul(e, w) }"
    )
    assert ops_after(text) == ["Expand", "Mul"]


def test_equal_by_chance_is_not_equal() -> None:
    """For a batch of one the other operand has the expanded shape; for others it has not."""
    text = "(float[N,8] x, float[1,8] z) => (y) { s = Shape(x)  e = Expand(z, s)  y = Mul(z, e) }"
    assert ops_after(text) == ["Shape", "Expand", "Mul"]


def test_readers_that_do_not_broadcast_keep_it() -> None:
    text = (
        "(float[2,5,8] x) => (y) <int64[1] last = {-1}, int64[3] to = {2,5,8}>"
        " { n = ReduceL2(x, last)  e = Expand(n, to)  d = Div(x, e)  c = Concat<axis=1>(d, e)"
        "  y = Relu(c) }"
    )
    assert ops_after(text) == ["ReduceL2", "Expand", "Div", "Concat", "Relu"]


def test_a_graph_output_stays() -> None:
    model = model_of(
        "(float[2,5,8] x) => (y, e) <int64[1] last = {-1}, int64[3] to = {2,5,8}>"
        " { n = ReduceL2(x, last)  e = Expand(n, to)  y = Div(x, e) }"
    )
    model = DropExpands()(model, Context())
    assert [node.op_type for node in model.graph] == ["ReduceL2", "Expand", "Div"]
    assert isinstance(model, ir.Model)
