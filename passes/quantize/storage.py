"""What weights will weigh once they are quantised, told of the network before it is cut.

A weight in integers comes with a scale and a zero point for each output channel; its bias becomes
int32 with a scale and a zero point each, and is there even where none was: the correction makes
one. A BatchNormalization that is folded leaves a bias behind. Products that stay in floats are
counted as if they lay between integers, where some targets want an int32 bias too.
"""

from __future__ import annotations

import onnx_ir as ir

from edgec.graph.cost import Stored
from edgec.model import copied
from edgec.passes.base import Context
from edgec.passes.fuse import FuseBatchNorm
from edgec.passes.quantize.candidates import PRODUCTS, op_name
from edgec.passes.quantize.place import bias_add
from edgec.passes.quantize.quantize import Quantize

_SCALE = 4  # bytes of a float32
_INTEGER_BIAS = 12  # of an int32 with its scale and its zero point


def storage(step: Quantize, model: ir.Model) -> dict[str, Stored]:
    """Initializer → how it will be stored, for all that change.

    Args:
        step: The pass that will run.
        model: The network as it is analysed, BatchNorms not folded; not changed.
    """
    folded = FuseBatchNorm()(copied(model), Context())
    ready, placement = step.placed(folded, Context())
    left = {node.name: node for node in ready.graph}
    bits = {name: w.bits for w in placement.weights for name, _ in w.readers}
    scaled = {name for w in placement.weights if w.axis is not None for name, _ in w.readers}
    found: dict[str, Stored] = {}
    gone: list[tuple[ir.Value | None, ir.Node]] = []  # constants, and who reads them no more
    for node in model.graph:
        after = left.get(node.name)
        if node.op_type == "BatchNormalization" and after is None:
            gone += [(value, node) for value in node.inputs[1:5]]
        weight = node.inputs[1] if op_name(node) in PRODUCTS else None
        if after is None or weight is None or weight.const_value is None:
            continue
        add = bias_add(node)
        bias = (node, 2) if add is None else add
        gone += [(value, bias[0]) for value in bias[0].inputs[bias[1] : bias[1] + 1]]
        is_there = add is not None or len(after.inputs) > 2
        name, axis, times = weight.name or "", *_outputs(node, len(weight.const_value.shape))
        known = found.get(name)
        itemsize = weight.const_value.dtype.bitwidth / 8 if known is None else known.itemsize
        row_bytes = 0 if known is None else known.row_bytes
        if node.name in bits:
            itemsize = bits[node.name] / 8
            if known is None and node.name in scaled:
                row_bytes += _SCALE + 1
        in_integers = placement.rules.bias if node.name in bits else placement.rules.rounds_floats
        is_there |= node.op_type != "MatMul" and (node.name in bits or in_integers)
        row_bytes += times * is_there * (_INTEGER_BIAS if in_integers else _SCALE)
        found[name] = Stored(itemsize, axis, row_bytes)
    for value, _ in gone:
        if value is not None and all((value, node) in gone for node, _ in value.uses()):
            found[value.name or ""] = Stored(0)
    return found


def _outputs(node: ir.Node, rank: int) -> tuple[int, int]:
    """The axis of a weight along which its outputs lie, and how many there are at each entry."""
    if node.op_type == "Conv":
        return 0, 1
    if node.op_type == "ConvTranspose":
        return 1, node.attributes.get_int("group", 1)
    if node.op_type == "Gemm":
        return (0 if node.attributes.get_int("transB", 0) else 1), 1
    return rank - 1, 1
