"""What edgec knows about one operator: a single record, `OpRule`.

A rule says how channel labels pass through the operator, what the operator costs, and which of
its constants name a channel count. It sees the node through a context that knows concrete shapes:

    View            attributes, shapes and constants of one node         → `flops`
    LabelContext    a View that also reads and writes labels             → `labels`
    RepairContext   a View of the node in the cut graph                  → `repair`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.ops.labels import Atoms, Factor, Ids, Labels, along, line_labels, on_axis


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
    """

    def __init__(self, node: ir.Node, x: Sequence[Fact | None], y: Sequence[Fact]) -> None:
        self.node = node
        self.x = list(x)
        self.y = list(y)

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute's Python value, or `default`."""
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


@dataclass(frozen=True)
class Use:
    """How one node uses one initializer.

    Attributes:
        node: The consumer.
        index: Which input of it.
        labels: Labels of the initializer as this node sees it. Their arrays may be larger than
            the initializer on axes where the initializer has size 1: such a row goes when all
            atoms along it go.
        reads: Axes whose atoms the node reads and mixes (the reduced axis of a product). To
            silence a channel, zero its slices along these axes.
    """

    node: ir.Node
    index: int
    labels: Labels
    reads: tuple[int, ...] = ()


@dataclass(frozen=True)
class Mix:
    """An input without weights of its own across whose channels the node mixes (LRN, q·kᵀ)."""

    node: ir.Node
    index: int
    labels: Labels


@dataclass
class Trace:
    """The labels of a whole graph."""

    atoms: Atoms = field(default_factory=Atoms)
    labels: dict[ir.Value, Labels] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    mixes: list[Mix] = field(default_factory=list)
    shared: dict[ir.Value, Use] = field(default_factory=dict)


