"""Old operator sets are raised: the same numbers, the same names."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from zoo import feeds_of, model_of, run
from zoo.light import light

from edgec.model import load
from edgec.model_opset import raise_opset
from edgec.preparing import prepared


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
@pytest.mark.parametrize("least", [13, 17])
def test_real_networks(name: str, least: int) -> None:
    model = prepared(load(light(name)))
    feeds, names = feeds_of(model), {node.name for node in model.graph}
    expected = run(model, feeds)
    raised = raise_opset(model, least)
    assert raised.graph.opset_imports[""] == least
    assert names <= {node.name for node in raised.graph}
    onnx.checker.check_model(ir.to_proto(raised), full_check=True)
    for a, b in zip(run(raised, feeds), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_newer_ones_stay() -> None:
    model = model_of("(float[2] x) => (y) { y = Sin(x) }", opset=17)
    assert raise_opset(model, 13) is model


def test_nested_graphs_are_raised_too() -> None:
    model = model_of(
        """(float[1,2] x) => (y) <bool yes = {1}> { y = If (yes) <
          then_branch = t () => (float[2] u) { u = Squeeze<axes = [0]>(x) },
          else_branch = e () => (float[2] v) { v = Squeeze<axes = [0]>(x) }> }""",
        opset=11,
    )
    feeds = feeds_of(model)
    np.testing.assert_array_equal(run(raise_opset(model, 13), feeds)[0], run(model, feeds)[0])
