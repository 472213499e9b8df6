"""A model with functions: its plan speaks of what the onnx package makes of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
from onnx import helper, numpy_helper

import edgec
from edgec.graph.channels import channel_groups
from edgec.graph.cut import remove_channels
from laws import draw, prepared
from laws.running import Array, outputs_of, run
from laws.stranger import Document, masked_proto


def with_functions() -> onnx.ModelProto:
    """Two calls of one function, whose nodes have no names, and a layer."""
    rng = np.random.default_rng(0)
    shapes = {"a": (8, 3, 3, 3), "b": (8, 8, 3, 3), "c": (4, 8, 1, 1)}
    weights = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    conv = helper.make_node("Conv", ["X", "W"], ["t"], pads=[1, 1, 1, 1])
    relu = helper.make_node("Relu", ["t"], ["Y"])
    opset, house = helper.make_opsetid("", 17), helper.make_opsetid("house", 1)
    block = helper.make_function("house", "Block", ["X", "W"], ["Y"], [conv, relu], [opset])
    graph = helper.make_graph(
        [
            helper.make_node("Block", ["x", "a"], ["h"], "first", domain="house"),
            helper.make_node("Block", ["h", "b"], ["g"], "second", domain="house"),
            helper.make_node("Conv", ["g", "c"], ["y"], "last"),
        ],
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("y", 1, [1, 4, 6, 6])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [opset, house]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=[block])


def test_a_stranger_finds_every_name_of_the_plan() -> None:
    original = with_functions()
    groups = channel_groups(prepared(edgec.load(original)))
    assert len(groups) == 2
    cut = remove_channels(groups, draw(groups, np.random.default_rng(1)))
    feeds: dict[str, Array] = {"x": np.random.default_rng(2).random((1, 3, 6, 6), np.float32)}
    inlined = onnx.inliner.inline_local_functions(original)
    masked = outputs_of(masked_proto(inlined, Document.of(cut), feeds), feeds)
    (whole,), (found,), (expected,) = outputs_of(original, feeds), run(cut.model, feeds), masked
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - whole).max() > 0.01
