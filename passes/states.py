"""Recurrent layers that start from zeros start from nothing, which ONNX defines as zeros.

    LSTM(x, W, R, B, , zeros, zeros)   ⟶   LSTM(x, W, R, B)

Exporters write the zeros out: Expand or ConstantOfShape to a shape computed from the batch, often
one tensor for all layers, sliced for each. That would bind the hidden units of all layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from edgec.passes.base import Context, Pass
from edgec.passes.fold import sweep

# Operator → the inputs that are initial states.
_STATES: Mapping[str, tuple[int, ...]] = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
# These move or repeat what their first input holds.
_MOVES = {
    "Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze",
    "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip


@dataclass(frozen=True)
class ZeroStates(Pass):
    """Leaves out the initial states of recurrent layers that are zeros."""

    name: ClassVar[str] = "zero-states"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Visits every recurrent layer; what only made the zeros goes."""
        found = [
            (node, i)
            for node in model.graph
            if not node.domain
            for i in _STATES.get(node.op_type, ())
            if i < len(node.inputs) and is_zero(node.inputs[i])
        ]
        if not found:
            return model
        for node, i in found:
            node.replace_input_with(i, None)
        context.records[self.name] = {"left out": len(found)}
        sweep(model)
        return model


def is_zero(value: ir.Value | None) -> bool:
    """Whether every element of the value is known to be zero, whatever its shape turns out."""
    if value is None or value.is_graph_input():
        return False
    if value.const_value is not None:
        return not value.const_value.numpy().any()
    node = value.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get_tensor("value", None)
        return fill is None or not fill.numpy().any()
    if node.op_type == "Concat":
        return all(is_zero(v) for v in node.inputs)
    return node.op_type in _MOVES and is_zero(node.inputs[0])
