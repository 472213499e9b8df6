"""Initial states that are zeros go; all others stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from zoo import feeds_of, model_of, run

from edgec.passes.base import Context
from edgec.passes.states import ZeroStates

HEAD = (
    "(float[5,2,3] x, float[1,2,4] given) => (y) <float[1,16,3] w, float[1,16,4] r, float o = {0},"
    " float one = {1}, float[1,2,4] drawn, int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2},"
    " int64[1] width = {4}, float[1,2,4] zeros = {0,0,0,0,0,0,0,0}>"
)
SHAPE = "s = Shape(x)  n = Slice(s, i1, i2)  t = Concat<axis=0>(i1, n, width)"


def states_left(body: str, state: str) -> int:
    """How many of the two initial states the layer keeps; its outputs never change."""
    layer = f"y = LSTM<hidden_size=4>(x, w, r, , , {state}, {state})"
    model = model_of(f"{HEAD} {{ {SHAPE}  {body}  {layer} }}")
    expected = run(model, feeds_of(model))
    context = Context()
    model = ZeroStates()(model, context)
    np.testing.assert_array_equal(run(model, feeds_of(model))[0], expected[0])
    left = sum(v is not None for v in model.graph[-1].inputs[5:7])
    assert context.records.get("zero-states", {}).get("left out", 0) == 2 - left
    return left


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ("h = Expand(o, t)", "h"),
        ("h = ConstantOfShape(t)", "h"),
        ("c = ConstantOfShape(t)  j = Concat<axis=0>(c, c)  h = Slice(j, i0, i1, i0)", "h"),
        ("u = Unsqueeze(o, i0)  v = Cast<to=1>(u)  h = Expand(v, t)", "h"),
        ("h = Identity(zeros)", "zeros"),
    ],
)
def test_zeros_are_left_out(body: str, state: str) -> None:
    assert states_left(body, state) == 0


@pytest.mark.parametrize(
    ("body", "state"),
    [
        ("h = Expand(one, t)", "h"),
        ("h = Identity(drawn)", "h"),
        ("h = Identity(given)", "h"),
        ("h = Mul(given, o)", "h"),  # 0 · ∞ is no zero
        ("c = ConstantOfShape(t)  h = Add(c, given)", "h"),
        ("h = ConstantOfShape<value = float[1] {1.0}>(t)", "h"),
    ],
)
def test_other_states_stay(body: str, state: str) -> None:
    assert states_left(body, state) == 2


def test_what_made_the_zeros_goes() -> None:
    model = model_of(
        f"{HEAD} {{ {SHAPE} h = Expand(o, t) y = LSTM<hidden_size=4>(x, w, r, , , h)}}"
    )
    model = ZeroStates()(model, Context())
    assert [node.op_type for node in model.graph] == ["LSTM"]
    assert "o" not in model.graph.initializers
    assert isinstance(model.graph[0], ir.Node)
