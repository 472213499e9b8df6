"""What a rule sees of a node: attributes, concrete shapes, small constants; and what work costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import onnx_ir as ir
from numpy.typing import NDArray


class Barrier(Exception):
    """Raised by a labels rule: no channel can be followed through this node, and why."""


class Cost(NamedTuple):
    """Work of one node. `macs`: multiply-adds. `other`: every other arithmetic operation."""

    macs: int
    other: int

    @property
    def flops(self) -> int:
        """1 MAC = 2 FLOPs."""
        return 2 * self.macs + self.other


FREE = Cost(0, 0)


@dataclass(frozen=True)
class Fact:
    """What is known of a value before the model runs.

    Attributes:
        dtype: Element type, None where unknown.
        shape: Concrete sizes, None where unknown. In cost models a size may be an int64 array
            of alternatives.
        const: The value itself where it is a small constant, or computed from shapes.
    """

    dtype: ir.DataType | None = None
    shape: tuple[int, ...] | None = None
    const: NDArray[Any] | None = None


class View:
    """One node with the facts of its inputs and outputs.

    Attributes:
        node: The node.
        x: Facts of the inputs; None for an absent optional input.
        y: Facts of the outputs.
        counts: Attributes that a cut changes, with their new values; in cost models a value may be
            an int64 array of alternatives.
    """

    def __init__(
        self,
        node: ir.Node,
        x: Sequence[Fact | None],
        y: Sequence[Fact],
        counts: Mapping[str, Any] | None = None,
    ) -> None:
        self.node = node
        self.x = list(x)
        self.y = list(y)
        self.counts = counts or {}

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute's Python value, or `default`."""
        if name in self.counts:
            return self.counts[name]
        found = self.node.attributes.get(name)
        return default if found is None else found.value

    def has(self, i: int) -> bool:
        """Whether input `i` is there."""
        return i < len(self.node.inputs) and self.node.inputs[i] is not None

    def fact(self, i: int) -> Fact:
        """The fact of input `i`; raises Barrier if it is absent."""
        found = self.x[i] if i < len(self.x) else None
        if found is None:
            raise Barrier(f"has no input {i}")
        return found

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """Sizes of input `i`; raises Barrier if they are unknown."""
        shape = self.fact(i).shape
        if shape is None:
            raise Barrier("has an input of unknown shape")
        return shape

    def out_shape(self, i: int = 0) -> tuple[int, ...]:
        """Sizes of output `i`; raises Barrier if they are unknown."""
        shape = self.y[i].shape
        if shape is None:
            raise Barrier("has an output of unknown shape")
        return shape

    def const(self, i: int) -> NDArray[Any] | None:
        """The constant value of input `i`, None if it is absent or not constant."""
        found = self.x[i] if i < len(self.x) else None
        return None if found is None else found.const

    def ints(self, name: str, i: int) -> list[int] | None:
        """Integers that are attribute `name` in older opsets and input `i` in newer ones."""
        found = self.attr(name)
        if found is not None:
            return [int(v) for v in found]
        if not self.has(i):
            return None
        value = self.const(i)
        if value is None:
            raise Barrier(f"computes its {name} at run time")
        return [int(v) for v in value.ravel()]

    @property
    def opset(self) -> int:
        """Version of the node's operator set."""
        graph = self.node.graph
        version = None if graph is None else graph.opset_imports.get(self.node.domain)
        return 1 if version is None else version

    def axis(self, name: str = "axis", default: int = 0, rank: int | None = None) -> int:
        """The attribute `name` as a non-negative axis."""
        rank = len(self.shape(0)) if rank is None else rank
        value = int(self.attr(name, default))
        return value + rank if value < 0 else value


def product(dims: Sequence[int]) -> int:
    """Product of sizes; sizes may be arrays of alternatives."""
    total: int = 1
    for dim in dims:
        total = total * dim
    return total
