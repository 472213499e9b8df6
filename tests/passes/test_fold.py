"""Constant folding: what may fold does, what a symbolic dimension decides does not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from zoo import feeds_of, model_of, run

from edgec.passes.base import Context
from edgec.passes.fold import Fold


def folded(text: str) -> ir.Model:
    return Fold()(model_of(text), Context())


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_nodes_that_read_constants_fold() -> None:
    model = folded(
        "(float[2,3] x) => (y) <float[3] w, float[3] v>"
        "{ s = Add(w, v)  t = Mul(s, s)  y = Add(x, t) }"
    )
    assert ops(model) == ["Add"]


def test_shapes_that_are_declared_fold() -> None:
    model = folded(
        "(float[2,3,4,4] x) => (y) <int64[1] rest = {-1}, int64 zero = {0}>"
        "{ s = Shape(x)  n = Gather(s, zero)  o = Constant<value_ints = [0]>()"
        "  u = Unsqueeze(n, o)  t = Concat<axis=0>(u, rest)  y = Reshape(x, t) }"
    )
    assert ops(model) == ["Reshape"]


def test_static_entries_of_a_symbolic_shape_fold_and_others_stay() -> None:
    model = folded(
        "(float[N,3,4,4] x) => (y, z) <int64 zero = {0}, int64 one = {1}>"
        "{ s = Shape(x)  n = Gather(s, zero)  c = Gather(s, one)"
        "  nf = Cast<to=1>(n)  cf = Cast<to=1>(c)  y = Mul(x, nf)  z = Mul(x, cf) }"
    )
    assert ops(model) == ["Shape", "Gather", "Cast", "Mul", "Mul"]


@pytest.mark.parametrize(
    "hiding",
    [
        "b = Min(n, limit)",
        "b = Max(n, limit)",
        "g = Greater(n, limit)  b = Where(g, n, limit)",
        "q = Div(n, limit)  b = Add(q, limit)",
        "e = Equal(n, limit)  b = Cast<to=7>(e)",
    ],
)
def test_comparisons_of_symbolic_sizes_do_not_fold(hiding: str) -> None:
    """Two walks agree on Min(N, 100) for N = 1 and 2; that proves nothing."""
    model = folded(
        "(float[N,3] x) => (y) <int64 zero = {0}, int64 limit = {100}>"
        f"{{ s = Shape(x)  n = Gather(s, zero)  {hiding}  f = Cast<to=1>(b)  y = Mul(x, f) }}"
    )
    assert "Gather" in ops(model)
    feeds = {"x": np.ones((150, 3), np.float32)}
    original = model_of(
        "(float[N,3] x) => (y) <int64 zero = {0}, int64 limit = {100}>"
        f"{{ s = Shape(x)  n = Gather(s, zero)  {hiding}  f = Cast<to=1>(b)  y = Mul(x, f) }}"
    )
    np.testing.assert_array_equal(run(model, feeds)[0], run(original, feeds)[0])


def test_random_nodes_do_not_fold() -> None:
    model = folded("(float[2,3] x) => (y) { r = RandomNormal<shape=[2,3]>()  y = Add(x, r) }")
    assert ops(model) == ["RandomNormal", "Add"]


def test_cast_like_needs_no_more_than_the_type() -> None:
    text = (
        "(float[2,3] x) => (y) <int64[3] k = {1,2,3}>"
        "{ a = Relu(x)  c = CastLike(k, a)  y = Add(a, c) }"
    )
    model = folded(text)
    assert ops(model) == ["Relu", "Add"]
    feeds = feeds_of(model_of(text), 0)
    np.testing.assert_array_equal(run(model, feeds)[0], run(model_of(text), feeds)[0])


def test_a_constant_graph_output_stays() -> None:
    model = folded("(float[2] x) => (y, z) <float[2] w> { z = Add(w, w)  y = Add(x, w) }")
    assert [v.name for v in model.graph.outputs] == ["y", "z"]
    assert len(run(model, {"x": np.ones(2, np.float32)})) == 2