class LabelContext(View):
    """A View that reads labels of inputs and gives labels to outputs."""

    def __init__(
        self, node: ir.Node, x: Sequence[Fact | None], y: Sequence[Fact], trace: Trace
    ) -> None:
        super().__init__(node, x, y)
        self.trace = trace
        self.atoms = trace.atoms
        self._read: set[int] = set()

    def is_param(self, i: int) -> bool:
        """Whether input `i` is an initializer (or a constant node's output)."""
        value = self.node.inputs[i] if self.has(i) else None
        return value is not None and value.const_value is not None

    def labels(self, i: int = 0) -> Labels:
        """Labels of input `i`. An initializer read as data gets fresh atoms on each axis."""
        value = self.node.inputs[i] if self.has(i) else None
        if value is None:
            return ()
        if not self.is_param(i):
            return self.trace.labels.get(value, ())
        if value not in self.trace.labels:
            shape = self.shape(i)
            self.trace.labels[value] = tuple(
                along(self.atoms.fresh(size, f"{value.name} axis {axis}"), axis, len(shape))
                for axis, size in enumerate(shape)
                if size > 1
            )
        own = self.trace.labels[value]
        if i not in self._read:
            self._read.add(i)
            self.trace.uses.append(Use(self.node, i, own))
        return own

    def line(self, i: int, axis: int) -> Ids | None:
        """The atoms of input `i` along `axis` alone: int64[size], None if it carries none."""
        return self.atoms.line(self.labels(i), axis)

    def only(self, i: int, axis: int, why: str) -> Ids | None:
        """Like `line`, and keeps every other axis of input `i` whole, because of `why`."""
        labels = self.labels(i)
        for other in range(len(self.shape(i))):
            if other != axis:
                labels = self.atoms.fix(labels, other, why)
        return self.atoms.line(labels, axis)

    def fresh(self, size: int) -> Ids:
        """Atoms for an axis that this node's weight makes: int64[size]; one channel is fixed."""
        if size < 2:
            return np.zeros(size, np.int64)
        return self.atoms.fresh(size, self.node.name or self.node.op_type)

    def give(self, labels: Labels, out: int = 0) -> None:
        """Sets the labels of output `out`."""
        self.trace.labels[self.node.outputs[out]] = labels

    def give_line(self, ids: Ids | None, axis: int, out: int = 0) -> None:
        """Sets the labels of output `out` to `ids` along one axis."""
        self.give(line_labels(ids, axis, len(self.out_shape(out))), out)

    def use(self, i: int, labels: Labels, reads: Sequence[int] = (), tie: bool = False) -> None:
        """Records the labels of initializer `i` at this node.

        With `tie`, all nodes that share the initializer keep the same channels of it (a shared
        weight). Without, each consumer may keep its own slice of a copy.
        """
        if not self.has(i) or not self.is_param(i):
            return
        value = self.node.inputs[i]
        assert value is not None
        use = Use(self.node, i, labels, tuple(reads))
        self.trace.uses.append(use)
        if not tie:
            return
        first = self.trace.shared.setdefault(value, use)
        if first is use:
            return
        for axis in {a for f in (*labels, *first.labels) for a in f.order}:
            ours, theirs = on_axis(labels, axis), on_axis(first.labels, axis)
            if ours is not None and theirs is not None:
                self.atoms.unite(ours.ids, theirs.ids)
            else:
                one = ours or theirs
                assert one is not None
                self.atoms.pin(one.ids, f"shares {value.name} with a use that keeps it whole")

    def use_line(self, i: int, ids: Ids | None) -> None:
        """Records that every axis-sized parameter `i` (bias, scale, …) has one entry a channel."""
        if self.has(i) and ids is not None and len(self.shape(i)) == 1:
            if self.is_param(i):
                self.use(i, line_labels(ids, 0, 1))
            else:
                own = self.line(i, 0)
                if own is None:
                    self.atoms.pin(ids, f"meets {self.node.inputs[i].name}, which stays whole")  # type: ignore[union-attr]
                else:
                    self.atoms.unite(own, ids)

    def mix(self, i: int, labels: Labels) -> None:
        """Records that the node mixes across the channels of an activation."""
        if labels:
            self.trace.mixes.append(Mix(self.node, i, labels))


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

    def set_ints(self, name: str, i: int, values: Sequence[int]) -> None:
        """Writes integers that are attribute `name` in older opsets, input `i` in newer ones."""
        if name in self.node.attributes or (not self.has(i) and len(self.node.inputs) <= 1):
            self.node.attributes[name] = ir.AttrInt64s(name, list(values))
        else:
            self.set_const(i, np.asarray(values, np.int64))

    def set_const(self, i: int, value: NDArray[Any]) -> None:
        """Gives input `i` a constant of its own (other users keep the old one)."""
        if i >= len(self.node.inputs):
            self.node.resize_inputs(i + 1)
        self.node.replace_input_with(i, self._editor.constant(value))

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
        new = np.array([0 if size is None else size for size in sizes], np.int64)
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


def _nothing(n: RepairContext) -> None:
    """No constant of the operator names a channel count."""


@dataclass(frozen=True)
class OpRule:
    """Everything edgec knows about one ONNX operator; every field but `repair` is required.

    Attributes:
        op_type: The operator, `Domain::Op` outside the default domain.
        labels: Reads the inputs' labels, ties what goes together, gives the outputs' labels.
        flops: The cost of the node from its shapes.
        example: A small model in ONNX text: documentation, fixture and test in one.
        repair: Derives afresh every attribute and constant that names a channel count.
    """

    op_type: str
    labels: Callable[[LabelContext], None]
    flops: Callable[[View], Cost]
    example: str
    repair: Callable[[RepairContext], None] = _nothing


RuleTable = Mapping[str, OpRule]


def product(dims: Sequence[int]) -> int:
    """Product of sizes; sizes may be arrays of alternatives."""
    total: int = 1
    for dim in dims:
        total = total * dim
    return total


def free(n: View) -> Cost:
    """Moves data, computes nothing."""
    return FREE


def per_output(operations: int = 1) -> Callable[[View], Cost]:
    """`operations` per element of the first output."""
    return lambda n: Cost(0, operations * product(n.out_shape()))


def per_input(operations: int = 1) -> Callable[[View], Cost]:
    """`operations` per element of the first input."""
    return lambda n: Cost(0, operations * product(n.shape()))


def needs(factor: Factor | None, why: str) -> Factor:
    """The factor, or a Barrier that says why."""
    if factor is None:
        raise Barrier(why)
    return factor
