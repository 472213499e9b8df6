"""The weight slices that belong to each channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.channels import ChannelGroups
from edgec.graph.stored import readers_of, reals_of
from edgec.graph.widths import Line, lines_of

Floats = NDArray[np.float64]
Role = Literal["out", "in"]


@dataclass(frozen=True)
class Member:
    """One axis of one initializer, as one node uses it.

    Attributes:
        node: The node; of a weight that lies there as integers, the layer that reads what
            DequantizeLinear makes of them.
        index: Which input of the node it is.
        weight: The values that the node reads.
        line: Which units live where along the axis.
        role: `out` makes the channels, `in` reads them.
        name: The initializer's name.
    """

    node: ir.Node
    index: int
    weight: NDArray[Any]
    line: Line
    role: Role
    name: str

    @cached_property
    def _found(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.unique(self.line.units.ravel(), return_inverse=True)

    @property
    def units(self) -> NDArray[np.int64]:
        """int64[n]: the units that occur, ascending."""
        return self._found[0]

    def gather(self, statistic: Floats) -> Floats:
        """Adds a statistic up per unit that occurs: float64[n].

        Args:
            statistic: Values of the weight's rank that broadcast over, or are summed to, the
                shape in which the units vary.
        """
        shape = self.line.units.shape
        summed = tuple(
            a for a in range(statistic.ndim) if shape[a] == 1 and statistic.shape[a] != 1
        )
        values = np.broadcast_to(statistic.sum(summed, keepdims=True), shape)
        flat = values.ravel().astype(np.float64)
        return np.bincount(self._found[1], flat).astype(np.float64)


def members(groups: ChannelGroups) -> Iterator[Member]:
    """Every slice of every initializer that goes with some channel."""
    seen: set[tuple[ir.Value, int, bytes]] = set()
    for use in groups.trace.uses:
        value = use.node.inputs[use.index]
        assert value is not None
        assert value.const_value is not None
        shape = tuple(value.const_value.shape.numpy())
        for line in lines_of(use.labels, groups.unit_of, shape):
            key = (value, line.axis, line.units.tobytes())
            if key in seen:  # a shared weight counts once
                continue
            seen.add(key)
            reals = reals_of(use.node) if use.index == 0 else None
            if reals is not None:
                for node, index in readers_of(use.node):
                    known = _roles(node, index, reals.ndim).get(line.axis)
                    if known is not None:
                        yield Member(node, index, reals, line, known, value.name or "")
                continue
            role: Role = "in" if line.axis in use.reads else "out"
            data = value.const_value.numpy()
            if data.dtype.itemsize < 4:  # half precision: sums of squares need more range
                data = data.astype(np.float32)
            yield Member(use.node, use.index, data, line, role, value.name or "")


def _roles(node: ir.Node, index: int, rank: int) -> Mapping[int, Role]:
    """The axes of a layer's matrix that carry channels; none for other inputs and nodes."""
    if index != 1 or node.domain or rank < 2:
        return {}
    if node.op_type == "MatMul":
        return {rank - 2: "in", rank - 1: "out"}
    if node.op_type == "Gemm":
        by_rows = node.attributes.get_int("transB", 0)
        return {0: "out", 1: "in"} if by_rows else {0: "in", 1: "out"}
    if node.op_type == "ConvTranspose":
        return {0: "in", 1: "out"}
    return {0: "out", 1: "in"} if "Conv" in node.op_type else {}
