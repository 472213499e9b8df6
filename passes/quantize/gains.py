"""Which layers integers hardly make faster by themselves, by the size of their work."""

from __future__ import annotations

import onnx_ir as ir

from edgec.graph.cost import node_cost
from edgec.graph.facts import facts_of
from edgec.model_inputs import input_shapes
from edgec.ops.view import Fact
from edgec.passes.quantize.placement import Placement


def doubtful(model: ir.Model, placement: Placement) -> dict[str, str]:
    """Layers that are placed in integers though the target computes them as fast in floats → why.

    They may still pay: between integers a layer in floats costs two conversions.

    Args:
        model: The model that the placement was made for, before anything is inserted.
        placement: What is in integers, by which rules.
    """
    rules, facts = placement.rules, facts_of(model, input_shapes(model))
    inside = {name for weight in placement.weights for name, _ in weight.readers}
    found = {}
    for node in model.graph:
        if node.name not in inside:
            continue
        x = [None if v is None else facts.get(v, Fact()) for v in node.inputs]
        cost = node_cost(node, x, [facts.get(v, Fact()) for v in node.outputs])
        weight = node.inputs[1]
        assert weight is not None
        assert weight.const_value is not None
        shape = weight.const_value.shape.numpy()
        grouped = node.attributes.get_int("group", 1) > 1
        if grouped and shape[1] == 1:
            found[node.name] = "depthwise"
        elif not grouped and min(shape[:2]) < rules.gains_from_channels:
            few = min(shape[:2])
            found[node.name] = f"{few} channel{'s' * (few != 1)}"
        elif cost is not None and cost.macs < rules.gains_from_macs:
            found[node.name] = f"{cost.macs:,} multiply-adds"
    return found
