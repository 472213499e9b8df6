"""The weight slices that belong to each channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.graph.channels import ChannelGroups
from edgec.graph.widths import Line, lines_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """One axis of one initializer, as one node uses it.

    Attributes:
        node: The node.
        index: Which input of the node it is.
        weight: The initializer's values.
        line: Which units live where along the axis.
        role: `out` makes the channels, `in` reads them.
        name: The initializer's name.
    """

    node: ir.Node
    index: int
    weight: NDArray[Any]
    line: Line
    role: Literal["out", "in"]
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
            role: Literal["out", "in"] = "in" if line.axis in use.reads else "out"
            data = value.const_value.numpy()
            if data.dtype.itemsize < 4:  # half precision: sums of squares need more range
                data = data.astype(np.float32)
            yield Member(use.node, use.index, data, line, role, value.name or "")
