"""Means over all positions are written as GlobalAveragePool, which has integer kernels.

ReduceMean<axes = 2, 3>(x)                 ⟶    GlobalAveragePool(x)
ReduceMean<axes = 2, 3, keepdims = 0>(x)   ⟶    Flatten(GlobalAveragePool(x))
AveragePool<kernel_shape = all of x>(x)    ⟶    GlobalAveragePool(x)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from edgec.graph.facts import Facts, facts_of
from edgec.graph.names import Names
from edgec.model_inputs import input_shapes
from edgec.ops.view import Barrier, Fact, View
from edgec.passes.base import Context, Pass
from edgec.passes.fold import sweep

_MEANS = ("ReduceMean", "AveragePool")


@dataclass(frozen=True)
class GlobalPools(Pass):
    """Writes means over all positions of a feature map as GlobalAveragePool."""

    name: ClassVar[str] = "global-pools"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Visits every ReduceMean and AveragePool of a float tensor with positions."""
        means = [n for n in model.graph if n.op_type in _MEANS and n.domain == ""]
        if not means:
            return model
        facts = facts_of(model, input_shapes(model))
        names = Names(model.graph)
        found = [node for node in means if _is_global(node, facts)]
        for node in found:
            _replace(node, names)
        context.records[self.name] = {"rewritten": len(found)}
        sweep(model)
        return model


def _is_global(node: ir.Node, facts: Facts) -> bool:
    x = None if node.inputs[0] is None else facts.get(node.inputs[0])
    if x is None or x.shape is None or len(x.shape) < 3 or x.dtype != ir.DataType.FLOAT:
        return False
    if node.op_type == "AveragePool":
        kernel = tuple(node.attributes.get_ints("kernel_shape", ()))
        return kernel == x.shape[2:] and not any(node.attributes.get_ints("pads", ()))
    inputs = [None if v is None else facts.get(v, Fact()) for v in node.inputs]
    try:
        axes = View(node, inputs, ()).ints("axes", 1)
    except Barrier:
        return False
    rank = len(x.shape)
    return axes is not None and sorted(a % rank for a in axes) == list(range(2, rank))


def _replace(node: ir.Node, names: Names) -> None:
    graph, made = node.graph, node.outputs[0]
    assert graph is not None
    pool = ir.Node("", "GlobalAveragePool", node.inputs[:1], name=node.name)
    new, last = [pool], pool.outputs[0]
    if not node.attributes.get_int("keepdims", 1):
        last.name = names.fresh(f"{made.name}.pooled")
        flat = ir.Node("", "Flatten", [last], name=names.fresh(f"{made.name}.flat"))
        new.append(flat)
        last = flat.outputs[0]
    name = made.name
    last.type, last.shape = made.type, made.shape
    graph.insert_before(node, new)
    made.replace_all_uses_with(last, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    last.name = name
