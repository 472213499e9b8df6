"""What a layer is to give, so that the network gives what the original gave.

Behind a layer there may be a per-channel affine map a·y + b (a BatchNormalization, a constant
added or multiplied) and then a sum with another branch. If that branch is already repaired, the
layer is the last that can make the sum right:

    wanted y = (original sum − present other branch − b) / a

Otherwise the layer's own output in the original is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.cut import CutResult
from edgec.passes.repair.layers import Layer, is_norm, only_reader, read

Array = NDArray[Any]
Floats = NDArray[np.float64]

_SILENT = 1e-3  # a channel scaled down by so much against the loudest is left as it is


@dataclass(frozen=True)
class Aim:
    """What a layer is to give.

    Attributes:
        value: Name of the original's value that is aimed at.
        other: Name of the cut network's value that is added on the way there, "" for none.
        scale: float64[channels], a.
        shift: float64[channels], b.
    """

    value: str
    other: str
    scale: Floats
    shift: Floats

    @property
    def gain(self) -> Floats:
        """float64[channels]: |a|, by which errors of the channels count; 0 for silent ones."""
        size = np.abs(self.scale)
        return np.where(size > _SILENT * size.max(initial=0.0), size, 0.0)

    def wanted(self, aim: Array, other: Array | None, now: Array) -> Floats:
        """The wanted output of the layer; all arrays are [rows, groups, outputs of a group].

        Args:
            aim: The original's value, kept channels only.
            other: The cut network's value `other`.
            now: The layer's present output.
        """
        if other is None:
            return aim.astype(np.float64)
        scale, shift, gain = (a.reshape(now.shape[1:]) for a in (self.scale, self.shift, self.gain))
        wanted = (aim.astype(np.float64) - other - shift) / np.where(gain > 0, scale, 1.0)
        return np.where(gain > 0, wanted, now)


def aim_of(layer: Layer, cut: CutResult, stage: Mapping[str, int], *, sums: bool) -> Aim:
    """The aim of a layer of the cut model; `stage` is that of its values, see `frontier`."""
    value = layer.node.outputs[0]
    channels = layer.matrix_shape()[0] * layer.matrix_shape()[1]
    scale, shift = np.ones(channels), np.zeros(channels)
    while (step := _affine(value, layer.axis, channels)) is not None:
        value, factor, offset = step
        scale, shift = scale * factor, shift * factor + offset
    plain = Aim(layer.out, "", scale, shift)
    reader = only_reader(value)
    if not sums or reader is None or reader.op_type not in ("Add", "Sum"):
        return plain
    others = [v for v in reader.inputs if v is not value]
    if len(others) != 1 or others[0] is None or others[0].const_value is not None:
        return plain
    shapes = {
        v.name: fact.shape
        for v, fact in cut.groups.facts.items()
        if v.producer() or v.is_graph_input()
    }
    other, total = others[0].name or "", reader.outputs[0].name or ""
    same = shapes.get(other) == shapes.get(total) == shapes.get(value.name) is not None
    if not same or stage[other] >= stage[layer.out]:
        return plain
    return Aim(total, other, scale, shift)


def _affine(value: ir.Value, axis: int, channels: int) -> tuple[ir.Value, Floats, Floats] | None:
    """The next value and (factor, offset) per channel, if an affine operator alone reads this."""
    reader = only_reader(value)
    if reader is None:
        return None
    result, one, zero = reader.outputs[0], np.ones(channels), np.zeros(channels)
    if is_norm(reader) and axis == 1:
        gamma, beta, mean, var = (read(reader, i).astype(np.float64) for i in range(1, 5))
        factor = gamma / np.sqrt(var + reader.attributes.get_float("epsilon", 1e-5))
        return result, factor, beta - factor * mean
    if reader.op_type not in ("Add", "Mul") or reader.domain:
        return None
    index = 1 if reader.inputs[0] is value else 0
    constant = reader.inputs[index]
    if constant is None or constant.const_value is None:
        return None
    line = _per_channel(read(reader, index), axis, channels, value)
    if line is None:
        return None
    return (result, one, line) if reader.op_type == "Add" else (result, line, zero)


def _per_channel(array: Array, axis: int, channels: int, value: ir.Value) -> Floats | None:
    if array.size == 1:
        return np.full(channels, array.item(), np.float64)
    if value.shape is None or array.size != channels:
        return None
    place = array.ndim + axis if axis < 0 else axis - (len(value.shape) - array.ndim)
    if not 0 <= place < array.ndim or array.shape[place] != channels:
        return None
    return array.astype(np.float64).ravel()
