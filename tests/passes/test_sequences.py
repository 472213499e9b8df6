"""Split written as a sequence becomes Split; other sequences stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from zoo import feeds_of, model_of, run

from edgec.graph.channels import channel_groups
from edgec.passes.base import Context
from edgec.passes.sequences import SplitSequences
from edgec.preparing import prepared

HEAD = (
    "(float[2,3,4,4] x) => (float[2,2,4,4] y) <float[7,3,1,1] w, float[2,3,1,1] v, int64 i0 = {0},"
    " int64 i1 = {1}, int64 last = {-1}, int64[3] sizes = {3,3,1}, int64 step = {3}>"
)


def rewritten(body: str, opset: int = 20) -> tuple[ir.Model, Context, list[str]]:
    model = model_of(f"{HEAD} {{ h = Conv(x, w)  {body} }}", opset=opset)
    expected = run(model, feeds_of(model))
    context = Context()
    model = SplitSequences()(model, context)
    np.testing.assert_array_equal(run(model, feeds_of(model))[0], expected[0])
    return model, context, [node.op_type for node in model.graph]


@pytest.mark.parametrize("sizes", ["sizes", "step"])
def test_parts_of_given_sizes(sizes: str) -> None:
    model, context, ops = rewritten(
        f"s = SplitToSequence<axis=1>(h, {sizes})  a = SequenceAt(s, i0)  b = SequenceAt(s, i1)"
        "  c = SequenceAt(s, last)  m = Mul(a, b)  n = Add(m, c)  y = Conv(n, v)"
    )
    assert ops == ["Conv", "Split", "Mul", "Add", "Conv"]
    assert context.records["split-sequences"] == {"rewritten": 1}
    # The positions are read no more; the sizes are the same constant, or another one.
    assert set(model.graph.initializers) & {"i0", "i1", "last"} == set()
    assert [len(g.units) for g in channel_groups(model)] == [3]


def test_a_sequence_behind_another_one() -> None:
    model, context, ops = rewritten(
        "s = SplitToSequence<axis=1>(h, sizes)  a = SequenceAt(s, i0)"
        "  t = SplitToSequence<axis=-3>(a, i1)  b = SequenceAt(t, i0)  c = SequenceAt(t, last)"
        "  m = Mul(b, c)  n = Add(m, a)  y = Conv(n, v)"
    )
    assert ops == ["Conv", "Split", "Split", "Mul", "Add", "Conv"]
    assert context.records["split-sequences"] == {"rewritten": 2}
    assert [v.name for v in model.graph.outputs] == ["y"]


def test_parts_of_a_weight_are_weights() -> None:
    model = model_of(
        "(float[2,5,6] x) => (float[2,5,4] y) <float[16,6] w, float[8,4] v, int64 i0 = {0},"
        " int64 i1 = {1}, int64[2] sizes = {8,8}> { s = SplitToSequence<axis=0>(w, sizes)"
        "  a = SequenceAt(s, i0)  b = SequenceAt(s, i1)  t = Transpose(a)  u = Transpose(b)"
        "  g = MatMul(x, t)  h = MatMul(x, u)  m = Mul(g, h)  y = MatMul(m, v) }"
    )
    model = prepared(model, Context())
    assert [node.op_type for node in model.graph] == ["MatMul", "MatMul", "Mul", "MatMul"]
    assert [len(g.units) for g in channel_groups(model)] == [8]


def test_a_computed_position_stays() -> None:
    _, context, ops = rewritten(
        "s = SplitToSequence<axis=1>(h, sizes)  m = ReduceMin<keepdims=0>(h)  n = Sub(m, m)"
        "  f = Cast<to=7>(n)  a = SequenceAt(s, f)  y = Conv(a, v)"
    )
    assert "SplitToSequence" in ops
    assert context.records["split-sequences"] == {"rewritten": 0}


def test_a_sequence_that_is_used_as_one_stays() -> None:
    model, context, ops = rewritten(
        "s = SplitToSequence<axis=1>(h, sizes)  a = SequenceAt(s, i0)"
        "  j = ConcatFromSequence<axis=1>(s)  r = ReduceMax<keepdims=1>(j)  b = Add(a, r)"
        "  y = Conv(b, v)"
    )
    assert "SplitToSequence" in ops
    assert context.records["split-sequences"] == {"rewritten": 0}
    assert [len(g.units) for g in channel_groups(model)] == []


def test_parts_without_sizes_lose_their_axis_and_stay() -> None:
    _, context, ops = rewritten(
        "s = SplitToSequence<axis=1, keepdims=0>(h)  a = SequenceAt(s, i0)  b = SequenceAt(s, i1)"
        "  c = Add(a, b)  one = Constant<value_ints=[1]>()  u = Unsqueeze(c, one)"
        "  t = Concat<axis=1>(u, u, u)  y = Conv(t, v)"
    )
    assert "SplitToSequence" in ops
    assert context.records["split-sequences"] == {"rewritten": 0}


def test_older_opsets_are_left_alone() -> None:
    _, context, ops = rewritten(
        "s = SplitToSequence<axis=1>(h, sizes)  a = SequenceAt(s, i0)  y = Conv(a, v)", opset=12
    )
    assert ops == ["Conv", "SplitToSequence", "SequenceAt", "Conv"]
    assert "split-sequences" not in context.records


def test_names_in_use_are_not_taken() -> None:
    """A value may be called as the rewritten parts would be."""
    model = model_of(
        f"{HEAD} {{ h = Conv(x, w)  s = SplitToSequence<axis=1>(h, sizes)  a = SequenceAt(s, i0)"
        "  b = SequenceAt(s, i1)  c = Add(a, b)  y = Conv(c, v) }"
    )
    model.graph[0].outputs[0].name = "s.part0"
    expected = run(model, feeds_of(model))[0]
    model = SplitSequences()(model, Context())
    np.testing.assert_array_equal(run(model, feeds_of(model))[0], expected)
