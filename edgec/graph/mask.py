"""The masked network: the original, with everything that reads removed channels silenced.

It computes what the cut network must compute (the cut law), and does so without any of the cutter's
rewriting: weights keep their shapes, their slices that read removed channels become zero; operators
that mix channels without weights read their input times a mask of zeros and ones. A norm that is
cut across takes its statistics over the kept channels: it reads these alone, and what it makes is
put back in their places. What then lies in the places of removed channels does not matter, since
nothing reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.graph.channels import ChannelGroups
from edgec.graph.initializers import add_initializer
from edgec.graph.names import Names
from edgec.graph.widths import Line, Mask, lines_of
from edgec.model import copied
from edgec.model_inputs import is_symbolic
from edgec.ops.tracing import Norm


def masked_model(groups: ChannelGroups, alive: Mask) -> ir.Model:
    """A copy of the analysed model that no longer reads the removed channels.

    Args:
        groups: The analysis of the model.
        alive: bool[units], the units that are kept.
    """
    model = copied(groups.model)
    new_of = dict(zip(groups.model.graph, model.graph, strict=True))
    made: dict[tuple[object, ...], ir.Value] = {}
    names = Names(model.graph)
    for use in groups.trace.uses:
        value = use.node.inputs[use.index]
        assert value is not None
        assert value.const_value is not None
        shape = tuple(value.const_value.shape.numpy())
        lines = [
            line
            for line in lines_of(use.labels, groups.unit_of, shape)
            if line.axis in use.reads and not line.kept(alive).all()
        ]
        if not lines:
            continue
        key = (value, *((line.axis, line.units.tobytes()) for line in lines))
        if key not in made:
            name = names.fresh(f"{value.name}.masked")
            made[key] = add_initializer(model.graph, _masked(value.const_value, name, lines, alive))
        new_of[use.node].replace_input_with(use.index, made[key])
    for mix in groups.trace.mixes:
        value = mix.node.inputs[mix.index]
        assert value is not None
        shape = groups.facts[value].shape or ()
        for line in lines_of(mix.labels, groups.unit_of, shape):
            kept = line.kept(alive)
            if not kept.all():
                node = new_of[mix.node]
                name = names.fresh(f"{value.name}.mask")
                dtype = groups.facts[value].dtype or ir.DataType.FLOAT
                mask = add_initializer(
                    model.graph, ir.Tensor(kept.astype(dtype.numpy()), name=name)
                )
                if line.rows and is_symbolic(model):
                    mask = _repeated(model, node, mix.index, mask, line.rows, names)
                product = ir.node("Mul", [node.inputs[mix.index], mask])
                product.outputs[0].name = names.fresh(f"{value.name}.masked")
                model.graph.insert_before(node, product)
                node.replace_input_with(mix.index, product.outputs[0])
    for norm in groups.trace.norms:
        _narrow(model, new_of[norm.node], norm, alive[groups.unit_of[norm.ids]], names)
    for name, initializer in list(model.graph.initializers.items()):
        if not initializer.uses() and not initializer.is_graph_output():
            del model.graph.initializers[name]
    return model


def _repeated(
    model: ir.Model,
    node: ir.Node,
    index: int,
    mask: ir.Value,
    rows: Sequence[int],
    names: Names,
) -> ir.Value:
    """The mask of all samples, where the analysis saw one: rows may be merged with a batch.

    Samples follow one another, as the batch is the outer axis. Where it is not, the mask is wrong
    and the cut law fails: nothing is believed here.
    """
    value = node.inputs[index]
    assert value is not None
    assert mask.shape is not None
    one = np.asarray(mask.shape.numpy(), np.int64)
    chosen = np.isin(np.arange(one.size), rows)

    def new(op: str, inputs: Sequence[ir.Value]) -> ir.Value:
        made = ir.node(op, inputs)
        made.outputs[0].name = names.fresh(f"{mask.name}.{op.lower()}")
        model.graph.insert_before(node, made)
        return made.outputs[0]

    def constant(array: Any) -> ir.Value:
        return add_initializer(
            model.graph, ir.Tensor(array, name=names.fresh(f"{mask.name}.sizes"))
        )

    times = new("Div", [new("Shape", [value]), constant(one)])
    once = constant(np.ones_like(one))
    return new("Tile", [mask, new("Where", [constant(chosen), times, once])])


def _narrow(model: ir.Model, node: ir.Node, norm: Norm, kept: Mask, names: Names) -> None:
    """Lets a norm see the kept channels only: bool[channels]."""
    if kept.all():
        return
    graph = model.graph
    name = names.fresh(f"{norm.node.outputs[0].name}.kept")
    here = add_initializer(model.graph, ir.Tensor(np.flatnonzero(kept), name=name))
    for i, axis in norm.reads:
        read = ir.node("Gather", [node.inputs[i], here], {"axis": axis})
        read.outputs[0].name = names.fresh(f"{norm.node.outputs[0].name}.narrow")
        graph.insert_before(node, read)
        node.replace_input_with(i, read.outputs[0])
    name = names.fresh(f"{norm.node.outputs[0].name}.places")
    places = np.maximum(np.cumsum(kept) - 1, 0)
    back = add_initializer(model.graph, ir.Tensor(places, name=name))
    for o, axis in norm.gives:
        made = node.outputs[o]
        wide = ir.node("Gather", [made, back], {"axis": axis})
        made.replace_all_uses_with(wide.outputs[0], replace_graph_outputs=True)
        wide.replace_input_with(0, made)
        wide.outputs[0].name, made.name = made.name, names.fresh(f"{made.name}.narrow")
        wide.outputs[0].type, made.shape = made.type, None
        graph.insert_after(node, wide)


def _masked(
    tensor: ir.TensorProtocol, name: str, lines: Sequence[Line], alive: Mask
) -> ir.LazyTensor:
    """A weight whose removed slices are zero, made anew at each reading: never all at once."""

    def values() -> ir.TensorProtocol:
        data = tensor.numpy()
        for line in lines:
            data = data * line.kept(alive).astype(data.dtype)
        return ir.Tensor(np.asarray(data, order="C"))

    return ir.LazyTensor(values, tensor.dtype, ir.Shape(tensor.shape.numpy()), name=name)
