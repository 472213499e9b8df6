"""Weights that lie in the file as integers, or are rounded to them where they are read.

integers ─▶ DequantizeLinear ─▶ layer        floats ─▶ QuantizeLinear ─▶ DequantizeLinear ─▶ layer
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_PAIR = ("QuantizeLinear", "DequantizeLinear")


def source_of(value: ir.Value | None) -> ir.Value | None:
    """The initializer that a weight is, or comes from through integers; None: it is computed."""
    while value is not None and value.const_value is None:
        node = value.producer()
        value = node.inputs[0] if node is not None and _is_of_pair(node) else None
    return value


def readers_of(node: ir.Node) -> Iterator[tuple[ir.Node, int]]:
    """Who reads a weight behind the first node of its pair, and at which input."""
    for reader, i in node.outputs[0].uses():
        if _is_of_pair(reader) and i == 0:
            yield from readers_of(reader)
        else:
            yield reader, i


def reals_of(node: ir.Node) -> NDArray[Any] | None:
    """What a layer reads behind the first node of a pair, [shape of the weight].

    The floats themselves where they are rounded later; None where the scales are computed.
    """
    arrays = [None if v is None or v.const_value is None else v.const_value.numpy()
              for v in node.inputs]  # fmt: skip
    if not _is_of_pair(node) or arrays[0] is None or arrays[1] is None:
        return None
    if node.op_type == "QuantizeLinear":
        return arrays[0]
    stored, scale = arrays[0].astype(np.float32), arrays[1].astype(np.float32)
    zero = np.zeros_like(scale) if len(arrays) < 3 or arrays[2] is None else arrays[2]
    zero = zero.astype(np.float32)
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    if block:
        size = stored.shape[axis]
        scale, zero = (a.repeat(block, axis).take(range(size), axis) for a in (scale, zero))
    elif scale.ndim == 1 and stored.ndim > 1:
        line = [-1 if a == axis % stored.ndim else 1 for a in range(stored.ndim)]
        scale, zero = scale.reshape(line), zero.reshape(line)
    reals: NDArray[Any] = scale * (stored - zero)
    return reals


def unrounded(model: ir.Model) -> ir.Model | None:
    """A copy whose activations are not rounded between its layers; None where none were.

    Weights are what their integers stand for, and outputs of the graph keep their pairs.
    """
    copy = model.clone()
    copy.meta.update(model.meta)
    found = False
    for node in list(copy.graph):
        x = node.inputs[0] if node.op_type == "QuantizeLinear" and not node.domain else None
        if x is None or x.const_value is not None:
            continue
        for reader, i in readers_of_output(node):
            reader.replace_input_with(i, x)
            found = True
    return copy if found else None


def readers_of_output(node: ir.Node) -> list[tuple[ir.Node, int]]:
    """Who reads what comes back of what a QuantizeLinear rounds."""
    pairs = [n for n, i in node.outputs[0].uses() if _is_of_pair(n) and i == 0]
    return [use for pair in pairs for use in pair.outputs[0].uses()]


def _is_of_pair(node: ir.Node) -> bool:
    return node.op_type in _PAIR and not node.domain
