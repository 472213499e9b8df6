"""Repairs of layers whose weights come back from integers: done in reals, then rounded anew.

While a repair runs, such layers read their weights and biases as plain constants; activations pass
Q/DQ as before. Afterwards what changed is stored again in the integers that there were. Scales stay
as they are where the new weights fit, and grow where they do not; the scale of a bias grows with
that of its weight, as kernels add both up in integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import WEIGHTED
from edgec.graph.initializers import add_initializer
from edgec.graph.names import Names
from edgec.graph.stored import reals_of
from edgec.passes.repair.layers import read, write

Array = NDArray[Any]


@dataclass(frozen=True)
class _Lifted:
    """A weight or bias that is a constant for a while.

    Attributes:
        first, last: The nodes of its pair; the same where integers are stored.
        reader, index: Who reads it, and at which input.
        reals: What was read before.
    """

    first: ir.Node
    last: ir.Node
    reader: ir.Node
    index: int
    reals: Array


@contextmanager
def in_reals(model: ir.Model) -> Iterator[None]:
    """Inside, no layer of the model reads its weight or bias through integers."""
    lifted = list(_found(model))
    names = Names(model.graph)
    for own in lifted:
        name = names.fresh(f"{own.last.outputs[0].name}.reals")
        tensor = ir.Tensor(np.ascontiguousarray(own.reals), name=name)
        own.reader.replace_input_with(own.index, add_initializer(model.graph, tensor))
    yield
    grown: dict[ir.Node, Array] = {}
    for own in sorted(lifted, key=lambda own: own.index):  # weights before their biases
        constant = own.reader.inputs[own.index]
        array = read(own.reader, own.index)
        own.reader.replace_input_with(own.index, own.last.outputs[0])
        factor = grown.get(own.reader, np.ones((), np.float32))
        if not np.array_equal(array, own.reals) or (factor != 1).any():
            grown.setdefault(own.reader, _store(own, array, factor))
        if constant is not None and not constant.uses():
            del model.graph.initializers[constant.name or ""]


def _found(model: ir.Model) -> Iterator[_Lifted]:
    """Weights and biases that one layer alone reads."""
    for node in model.graph:
        reals = reals_of(node)
        if reals is None or node.attributes.get_int("block_size", 0) > 0:
            continue
        last = node
        if node.op_type == "QuantizeLinear":
            uses = tuple(node.outputs[0].uses())
            if len(uses) != 1 or uses[0].node.op_type != "DequantizeLinear":
                continue
            last = uses[0].node
        uses = tuple(last.outputs[0].uses())
        if len(uses) == 1 and uses[0].node.op_type in WEIGHTED and uses[0].idx in (1, 2):
            yield _Lifted(node, last, uses[0].node, uses[0].idx, reals)


def _store(own: _Lifted, reals: Array, factor: Array) -> Array:
    """Rounds to the integers there were; by how much the scale grew, float32[channels] or [].

    Args:
        own: What is stored.
        reals: Its new numbers.
        factor: What its scale has to grow by.
    """
    last, rank = own.last, reals.ndim
    axis = last.attributes.get_int("axis", 1) % rank
    old = read(last, 1).astype(np.float32)
    scale = old * factor
    dtype = _integers(own)
    has_zero = len(last.inputs) > 2 and last.inputs[2] is not None
    zero = read(last, 2).astype(np.float32) if has_zero else np.zeros_like(old)
    low, high = (float(end) for end in (dtype.min, dtype.max))
    low = -high if dtype.min < 0 and not zero.any() else low
    line = [-1 if a == axis else 1 for a in range(rank)]
    if dtype.bitwidth < 32:
        others = tuple(a for a in range(rank) if a != axis) if scale.ndim else None
        for end, most in ((reals.max(others), high - zero), (reals.min(others), low - zero)):
            step = np.divide(end, most, out=np.zeros_like(scale), where=most != 0)
            scale = np.maximum(scale, step).astype(np.float32)
    if scale.ndim and last.attributes.get_int("axis", -1) != axis:
        last.attributes["axis"] = ir.AttrInt64("axis", axis)
    if scale.shape != old.shape and has_zero:
        write(last, 2, np.broadcast_to(read(last, 2), scale.shape))
    for node in {own.first, last}:
        write(node, 1, scale)
    if own.first is not last:
        write(own.first, 0, reals)
        return np.asarray(scale / old)
    spread = scale.reshape(line) if scale.ndim else scale
    offset = zero.reshape(line) if zero.ndim else zero
    whole = np.clip(np.rint(reals.astype(np.float64) / spread) + offset, low, high)
    write(last, 0, whole)
    return np.asarray(scale / old)


def _integers(own: _Lifted) -> ir.DataType:
    """The type that the numbers are stored in."""
    value = own.last.inputs[0]
    assert value is not None
    if value.const_value is not None:
        return value.const_value.dtype
    zero = own.first.inputs[2] if len(own.first.inputs) > 2 else None
    return ir.DataType.UINT8 if zero is None or zero.const_value is None else zero.const_value.dtype
