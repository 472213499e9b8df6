"""Two flavours of one quantised network.

weak     float32 with QuantizeLinear/DequantizeLinear of float32 scales. A runtime that may choose
         types itself (TensorRT up to 10 with the flags for fp16 and int8, ONNX Runtime) reads it.
strong   float16 outside the integers, written into the graph: types are taken as they stand
         (TensorRT 11, or 10 with --stronglyTyped). A scale has the type of what it scales, which
         ONNX has from operator set 19 on; TensorRT 10 reads sets up to 20.

The integers are the same in both. Weights that lie as floats before a QuantizeLinear are stored as
what it makes of them, before their scales are rounded; int32 biases, whose scales float16 cannot
hold, are stored as floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.facts import evaluate
from edgec.graph.names import Names
from edgec.passes.base import Context
from edgec.passes.opset import RaiseOpset
from edgec.passes.quantize.halves import Halve
from edgec.passes.quantize.islands import FORMATS, Format, Ranges

OPSET = 19
"""The first whose QuantizeLinear and DequantizeLinear take scales of 16 bits."""


def strong(
    model: ir.Model,
    context: Context | None = None,
    *,
    format: str = "float16",
    ranges: Ranges | None = None,
) -> ir.Model:
    """The strong flavour of a weak one, which may be changed in place.

    Args:
        model: A float32 graph with Q/DQ.
        context: Gets the record of `Halve`: what stays in float32, and why.
        format: `float16` or `bfloat16`.
        ranges: Value → its least and greatest number, as for `Halve`.
    """
    context = context or Context()
    model = RaiseOpset(OPSET)(model, context)
    for node in list(model.graph):
        _store(model, node)
    for node in model.graph:
        if node.op_type == "DequantizeLinear":
            _wake_dead_channels(model, node, FORMATS[format])
    return Halve(format=format, ranges=ranges)(model, context)


def _store(model: ir.Model, node: ir.Node) -> None:
    """Constants as the integers that they become; biases as the floats."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return
    tensors = [None if v is None else v.const_value for v in node.inputs]
    if any(t is None for t in tensors):
        return
    assert tensors[0] is not None
    if node.op_type == "DequantizeLinear" and tensors[0].dtype != ir.DataType.INT32:
        return
    feeds = {v.name or "": t.numpy() for v, t in zip(node.inputs, tensors, strict=True) if v and t}
    values = evaluate(ir.serde.serialize_node(node), feeds, dict(model.opset_imports))
    old, read = node.outputs[0], [v for v in node.inputs if v is not None]
    if values is None or old.is_graph_output():
        return
    old.replace_all_uses_with(_constant(model, old.name or "", values[0], old))
    model.graph.remove(node, safe=True)
    for value in dict.fromkeys(read):
        if not value.uses() and not value.is_graph_output():
            model.graph.initializers.pop(value.name or "", None)


def _wake_dead_channels(model: ir.Model, node: ir.Node, to: Format) -> None:
    """Where all integers stand for zero any scale is right: one that is positive in `to` too."""
    x, scale = node.inputs[0], node.inputs[1]
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if x is None or x.const_value is None or scale is None or scale.const_value is None:
        return
    scales = scale.const_value.numpy()
    if node.attributes.get_int("block_size", 0) or not (scales < to.normal).any():
        return
    if zero is not None and zero.const_value is None:
        return
    q = x.const_value.numpy().astype(np.int64)
    zeros = 0 if zero is None else zero.const_value.numpy().astype(np.int64)  # type: ignore[union-attr]
    if scales.ndim and scales.size > 1:
        q = np.moveaxis(q, node.attributes.get_int("axis", 1), -1).reshape(-1, scales.size)
        dead = (q == zeros).all(axis=0)
    else:
        dead = np.reshape((q == zeros).all(), scales.shape)
    woken = np.where(dead & (scales < to.normal), np.float32(to.normal), scales)
    if (woken != scales).any():
        node.replace_input_with(1, _constant(model, f"{scale.name}.positive", woken, scale))


def _constant(model: ir.Model, name: str, data: NDArray[Any], instead: ir.Value) -> ir.Value:
    """A new initializer, by the name of the value that it takes the place of."""
    if instead.name == name:
        instead.name = f"{name}.stored"
    else:
        name = Names(model.graph).fresh(name)
    tensor = ir.Tensor(np.asarray(data, order="C"), name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(data.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    model.graph.register_initializer(value)
    return value
