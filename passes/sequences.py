"""Sequences of tensors that are only a way to write Split become Split.

    SplitToSequence(x, sizes) → SequenceAt(·, 0), SequenceAt(·, 1), …    ⟶    Split(x, sizes)

Exporters write `chunk` and `split` like this. A sequence that is used in any other way stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgec.graph.facts import Facts, facts_of, split_sizes
from edgec.graph.initializers import add_initializer
from edgec.graph.names import Names
from edgec.model_inputs import input_shapes
from edgec.passes.base import Context, Pass
from edgec.passes.fold import sweep


@dataclass(frozen=True)
class SplitSequences(Pass):
    """Rewrites SplitToSequence whose elements are picked by constant positions."""

    name: ClassVar[str] = "split-sequences"

    def run(self, model: ir.Model, context: Context) -> ir.Model:
        """Visits every SplitToSequence; needs opset 13, where Split takes its sizes as an input."""
        nodes = [n for n in model.graph if n.op_type == "SplitToSequence"]
        if not nodes or model.graph.opset_imports.get("", 0) < 13:
            return model
        facts = facts_of(model, dict(input_shapes(model)))
        context.records[self.name] = {"rewritten": sum(_rewrite(model, n, facts) for n in nodes)}
        sweep(model)  # the positions and sizes that only the sequences read
        return model


def _rewrite(model: ir.Model, node: ir.Node, facts: Facts) -> bool:
    sizes = split_sizes(node, [None if v is None else facts[v] for v in node.inputs])
    users = [user for user, _ in node.outputs[0].uses()]
    picks = [_position(user, facts) for user in users]
    if sizes is None or not users or any(p is None for p in picks):
        return False
    name = node.name or node.outputs[0].name or "split"
    names = Names(model.graph)
    tensor = ir.Tensor(np.asarray(sizes, np.int64), name=names.fresh(f"{name}.sizes"))
    constant = add_initializer(model.graph, tensor)
    axis = node.attributes.get_int("axis", 0)
    split = ir.node(
        "Split", [node.inputs[0], constant], {"axis": axis}, num_outputs=len(sizes), name=name
    )
    for number, value in enumerate(split.outputs):
        value.name = names.fresh(f"{name}.part{number}")
        value.type = node.inputs[0].type if node.inputs[0] is not None else None
    model.graph.insert_before(node, split)
    for user, position in zip(users, picks, strict=True):
        assert position is not None
        part = split.outputs[position % len(sizes)]
        facts[part] = facts[user.outputs[0]]  # for a sequence that is made of it
        user.outputs[0].replace_all_uses_with(part, replace_graph_outputs=True)
        model.graph.remove(user, safe=True)
    model.graph.remove(node, safe=True)
    return True


def _position(user: ir.Node, facts: Facts) -> int | None:
    if user.op_type != "SequenceAt" or user.inputs[1] is None:
        return None
    position = facts[user.inputs[1]].const
    return None if position is None else int(position.ravel()[0])
