"""Constant folding: nodes whose value no input can change become initializers.

Two kinds of nodes fold: those that read only constants, and those that compute shapes which the
model's declared sizes already settle. The second kind is found without symbolic algebra: the graph
is walked twice with different sizes for its symbolic dimensions; what comes out equal, through
operators that cannot hide a difference, does not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.facts import Facts, evaluate, facts_of
from edgec.model import input_shapes, other_shapes
from edgec.ops.view import Fact
from edgec.passes.base import Context, Pass

# These turn different operands into equal results (a comparison, a clamp): equality of two walks
# proves nothing behind them.
_HIDING = {
    "And", "Equal", "Greater", "GreaterOrEqual", "If", "Less", "LessOrEqual", "Max", "Min", "Mod",
    "Not", "Or", "Where", "Xor", "Clip", "Div", "Sign", "NonZero", "Loop", "Scan", "ArgMax",
    "ArgMin", "ReduceMax", "ReduceMin", "Floor", "Ceil", "Round", "BitShift",
}  # fmt: skip
_RANDOM = {
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
    "Bernoulli",
}  # fmt: skip
_STORED = {"DequantizeLinear"}  # its result is larger than the integers that it reads

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


@dataclass(frozen=True)
class Fold(Pass):
    """Replaces constant subgraphs by their values and drops what is unused then."""

    name: ClassVar[str] = "fold"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Folds in one walk, in topological order."""
        settled, types = _settled(model)
        opsets = dict(model.graph.opset_imports)
        for node in list(model.graph):
            if node.op_type in _RANDOM | _STORED or len(node.outputs) == 0:
                continue
            if node.op_type == "CastLike":
                _spell_cast(node, types)
            values = [settled.get(v) for v in node.outputs]
            if any(v is None for v in values):
                found = _evaluate(node, opsets)
                if found is None:
                    continue
                values = list(found)
            _replace(model, node, [np.asarray(v) for v in values])
        context.records[self.name] = {"folded": sweep(model)}
        return model


def _spell_cast(node: ir.Node, facts: Facts) -> None:
    """CastLike needs its second input for the type alone; Cast does not read it."""
    like = node.inputs[1]
    dtype = None if like is None else facts.get(like, Fact()).dtype
    if dtype is None:
        return
    node.op_type = "Cast"
    node.attributes.clear()
    node.attributes["to"] = ir.AttrInt64("to", dtype.value)
    node.resize_inputs(1)


def _settled(model: ir.Model) -> tuple[dict[ir.Value, NDArray[Any]], Facts]:
    """Values of nodes that shapes alone decide, whatever the symbolic dimensions are; the facts."""
    shapes = input_shapes(model)
    one = facts_of(model, shapes)
    other = facts_of(model, other_shapes(model, shapes))
    hidden: set[ir.Value] = set()
    opaque: set[ir.Value] = set()  # behind nested graphs, which may hide whatever they read
    settled: dict[ir.Value, NDArray[Any]] = {}
    for node in model.graph:
        differs = any(v in hidden or not _same(one, other, v) for v in node.inputs if v is not None)
        nested = any(a.type in _GRAPHS for a in node.attributes.values())
        if nested or any(v in opaque for v in node.inputs if v is not None):
            opaque |= {v for v in node.outputs if not (nested and _is_declared(v))}
        for value in node.outputs:
            if node.op_type == "Shape":
                pass  # of a symbolic tensor: equal entries are settled, and Gather picks them
            elif differs and (
                node.op_type in _HIDING or any(v in hidden for v in node.inputs if v)
            ):
                hidden.add(value)
            a, b = one[value].const, other[value].const
            if a is None or b is None or value in hidden or value in opaque:
                continue
            if np.array_equal(a, b):
                settled[value] = a
    return settled, one


def _is_declared(value: ir.Value) -> bool:
    """Whether the model itself states all sizes of the value."""
    return value.shape is not None and value.shape.is_static()


def _same(one: Facts, other: Facts, value: ir.Value) -> bool:
    a, b = one[value], other[value]
    if a.const is None or b.const is None:
        return a.shape == b.shape
    return np.array_equal(a.const, b.const)


def _evaluate(node: ir.Node, opsets: dict[str, int]) -> list[NDArray[Any]] | None:
    """The node's outputs if all its inputs are constants."""
    if any(v is not None and v.const_value is None for v in node.inputs):
        return None
    if any(a.type in _GRAPHS for a in node.attributes.values()):
        return None
    if not node.inputs and node.op_type != "Constant":
        return None
    if node.domain not in ("", "ai.onnx"):
        return None
    feeds = {
        v.name or "": v.const_value.numpy()
        for v in node.inputs
        if v is not None and v.const_value is not None
    }
    return evaluate(ir.serde.serialize_node(node), feeds, opsets)


def _replace(model: ir.Model, node: ir.Node, values: list[NDArray[Any]]) -> None:
    graph = model.graph
    for output, value in zip(node.outputs, values, strict=True):
        if output.is_graph_output():
            return
        name = output.name or ""
        tensor = ir.Tensor(np.asarray(value, order="C"), name=name)
        constant = ir.Value(
            name=name,
            shape=ir.Shape(value.shape),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        output.replace_all_uses_with(constant)
        output.name = f"{name}.folded"
        graph.register_initializer(constant)
    graph.remove(node, safe=True)


def sweep(model: ir.Model) -> int:
    """Drops initializers and nodes that nothing reads; how many."""
    graph = model.graph
    dropped = 0
    for node in reversed(list(graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)
            dropped += 1
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]
            dropped += 1
    return dropped
