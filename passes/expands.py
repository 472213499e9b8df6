"""Expands that broadcasting does anyway go: what they repeat has no channels to cut.

    Mul(x, Expand(n, shape of x))    ⟶    Mul(x, n)

An exporter writes `x / norm.expand_as(x)` like this, and the copies along the channel axis would
hold it whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgec.graph.facts import Facts, facts_of
from edgec.model_inputs import input_shapes, other_shapes
from edgec.passes.base import Context, Pass
from edgec.passes.fold import sweep

_BROADCASTING = {
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "Where", "And", "Or",
    "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual",
}  # fmt: skip


@dataclass(frozen=True)
class DropExpands(Pass):
    """Lets elementwise operators broadcast by themselves."""

    name: ClassVar[str] = "drop-expands"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Visits every Expand; shapes are compared for two sizes of every symbolic dimension."""
        expands = [n for n in model.graph if n.op_type == "Expand" and n.domain == ""]
        if not expands:
            return model
        shapes = input_shapes(model)
        walks = [facts_of(model, shapes), facts_of(model, other_shapes(model, shapes))]
        dropped = 0
        for node in expands:
            for user, i in list(node.outputs[0].uses()):
                if all(_broadcasts(user, i, node.inputs[0], facts) for facts in walks):
                    user.replace_input_with(i, node.inputs[0])
                    dropped += 1
        context.records[self.name] = {"dropped": dropped}
        sweep(model)
        return model


def _broadcasts(user: ir.Node, i: int, narrow: ir.Value | None, facts: Facts) -> bool:
    """Whether a node's output keeps its shape when it reads `narrow` at input `i`."""
    if user.op_type not in _BROADCASTING or user.domain or narrow is None:
        return False
    values = [narrow if j == i else value for j, value in enumerate(user.inputs)]
    known = [facts[v].shape for v in values if v is not None and v in facts]
    shapes = [shape for shape in known if shape is not None]
    output = facts[user.outputs[0]].shape if user.outputs[0] in facts else None
    return len(shapes) == len(values) and np.broadcast_shapes(*shapes) == output
