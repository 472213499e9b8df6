"""The node in the cut graph: what a repair rule sees and may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.ops.view import Barrier, Fact, View


class Editor(Protocol):
    """How a repair changes the graph around its node."""

    def constant(self, value: NDArray[Any]) -> ir.Value:
        """A new initializer."""

    def insert(
        self, node: ir.Node, op: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any]
    ) -> ir.Value:
        """A new node in front of `node`; its output."""

    def replace(self, node: ir.Node, value: ir.Value) -> None:
        """Lets `value` take the place of the node's first output and drops the node."""


class RepairContext(View):
    """The node in the cut graph. `x`, `y` are the facts before the cut; `new_…` is after it."""

    def __init__(
        self,
        node: ir.Node,
        x: Sequence[Fact | None],
        y: Sequence[Fact],
        new_x: Sequence[tuple[int, ...] | None],
        new_y: Sequence[tuple[int, ...] | None],
        alive_in: Callable[[int, int], NDArray[np.bool_]],
        alive_out: Callable[[int, int], NDArray[np.bool_]],
        editor: Editor,
    ) -> None:
        super().__init__(node, x, y)
        self.new_x = new_x
        self.new_y = new_y
        self._alive_in = alive_in
        self._alive_out = alive_out
        self._editor = editor

    def new_shape(self, i: int = 0) -> tuple[int, ...]:
        """Sizes of input `i` after the cut; raises Barrier if they are unknown."""
        shape = self.new_x[i]
        if shape is None:
            raise Barrier("has an input of unknown shape")
        return shape

    def new_out_shape(self, i: int = 0) -> tuple[int, ...]:
        """Sizes of output `i` after the cut; raises Barrier if they are unknown."""
        shape = self.new_y[i]
        if shape is None:
            raise Barrier("has an output of unknown shape")
        return shape

    def alive(self, i: int, axis: int) -> NDArray[np.bool_]:
        """bool[old size]: which positions along `axis` of input `i` are kept."""
        return self._alive_in(i, axis)

    def alive_out(self, i: int, axis: int) -> NDArray[np.bool_]:
        """bool[old size]: which positions along `axis` of output `i` are kept."""
        return self._alive_out(i, axis)

    def set_int(self, name: str, value: int) -> None:
        """Writes an integer attribute."""
        self.node.attributes[name] = ir.AttrInt64(name, value)

    def set_float(self, name: str, value: float) -> None:
        """Writes a float attribute."""
        self.node.attributes[name] = ir.AttrFloat32(name, value)

    def set_ints(self, name: str, values: Sequence[int]) -> None:
        """Writes an attribute of integers."""
        self.node.attributes[name] = ir.AttrInt64s(name, list(values))

    def set_const(self, i: int, value: NDArray[Any]) -> None:
        """Gives input `i` a constant of its own (other users keep the old one)."""
        if i >= len(self.node.inputs):
            self.node.resize_inputs(i + 1)
        self.node.replace_input_with(i, self._editor.constant(value))

    def set_entries(self, name: str, i: int, values: Sequence[int | None]) -> None:
        """Overrides entries of attribute `name` (older opsets) or input `i`; None leaves one."""
        old = self.attr(name)
        if old is None:
            self.set_dims(i, values)
        else:
            new = [int(o) if v is None else v for o, v in zip(old, values, strict=True)]
            self.node.attributes[name] = ir.AttrInt64s(name, new)

    def set_dims(self, i: int, sizes: Sequence[int | None]) -> None:
        """Overrides entries of the shape vector at input `i`; None leaves an entry as it is.

        A vector computed at run time keeps its other entries: new = Where(given, size, old).
        """
        if all(size is None for size in sizes):
            return
        old, value = self.const(i), self.node.inputs[i]
        assert old is not None
        assert value is not None
        given = np.array([size is not None for size in sizes])
        new = np.array([0 if size is None else size for size in sizes], old.dtype)
        if value.const_value is not None or given.all():
            self.set_const(i, np.where(given, new, old.ravel()))
        else:
            chosen = self.insert("Where", [self.constant(given), self.constant(new), value])
            self.node.replace_input_with(i, chosen)

    def constant(self, value: NDArray[Any]) -> ir.Value:
        """A new initializer."""
        return self._editor.constant(value)

    def insert(
        self, op: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any] | None = None
    ) -> ir.Value:
        """A new node in front of this one; its output."""
        return self._editor.insert(self.node, op, inputs, attributes or {})

    def replace_by(self, value: ir.Value) -> None:
        """Lets `value` take the place of the node's first output and drops the node."""
        self._editor.replace(self.node, value)
