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
        if old is not None:
            entries = [int(o) if v is None else v for o, v in zip(old, values, strict=True)]
            self.node.attributes[name] = ir.AttrInt64s(name, entries)
            return
        was, new, value = self._entries(i, values)
        if value is not None:
            chosen = [self.constant(np.not_equal(new, was)), self.constant(new), value]
            self.node.replace_input_with(i, self.insert("Where", chosen))

    def set_dims(self, i: int, sizes: Sequence[int | None]) -> None:
        """Overrides entries of the shape vector at input `i`; None leaves an entry as it is.

        A vector computed at run time may tell sizes that the analysis does not know (a batch that
        is merged with channels), so its entries shrink in proportion: new = old · size / was.
        """
        was, new, value = self._entries(i, sizes)
        if value is not None:
            same = np.equal(new, was)
            larger = self.insert("Mul", [value, self.constant(np.where(same, 1, new))])
            scaled = self.insert("Div", [larger, self.constant(np.where(same, 1, was))])
            self.node.replace_input_with(i, scaled)

    def _entries(
        self, i: int, values: Sequence[int | None]
    ) -> tuple[NDArray[Any], NDArray[Any], ir.Value | None]:
        """The entries of input `i` now and then, and the input if that is yet to be done.

        A constant is set here; where nothing changes there is nothing to do.
        """
        found, value = self.const(i), self.node.inputs[i]
        assert found is not None
        assert value is not None
        was = found.ravel()
        new = np.array([o if v is None else v for o, v in zip(was, values, strict=True)], was.dtype)
        if np.array_equal(was, new):
            return was, new, None
        if value.const_value is not None:
            self.set_const(i, new)
            return was, new, None
        return was, new, value

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
