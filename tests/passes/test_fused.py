"""What ONNX Runtime has fused with a layer is written out, to the same result."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from laws import obey
from zoo import feeds_of, model_of, run
from zoo.fusing import fused

from edgec.passes.base import Context
from edgec.passes.fused import SpellOut
from edgec.passes.names import NameNodes

HEAD = '<ir_version: {ir}, opset_import: ["" : {opset}, "com.microsoft" : 1]> g '
IMAGE = "(float[2,3,6,6] x) => (float[2,4,6,6] y) <float[8,3,3,3] v, float[8] b, float[4,8,1,1] w"
ROWS = "(float[5,6] x) => (float[5,4] y) <float[6,8] v, float[8] b, float[8,4] w"
BOUNDS = ", float low = {-0.3}, float high = {0.4}"

LAYERS = {
    "Conv": (IMAGE, "h = Conv<pads = [1,1,1,1]>(x, v, b)"),
    "Gemm": (ROWS, "h = Gemm<alpha = 0.5, beta = 2.0>(x, v, b)"),
}
ACTIVATIONS = {
    "Conv": ("Relu", "Sigmoid", "Tanh", "LeakyRelu<alpha = 0.3>", "HardSigmoid<alpha = 0.3>"),
    "Gemm": (
        "Relu", "Sigmoid", "Tanh", "LeakyRelu<alpha = 0.3>", "HardSigmoid<beta = 0.4>", "Softsign",
        "Softplus", "Elu<alpha = 0.7>", "Selu<gamma = 1.1>", "ThresholdedRelu<alpha = 0.1>",
    ),
}  # fmt: skip


def spelt(model: ir.Model) -> tuple[ir.Model, Context]:
    """The model with its layers written out; it computes what it did."""
    expected = run(model, feeds_of(model))
    context = Context()
    for step in (NameNodes(), SpellOut()):
        model = step(model, context)
    for ours, theirs in zip(run(model, feeds_of(model)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    return model, context


def ops(model: ir.Model) -> Counter[str]:
    return Counter(f"{node.domain}:{node.op_type}" for node in model.graph)


@pytest.mark.parametrize(
    ("layer", "activation"), [(op, word) for op in ACTIVATIONS for word in ACTIVATIONS[op]]
)
def test_what_the_runtime_fuses_is_written_out(layer: str, activation: str) -> None:
    signature, text = LAYERS[layer]
    head = HEAD.format(ir=10, opset=20)
    model = model_of(f"{head} {signature}> {{ {text}  r = {activation}(h)  y = {layer}(r, w) }}")
    written = ops(model)
    optimised = fused(model)
    assert ops(optimised) == {f"com.microsoft:Fused{layer}": 1, f":{layer}": 1}
    again, context = spelt(optimised)
    assert ops(again) == written
    assert context.records["spell-out"] == {f"Fused{layer}": 1}


@pytest.mark.parametrize("opset", [10, 20])
def test_bounds_are_attributes_or_inputs(opset: int) -> None:
    clip = "Clip<min = -0.3, max = 0.4>(h)" if opset < 11 else "Clip(h, low, high)"
    signature, text = LAYERS["Conv"]
    head = HEAD.format(ir=10, opset=opset)
    bounds = "" if opset < 11 else BOUNDS
    body = f"{head} {signature}{bounds}> {{ {text}  r = {clip}  y = Conv(r, w) }}"
    model = fused(model_of(body))
    assert "com.microsoft:FusedConv" in ops(model)
    again, _ = spelt(model)
    assert ops(again) == {":Conv": 2, ":Clip": 1}


def test_a_sum_between_layer_and_activation() -> None:
    """As the last convolution of a residual block may be fused."""
    text = (
        f"{HEAD.format(ir=10, opset=20)} {IMAGE}, float[8,8,1,1] u> {{"
        " h = Conv<pads = [1,1,1,1]>(x, v, b)  r = Relu(h)"
        '  t = com.microsoft.FusedConv<activation = "Relu">(r, u, , h)  y = Conv(t, w) }'
    )
    again, _ = spelt(model_of(text))
    assert ops(again) == {":Conv": 3, ":Relu": 2, ":Add": 1}
    assert [len(node.inputs) for node in again.graph if node.op_type == "Conv"] == [3, 3, 2]


def test_the_result_keeps_its_name() -> None:
    head = HEAD.format(ir=10, opset=20)
    text = f"{head} {ROWS}> {{ h = Gemm(x, v)  g = Gemm(h, w)  y = Sigmoid(g) }}"
    model = fused(model_of(text))
    model.graph[-1].name = "last"
    again, _ = spelt(model)
    assert [value.name for value in again.graph.outputs] == ["y"]
    assert ops(again) == {":Gemm": 2, ":Sigmoid": 1}
    assert obey(again).units == 8


def test_a_layer_called_by_its_result_alone_stays() -> None:
    """A plan could not say which node of the original it means."""
    head = HEAD.format(ir=10, opset=20)
    text = f"{head} {ROWS}> {{ h = Gemm(x, v)  y = com.microsoft.FusedGemm<{{}}>(h, w) }}"
    again, context = spelt(model_of(text.replace("{}", 'activation = "Relu"')))
    assert ops(again)["com.microsoft:FusedGemm"] == 1
    assert not context.records["spell-out"]


def test_an_unknown_activation_stays() -> None:
    head = HEAD.format(ir=10, opset=20)
    layer = 'com.microsoft.FusedGemm<activation = "New">'
    text = f"{head} {ROWS}> {{ h = {layer}(x, v)  y = Gemm(h, w) }}"
    model = SpellOut()(model_of(text), Context())
    assert ops(model)["com.microsoft:FusedGemm"] == 1
