"""Constant folding: what may fold does, what a symbolic dimension decides does not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from laws import obey
from zoo import feeds_of, model_of, run

from edgec.graph.channels import channel_groups
from edgec.graph.cost import count
from edgec.graph.cut import remove_channels
from edgec.graph.facts import facts_of
from edgec.model_inputs import input_shapes
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


TIED = (
    "(int64[2,5] ids) => (y) <float[7,6] table, float[6,8] up, float[8,6] down>"
    "{ e = Gather(table, ids)  a = MatMul(e, up)  r = Relu(a)  b = MatMul(r, down)"
    "  t = Transpose<perm=[1,0]>(table)  y = MatMul(b, t) }"
)
TWICE = (
    "(float[2,6] x) => (y) <float[6,6] w, float[6,6] v>"
    "{ t = Transpose<perm=[1,0]>(w)  a = MatMul(x, t)  r = Relu(a)  s = Relu(x)"
    "  k = Constant<value_ints = [1, 0]>()"
    "  u = Transpose<perm=[1,0]>(w)  b = MatMul(r, u)  y = MatMul(b, v) }"
)
RESHAPED = (
    "(float[2,6] x) => (y) <float[36] w>"
    "{ k = Constant<value_ints = [6, 6]>()  t = Reshape(w, k)  a = MatMul(x, t)  r = Relu(a)"
    "  l = Constant<value_ints = [6, 6]>()  u = Reshape(w, l)  y = MatMul(r, u) }"
)


@pytest.mark.parametrize(("text", "kept"), [(TIED, 1), (TWICE, 0), (RESHAPED, 0)])
def test_no_weight_is_doubled(text: str, kept: int) -> None:
    original, model = model_of(text), folded(text)
    assert sum(op in ("Transpose", "Reshape") for op in ops(model)) == kept
    before, after = (count(m, facts_of(m, input_shapes(m))) for m in (original, model))
    assert (before.params, before.size) == (after.params, after.size)
    feeds = feeds_of(original)
    np.testing.assert_allclose(run(model, feeds)[0], run(original, feeds)[0], rtol=1e-6)


@pytest.mark.parametrize("text", [TIED, TWICE, RESHAPED])
@pytest.mark.parametrize("across_norms", [False, True])
def test_weights_that_stay_shared_obey_the_laws(text: str, across_norms: bool) -> None:
    obey(model_of(text), across_norms=across_norms)


def test_a_tied_table_keeps_one_width() -> None:
    """The embedding width is one group: read by Gather, and transposed by MatMul."""
    groups = channel_groups(folded(TIED))
    assert sorted(g.width for g in groups) == [6, 8]
    units = np.concatenate([g.units[:2] for g in groups])
    cut = remove_channels(groups, units)
    assert list(cut.model.graph.initializers["table"].shape or ()) == [7, 4]
