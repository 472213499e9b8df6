"""Weights in blocks: whole blocks of the summed axis may go, single channels of the other."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from laws import obey
from zoo import model_of

from edgec.graph.channels import channel_groups
from edgec.graph.cost import count
from edgec.graph.facts import facts_of
from edgec.model import load, to_bytes
from edgec.model_inputs import input_shapes


def blocked(k: int, n: int, block: int, dtype: ir.DataType, *, zeros: bool = False) -> ir.Model:
    """x[5,6] · w1[6,k] → Relu → · w2[k,n] in blocks along k → Relu → · w3[n,4]."""
    blocks = -(-k // block)
    rng = np.random.default_rng(0)
    q = rng.integers(-7, 8, (k, n)) + (8 if dtype == ir.DataType.UINT4 else 0)
    model = model_of(
        f"(float[5,6] x) => (y) <float[6,{k}] w1, float[{n},4] w3, float[{k},{n}] w2>"
        "{ a = MatMul(x, w1) b = Relu(a) c = MatMul(b, w2) d = Relu(c) y = MatMul(d, w3) }",
        opset=21,
    )
    parts = {
        "q": ir.Tensor(q.astype(dtype.numpy()), dtype=dtype, name="q"),
        "s": ir.tensor(rng.uniform(0.02, 0.06, (blocks, n)).astype(np.float32), name="s"),
    }
    if zeros:
        zero = rng.integers(6, 9, (blocks, n)).astype(dtype.numpy())
        parts["z"] = ir.Tensor(zero, dtype=dtype, name="z")
    values = [ir.val(name, const_value=tensor) for name, tensor in parts.items()]
    for value in values:
        model.graph.register_initializer(value)
    dq = ir.node("DequantizeLinear", values, {"axis": 0, "block_size": block})
    dq.outputs[0].name = "w"
    reader = next(node for node in model.graph if node.outputs[0].name == "c")
    model.graph.insert_before(reader, dq)
    reader.replace_input_with(1, dq.outputs[0])
    del model.graph.initializers["w2"]
    return model


@pytest.mark.parametrize(
    ("model", "units"),
    [
        (blocked(64, 6, 16, ir.DataType.INT8), 4 + 6),
        (blocked(64, 6, 16, ir.DataType.INT4), 4 + 6),
        (blocked(40, 6, 16, ir.DataType.INT4), 2 + 6),  # the last, half as long, stays
        (blocked(64, 5, 16, ir.DataType.UINT4, zeros=True), 4 + 5),
        (blocked(16, 6, 16, ir.DataType.INT4), 0 + 6),  # one block is all there is
    ],
    ids=["int8", "int4", "short-block", "zeros", "one-block"],
)
def test_laws(model: ir.Model, units: int) -> None:
    found = obey(model)
    assert found.units == units
    assert found.changed > 0.05


def test_computed_scales_keep_channels_with_a_reason() -> None:
    model = blocked(64, 6, 16, ir.DataType.INT8)
    scale = model.graph.initializers["s"]
    dq = next(node for node in model.graph if node.op_type == "DequantizeLinear")
    computed = ir.node("Abs", [scale])
    computed.outputs[0].name = "t"
    model.graph.insert_before(dq, computed)
    dq.replace_input_with(1, computed.outputs[0])
    groups = channel_groups(model)
    assert any("computes their scales" in str(pin) for pin in groups.pinned)


def test_half_a_byte_is_counted_for_four_bits() -> None:
    model = blocked(64, 6, 16, ir.DataType.INT4)
    totals = count(model, facts_of(model, input_shapes(model)))
    floats = 6 * 64 + 6 * 4 + 4 * 6
    assert totals.params == floats + 64 * 6
    assert totals.size == 4 * floats + 64 * 6 // 2
    again = load(model)
    assert to_bytes(again) == to_bytes(model)
    q = again.graph.initializers["q"].const_value
    assert q is not None
    assert q.numpy().dtype == ml_dtypes.int4
