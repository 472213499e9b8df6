"""Weak and strong flavours: the same integers, and numbers closer than quantisation itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from quantizing import CPU, TENSORRT, quantised
from zoo import feeds_of, model_of, run
from zoo.exports import EXPORTS

from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.opset import RaiseOpset
from edgec.passes.quantize.flavour import OPSET, strong
from edgec.passes.quantize.rules import QuantizeRules
from edgec.preparing import prepared

INTEGERS = ("QuantizeLinear", "DequantizeLinear")


def snr(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Signal to noise, dB."""
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    return float(10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-300)))


def assert_scales_have_the_type_of_what_they_scale(model: ir.Model) -> None:
    for node in model.graph:
        if node.op_type in INTEGERS:
            scaled = node.inputs[0] if node.op_type == "QuantizeLinear" else node.outputs[0]
            assert scaled is not None
            assert node.inputs[1] is not None
            assert node.inputs[1].dtype == scaled.dtype


def dtypes(model: ir.Model, op_types: tuple[str, ...], slot: int) -> set[ir.DataType | None]:
    values = [n.inputs[slot] for n in model.graph if n.op_type in op_types]
    return {None if v is None else v.dtype for v in values}


@pytest.mark.parametrize("rules", [TENSORRT, CPU], ids=["tensorrt", "cpu"])
@pytest.mark.parametrize("name", ["resnet18", "convnext", "unet"])
def test_flavours_agree(name: str, rules: QuantizeRules) -> None:
    """As close to each other as float16 inputs alone allow, and to the float network as follows.

    Where a number is rounded to integers, the least change may move it by a whole step: that error
    comes on top of the weak flavour's, and independent errors add in power.
    """
    original = FuseBatchNorm()(prepared(EXPORTS[name]()), Context())
    weak, _ = quantised(RaiseOpset(OPSET)(original, Context()), rules, feeds_of(original, 0))
    feeds = [feeds_of(original, seed) for seed in range(50, 58)]
    near = [{k: v.astype(np.float16).astype(v.dtype) for k, v in f.items()} for f in feeds]
    real, wanted, moved = together(original, feeds), together(weak, feeds), together(weak, near)
    context = Context()
    made = strong(weak, context)
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    assert made.opset_imports[""] == OPSET
    assert_scales_have_the_type_of_what_they_scale(made)
    assert dtypes(made, ("Conv", "Gemm", "MatMul"), 0) == {ir.DataType.FLOAT16}
    assert context.records["halve"]["casts"] <= 2  # of the input and the output, if any
    found = together(made, feeds)
    assert snr(real, found) > both(snr(real, wanted), snr(wanted, moved)) - 0.5
    assert snr(wanted, found) > snr(wanted, moved) - 1


def both(a: float, b: float) -> float:
    """Signal to noise of two independent errors together, dB."""
    return float(-10 * np.log10(10 ** (-a / 10) + 10 ** (-b / 10)))


def together(model: ir.Model, feeds: list[dict[str, NDArray[Any]]]) -> NDArray[Any]:
    return np.concatenate([y.ravel() for y in run(model, *feeds)])


PAIR = (
    "(float[2,3,8,8] x) => (y)"
    "<{weights}float s = {{0.03}}, int8 z = {{0}}, int8[4] zs = {{0,0,0,0}}>"
    "{{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) {body} }}"
)
SCALES = "float[4] t = {0.01,0.02,0.000000001,0.02}, "


def test_weights_as_floats_become_the_integers_that_they_stand_for() -> None:
    weights = "float[4,3,1,1] w, float[4] t = {0.01,0.02,0.03,0.02}, "
    body = (
        "k = QuantizeLinear<axis=0>(w, t, zs) v = DequantizeLinear<axis=0>(k, t, zs) y = Conv(d, v)"
    )
    model = model_of(PAIR.format(weights=weights, body=body), opset=17)
    w = model.graph.initializers["w"].const_value.numpy()  # type: ignore[union-attr]
    made = strong(model)
    assert [n.op_type for n in made.graph].count("QuantizeLinear") == 1
    k = made.graph.initializers["k"].const_value.numpy()  # type: ignore[union-attr]
    t = np.array([0.01, 0.02, 0.03, 0.02], np.float32).reshape(4, 1, 1, 1)
    np.testing.assert_array_equal(k, np.clip(np.rint(w / t), -128, 127).astype(np.int8))
    assert "w" not in made.graph.initializers


def test_biases_as_integers_become_floats() -> None:
    """Their scales, of input times weight, are below what float16 resolves."""
    weights = (
        "float[4,3,1,1] w, int32[4] c = {100000,-200000,300000,7}, int32 n = {0},"
        " float u = {0.0000015}, "
    )
    model = model_of(
        PAIR.format(weights=weights, body="b = DequantizeLinear(c, u, n) y = Conv(d, w, b)")
    )
    made = strong(model)
    bias = made.graph.initializers["b"].const_value
    assert bias is not None
    assert bias.dtype == ir.DataType.FLOAT16
    np.testing.assert_allclose(bias.numpy(), [0.15, -0.3, 0.45, 1.05e-5], rtol=1e-2)


def test_dead_channels_get_a_scale_that_float16_holds() -> None:
    """A scale must be positive; all integers of the channel are zero, so none of them changes."""
    ints = ",".join(["1,-2,3", "4,5,-6", "0,0,0", "7,-8,9"])
    weights = f"int8[4,3,1,1] k = {{{ints}}}, {SCALES}"
    body = "v = DequantizeLinear<axis=0>(k, t, zs) y = Conv(d, v)"
    made = strong(model_of(PAIR.format(weights=weights, body=body)))
    scale = next(n for n in made.graph if n.outputs[0].name == "v").inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    assert scale.dtype == ir.DataType.FLOAT16
    np.testing.assert_allclose(scale.const_value.numpy(), [0.01, 0.02, 2.0**-14, 0.02], rtol=1e-3)


def test_scales_that_float16_cannot_hold_stay_with_a_reason() -> None:
    ints = ",".join(["1,-2,3", "4,5,-6", "1,0,0", "7,-8,9"])
    weights = f"int8[4,3,1,1] k = {{{ints}}}, {SCALES}"
    body = "v = DequantizeLinear<axis=0>(k, t, zs) y = Conv(d, v)"
    context = Context()
    made = strong(model_of(PAIR.format(weights=weights, body=body)), context)
    assert "scales by 't', of which float16 loses" in context.records["halve"]["islands"]["v"]
    assert dtypes(made, ("Conv",), 1) == {ir.DataType.FLOAT16}
