"""Layers that ONNX Runtime has fused with what follows them are spelt out.

    FusedConv(x, W, b, z)   ⟶   activation(Conv(x, W, b) + z)

Criteria and repairs look at what a layer's weight makes, not at what is left of it behind an
activation. ONNX Runtime fuses the same again when it loads the result; others could not read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx_ir as ir

from edgec.graph.initializers import add_initializer
from edgec.graph.names import Names
from edgec.passes.base import Context, Pass

MICROSOFT = "com.microsoft"
# Activation → its attributes, in the order in which FusedConv lists their values.
_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign"), ()),
    **dict.fromkeys(("LeakyRelu", "Elu", "ThresholdedRelu"), ("alpha",)),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
    "Clip": ("min", "max"),
}
_FUSED = "activation"  # starts the names of attributes that are the activation's


@dataclass(frozen=True)
class SpellOut(Pass):
    """Writes fused layers as the layer and what follows it."""

    name: ClassVar[str] = "spell-out"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Visits every node; one whose activation is unknown stays as it is."""
        found = [
            node
            for node in model.graph
            if node.domain == MICROSOFT and node.op_type in SPELLINGS and len(node.inputs) > 1
        ]
        if not found:
            return model
        writer, spelt = _Writer(model), Counter[str]()
        for node in found:
            op = node.op_type
            spelt[op] += SPELLINGS[op].write(writer, node)
        context.records[self.name] = {op: times for op, times in spelt.items() if times}
        return model


class _Writer:
    """Writes nodes in front of and behind the one that is spelt out, which keeps its names."""

    def __init__(self, model: ir.Model) -> None:
        self.graph, self.names = model.graph, Names(model.graph)
        self.opset = model.opset_imports[""]

    def node(
        self, like: ir.Node, op: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any]
    ) -> ir.Node:
        """A node, named after the one that is spelt out, for the caller to insert."""
        name = self.names.fresh(f"{like.name}/{op}")
        made = ir.node(op, inputs, dict(attributes), name=name)
        made.outputs[0].name = name
        return made

    def constant(self, like: str, value: float, dtype: ir.DataType) -> ir.Value:
        """A scalar."""
        tensor = ir.Tensor(np.asarray(value, dtype.numpy()), name=self.names.fresh(like))
        return add_initializer(self.graph, tensor)

    def follow(
        self, node: ir.Node, op: str, others: Sequence[ir.Value], attributes: Mapping[str, Any]
    ) -> None:
        """Lets `op` make what the node made, of what the node makes and `others`."""
        old = node.outputs[0]
        last = self.node(node, op, [old, *others], attributes)
        new = last.outputs[0]
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        last.replace_input_with(0, old)
        self.graph.insert_after(node, last)
        if new.is_graph_output():
            old.name, new.name = new.name, old.name


def _layer(writer: _Writer, node: ir.Node) -> bool:
    """FusedConv and FusedGemm."""
    word = node.attributes.get_string("activation", "")
    if (word and word not in _ACTIVATIONS) or _is_named_for_good(node):
        return False
    parameters = _parameters(node, word)
    addend = node.inputs[3] if len(node.inputs) > 3 else None
    dtype = node.inputs[1].dtype if node.inputs[1] is not None else None
    for name in [name for name in node.attributes if name.startswith(_FUSED)]:
        del node.attributes[name]
    node.op_type, node.domain = node.op_type.removeprefix("Fused"), ""
    # What comes last is written first: all of it follows the layer directly.
    if word == "Clip" and writer.opset >= 11:
        bounds = [
            writer.constant(f"{node.name}/{name}", value, dtype or ir.DataType.FLOAT)
            for name, value in parameters.items()
        ]
        writer.follow(node, word, bounds, {})
    elif word:
        writer.follow(node, word, [], parameters)
    if addend is not None:
        writer.follow(node, "Add", [addend], {})
    if len(node.inputs) > 3:
        node.resize_inputs(3)
    return True


def _is_named_for_good(node: ir.Node) -> bool:
    """Whether plans can only call the node by what the graph returns, as it has no other name."""
    return node.outputs[0].is_graph_output() and node.name == node.outputs[0].name


def _parameters(node: ir.Node, word: str) -> dict[str, float]:
    names = _ACTIVATIONS.get(word, ())
    listed = node.attributes.get_floats("activation_params", None)
    if listed is not None:
        return dict(zip(names, map(float, listed), strict=False))
    named = {name: node.attributes.get_float(f"activation_{name}", None) for name in names}
    return {name: value for name, value in named.items() if value is not None}


def _product(writer: _Writer, node: ir.Node) -> bool:
    """FusedMatMul by a weight as it lies; others are met by the operator's record (`edgec/ops`)."""
    data, weight = node.inputs[0], node.inputs[1]
    alpha, turned = node.attributes.get_float("alpha", 1.0), node.attributes.get_int("transA", 0)
    others = [node.attributes.get_int(name, 0) for name in ("transB", "transBatchA")]
    if any(others) or weight is None or weight.const_value is None:
        return False
    if len(weight.const_value.shape) != 2 or (alpha != 1.0 and _is_named_for_good(node)):
        return False
    if turned:
        if data is None or data.shape is None:
            return False
        *batch, rows, columns = range(len(data.shape))
        before = writer.node(node, "Transpose", [data], {"perm": [*batch, columns, rows]})
        writer.graph.insert_before(node, before)
        node.replace_input_with(0, before.outputs[0])
    node.attributes.clear()
    node.op_type, node.domain = "MatMul", ""
    if alpha != 1.0:
        scale = writer.constant(f"{node.name}/alpha", alpha, weight.const_value.dtype)
        writer.follow(node, "Mul", [scale], {})
    return True


class Spelling(NamedTuple):
    """How a fused layer is spelt out.

    Attributes:
        write: Rewrites the node, and says whether it could.
        result: What the node becomes.
    """

    write: Callable[[_Writer, ir.Node], bool]
    result: str


SPELLINGS: Mapping[str, Spelling] = {
    "FusedConv": Spelling(_layer, "activation(Conv(x, W, b) + z)"),
    "FusedGemm": Spelling(_layer, "activation(Gemm(x, W, b))"),
    "FusedMatMul": Spelling(_product, "alpha · MatMul(Transpose(x), W), where W is a weight"),
}
