"""Constant folding: nodes whose value no input can change become initializers.

Two kinds of nodes fold: those that read only constants, and those that compute shapes which the
model's declared sizes already settle. The second kind is found without symbolic algebra: the graph
is walked twice with different sizes for its symbolic dimensions; what comes out equal, through
operators that cannot hide a difference, does not depend on them.

No weight is doubled. A weight that several nodes rearrange in the same way (a linear layer called
twice) becomes one constant for all of them; one that is read in several ways (a table that embeds
tokens and, transposed, scores them) stays, and so does what rearranges it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.cost import is_weight
from edgec.graph.facts import Facts, evaluate, facts_of
from edgec.graph.initializers import add_initializer
from edgec.graph.nodes import UNFOLDED, runs_graphs
from edgec.graph.origin import note_origins
from edgec.model_inputs import input_shapes, other_shapes
from edgec.ops.view import Fact
from edgec.passes.base import Context, Pass

# These turn different operands into equal results (a comparison, a clamp): equality of two walks
# proves nothing behind them.
_HIDING = {
    "And", "Equal", "Greater", "GreaterOrEqual", "If", "Less", "LessOrEqual", "Max", "Min", "Mod",
    "Not", "Or", "Where", "Xor", "Clip", "Div", "Sign", "NonZero", "Loop", "Scan", "ArgMax",
    "ArgMin", "ReduceMax", "ReduceMin", "Floor", "Ceil", "Round", "BitShift",
}  # fmt: skip
# These give back all that they read, in another order or shape.
_REARRANGING = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


@dataclass(frozen=True)
class Fold(Pass):
    """Replaces constant subgraphs by their values and drops what is unused then."""

    name: ClassVar[str] = "fold"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Folds in topological order; once more, as equal nodes may wait for later constants."""
        settled, types = _settled(model)
        for _ in range(2):
            for node in list(model.graph):
                if node.graph is not None:  # not joined to an equal one
                    _fold(model, node, settled, types)
        context.records[self.name] = {"folded": sweep(model)}
        return model


def _fold(
    model: ir.Model, node: ir.Node, settled: dict[ir.Value, NDArray[Any]], types: Facts
) -> None:
    if node.op_type in UNFOLDED or len(node.outputs) == 0:
        return
    if node.op_type == "CastLike":
        _spell_cast(node, types)
    values = [settled[v] for v in node.outputs if v in settled]
    if len(values) < len(node.outputs):
        found = _evaluate(node, dict(model.graph.opset_imports))
        if found is None:
            return
        values = found
    if _rearranges_weight(node):
        others = _other_readers(node)
        if not all(_equal(node, other) for other in others):
            return
        for other in others:
            other.outputs[0].replace_all_uses_with(node.outputs[0])
            model.graph.remove(other, safe=True)
    _replace(model, node, [np.asarray(v) for v in values])


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


def _rearranges_weight(node: ir.Node) -> bool:
    """Whether a trained weight is read; of zeros that layers share, each may have a copy."""
    tensor = node.inputs[0].const_value if node.inputs and node.inputs[0] is not None else None
    if node.op_type not in _REARRANGING or tensor is None or not is_weight(tensor):
        return False
    data = tensor.numpy().ravel()
    return bool(data.size and (data[0] != data[-1] or (data != data[0]).any()))


def _other_readers(node: ir.Node) -> set[ir.Node]:
    weight = node.inputs[0]
    return set() if weight is None else {user for user, _ in weight.uses()} - {node}


def _equal(one: ir.Node, other: ir.Node) -> bool:
    """Whether two nodes of one graph compute the same, and neither is what the graph returns."""
    if one.graph is not other.graph or any(
        v.is_graph_output() for v in (*one.outputs, *other.outputs)
    ):
        return False
    if one.op_type != other.op_type or len(one.inputs) != len(other.inputs):
        return False
    if {n: a.value for n, a in one.attributes.items()} != {
        n: a.value for n, a in other.attributes.items()
    }:
        return False
    return all(_same_constant(a, b) for a, b in zip(one.inputs, other.inputs, strict=True))


def _same_constant(one: ir.Value | None, other: ir.Value | None) -> bool:
    if one is other:
        return True
    a, b = (None if v is None else v.const_value for v in (one, other))
    return a is not None and b is not None and np.array_equal(a.numpy(), b.numpy())


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
        nested = runs_graphs(node)
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
    if runs_graphs(node):
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
    if any(output.is_graph_output() for output in node.outputs):
        return
    made = []
    for output, value in zip(node.outputs, values, strict=True):
        name = output.name or ""
        output.name = f"{name}.folded"
        constant = add_initializer(graph, ir.Tensor(np.asarray(value, order="C"), name=name))
        output.replace_all_uses_with(constant)
        made.append(constant)
    note_origins(node, made)
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
