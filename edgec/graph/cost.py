"""What a model costs, and what it would cost after a cut.

`count` counts a model as it stands. `CostModel` predicts the count of a cut model from widths
alone: operator formulas (`OpRule.flops`) are evaluated on predicted sizes, for many alternatives
at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.budget import Metric
from edgec.graph.channels import ChannelGroups
from edgec.graph.facts import Facts
from edgec.graph.terms import Block, Terms
from edgec.graph.widths import Line, lines_of
from edgec.ops import rule_for
from edgec.ops.labels import Labels
from edgec.ops.view import FREE, Barrier, Cost, Fact, View, product

Floats = NDArray[np.float64]

_STORED = {
    ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE,
    ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E4M3FNUZ, ir.DataType.FLOAT8E5M2,
    ir.DataType.FLOAT8E5M2FNUZ, ir.DataType.FLOAT8E8M0, ir.DataType.FLOAT4E2M1,
    ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4,
}  # fmt: skip


@dataclass(frozen=True)
class Totals:
    """Work and size of a model.

    Attributes:
        flops: 2 per multiply-add, 1 per other arithmetic operation; one inference.
        macs: Multiply-adds of convolutions and matrix products.
        params: Elements of the weights: initializers with at least one axis, of floats or of
            integers of at most 8 bits, scales, zero points and biases in int32 among them.
        size: Their bytes; two elements of 4 bits share one.
        uncounted: Operators whose work is unknown (no rule, or unknown shapes).
    """

    flops: int
    macs: int
    params: int
    size: int
    uncounted: tuple[str, ...] = ()

    def get(self, metric: Metric) -> int:
        """One of the four by name."""
        return {
            "flops": self.flops, "macs": self.macs, "params": self.params, "size": self.size,
        }[metric]  # fmt: skip


def is_weight(tensor: ir.TensorProtocol) -> bool:
    """Whether an initializer counts as parameters: floats or narrow integers, no lone scalar.

    Shapes, indices and truth values are of other types.
    """
    return tensor.dtype in _STORED and len(tensor.shape) > 0


def holds_weights(value: ir.Value) -> bool:
    """Whether an initializer counts as parameters: `is_weight`, or a bias stored as int32."""
    tensor = value.const_value
    if tensor is None or is_weight(tensor):
        return tensor is not None
    readers = {node.op_type for node, _ in value.uses()}
    return (
        tensor.dtype == ir.DataType.INT32
        and len(tensor.shape) > 0
        and "DequantizeLinear" in readers
    )


@dataclass(frozen=True)
class Stored:
    """How a weight will be stored, where a later pass changes that.

    Attributes:
        itemsize: Bytes of an element.
        axis: An axis with whose entries more is stored: scales, zero points, biases.
        row_bytes: Bytes of that for one entry.
    """

    itemsize: float
    axis: int = 0
    row_bytes: int = 0


Storage = Mapping[str, Stored]
"""Initializer → how it will be stored."""

_SHAPES = {ir.DataType.INT64, ir.DataType.INT32}


def node_cost(
    node: ir.Node,
    x: Sequence[Fact | None],
    y: Sequence[Fact],
    counts: Mapping[str, Any] | None = None,
) -> Cost | None:
    """The cost of one node, None if it is unknown. Arithmetic on shapes and indices is free.

    Args:
        node: The node.
        x, y: Facts of its inputs and outputs.
        counts: Values of attributes that differ from the node's.
    """
    rule = rule_for(node.domain, node.op_type)
    if rule is None:
        return None
    choosing = {*_SHAPES, ir.DataType.BOOL}
    if all(f.dtype in _SHAPES for f in y) and all(f is None or f.dtype in choosing for f in x):
        return FREE
    try:
        return rule.flops(View(node, x, y, counts))
    except Barrier:
        return None


def count(model: ir.Model, facts: Facts) -> Totals:
    """Counts a model as it stands."""
    macs = other = 0
    uncounted = []
    for node in model.graph:
        x = [None if v is None else facts.get(v, Fact()) for v in node.inputs]
        cost = node_cost(node, x, [facts.get(v, Fact()) for v in node.outputs])
        if cost is None:
            uncounted.append(node.op_type)
        else:
            macs, other = macs + cost.macs, other + cost.other
    params, size = weights_in(model)
    return Totals(2 * macs + other, macs, params, size, tuple(sorted(set(uncounted))))


def weights_in(model: ir.Model) -> tuple[int, int]:
    """Elements and bytes of a model's weights."""
    held = [v.const_value for v in model.graph.initializers.values() if holds_weights(v)]
    tensors = [tensor for tensor in held if tensor is not None]
    return sum(t.size for t in tensors), sum(t.nbytes for t in tensors)


@dataclass(frozen=True)
class _Axis:
    """An axis that shrinks, and the number of the term that says by how much."""

    axis: int
    term: int


@dataclass(frozen=True)
class _Sized:
    """A fact whose shape shrinks along some axes."""

    fact: Fact
    axes: tuple[_Axis, ...]


@dataclass(frozen=True)
class _Counted:
    """An attribute that is the size of an axis which shrinks."""

    name: str
    size: int
    axis: _Axis


@dataclass(frozen=True)
class _Node:
    """A node with what its cost depends on."""

    node: ir.Node
    x: tuple[_Sized | None, ...]
    y: tuple[_Sized, ...]
    counts: tuple[_Counted, ...]

    @property
    def terms(self) -> set[int]:
        """The terms of all its axes."""
        known = (sized for sized in (*self.x, *self.y) if sized is not None)
        axes = [axis for sized in known for axis in sized.axes]
        return {axis.term for axis in (*axes, *(count.axis for count in self.counts))}


Sizes = Callable[[_Axis], Any]


@dataclass(frozen=True)
class _Tensor:
    """An initializer as some uses of it are cut.

    `same_as` lists, for each other cut of the initializer counted before, the axes on which the
    two differ: while none of these loses anything, both are one tensor.
    """

    shape: tuple[int, ...]
    stored: Stored
    axes: tuple[_Axis, ...]
    same_as: tuple[tuple[_Axis, ...], ...] = ()

    @property
    def terms(self) -> set[int]:
        """The terms of all axes that decide its size."""
        return {axis.term for axes in (self.axes, *self.same_as) for axis in axes}

    def elements(self, sizes: Sizes) -> Any:
        """Elements that it adds to the model; an array where sizes are arrays of alternatives."""
        return product(_shrunk(self.shape, self.axes, sizes)) * self._is_apart(sizes)

    def bytes(self, sizes: Sizes) -> Any:
        """Their bytes, with all that is stored beside them."""
        stored = self.stored
        total = np.ceil(stored.itemsize * self.elements(sizes))
        if stored.row_bytes:
            rows = _shrunk(self.shape, self.axes, sizes)[stored.axis]
            total = total + stored.row_bytes * rows * self._is_apart(sizes)
        return total

    def _is_apart(self, sizes: Sizes) -> Any:
        """1 where it differs from all copies that are counted before it, else 0."""
        found: Any = 1
        for differing in self.same_as:
            found = found * (1 - np.logical_and.reduce([sizes(a) < 0.5 for a in differing]))
        return found


@dataclass(frozen=True)
class _Near:
    """What the width of one group decides.

    Attributes:
        nodes, tensors: Those that it shrinks.
        block: Their terms.
        groups: The groups whose widths these terms depend on, itself among them.
    """

    nodes: tuple[_Node, ...]
    tensors: tuple[_Tensor, ...]
    block: Block
    groups: tuple[int, ...]


class CostModel:
    """Predicts totals from the number of removed units per slot.

    A *slot* is one kind of units of one group. A size that shrinks is  full − Σ shares · removed,
    one term (`edgec.graph.terms`) per distinct line of labels. Work on one group grows with what
    lies near it in the graph, not with the graph.

    Args:
        groups: The analysed model.
        storage: The weights that will not be stored as they are now; `size` counts what will be.
    """

    def __init__(self, groups: ChannelGroups, storage: Storage | None = None) -> None:
        self.groups = groups
        self.storage = storage or {}
        self.slot_of = np.full(groups.units, -1, np.int64)
        self.slots_of_group: list[list[int]] = []
        self.slots = 0
        for group in groups:
            own = []
            for kind in np.unique(group.kinds):
                self.slot_of[group.units[group.kinds == kind]] = self.slots
                own.append(self.slots)
                self.slots += 1
            self.slots_of_group.append(own)
        self.terms = Terms()
        self._known: dict[tuple[object, ...], tuple[_Axis, ...]] = {}
        self._uses = {(use.node, use.index): use for use in groups.trace.uses}
        self.nodes = [self._node(node) for node in groups.model.graph]
        self.tensors = self._tensors()
        self._group_of = [g for g, own in enumerate(self.slots_of_group) for _ in own]
        self._nodes_of = self._users([node.terms for node in self.nodes])
        self._tensors_of = self._users([tensor.terms for tensor in self.tensors])
        self._near: dict[int, _Near] = {}

    # --- construction

    def _axes(self, lines: Iterable[Line]) -> tuple[_Axis, ...]:
        axes = []
        for line in lines:
            slots = self.slot_of[line.units].ravel()
            slots = slots[slots >= 0]
            if not slots.size:
                continue
            # Units of a slot occur equally often, so occurrences per unit are the slot's share;
            # where rows differ each unit counts for its own row only.
            found, occurrences = np.unique(slots, return_counts=True)
            own = self.slot_of[np.unique(line.units)]
            per_slot = np.unique(own[own >= 0], return_counts=True)[1]
            rows = line.units.size // line.units.shape[line.axis]
            term = self.terms.add(found, occurrences / per_slot / rows)
            axes.append(_Axis(line.axis, term))
        return tuple(axes)

    def _labelled(self, labels: Labels, shape: Sequence[int]) -> tuple[_Axis, ...]:
        key = (*((id(f.ids), f.order) for f in labels), *(size == 1 for size in shape))
        if key not in self._known:
            self._known[key] = self._axes(lines_of(labels, self.groups.unit_of, shape))
        return self._known[key]

    def _sized(self, node: ir.Node, index: int, value: ir.Value) -> _Sized:
        fact = self.groups.facts.get(value, Fact())
        use = self._uses.get((node, index)) if value.const_value is not None else None
        labels = use.labels if use is not None else self.groups.trace.labels.get(value, ())
        if fact.shape is None or not labels or (value.const_value is not None and use is None):
            return _Sized(fact, ())
        return _Sized(fact, self._labelled(labels, fact.shape))

    def _node(self, node: ir.Node) -> _Node:
        x = [None if v is None else self._sized(node, i, v) for i, v in enumerate(node.inputs)]
        y = [self._sized(node, -1, v) for v in node.outputs]
        counts = [
            _Counted(count.name, count.shape[count.axis], axis)
            for count in self.groups.trace.counts.get(node, ())
            for axis in self._labelled(count.labels, count.shape)
            if axis.axis == count.axis
        ]
        return _Node(node, tuple(x), tuple(y), tuple(counts))

    def _tensors(self) -> list[_Tensor]:
        """Weights as the cut would write them: uses that are cut alike share a copy."""
        found: list[_Tensor] = []
        for value in self.groups.model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or not holds_weights(value):
                continue
            shape = tuple(tensor.shape.numpy())
            now = Stored(tensor.dtype.bitwidth / 8)
            stored = self.storage.get(value.name or "", now)
            held = value.is_graph_output() or value.is_graph_input() or not value.uses()
            copies: list[dict[tuple[int, bytes], _Axis]] = []
            for node, i in [*value.uses(), *([(None, 0)] if held else [])]:
                use = None if node is None else self._uses.get((node, i))
                lines = () if use is None else lines_of(use.labels, self.groups.unit_of, shape)
                own = {
                    (line.axis, line.units.tobytes()): axis
                    for line in lines
                    for axis in self._axes([line])
                }
                if any(own.keys() == copy.keys() for copy in copies):
                    continue
                same_as = [_apart(own, copy) for copy in copies]
                copies.append(own)
                found.append(_Tensor(shape, stored, tuple(own.values()), tuple(same_as)))
        return found

    def _users(self, terms: Sequence[Iterable[int]]) -> list[list[int]]:
        """group → numbers of the items that have some of their terms in it."""
        users: list[list[int]] = [[] for _ in self.slots_of_group]
        for number, own in enumerate(terms):
            for group in {self._group_of[slot] for slot in self.terms.slots_of(own)}:
                users[group].append(number)
        return users

    def near(self, group: int) -> _Near:
        """What the width of a group decides."""
        if group not in self._near:
            nodes = tuple(self.nodes[n] for n in self._nodes_of[group])
            tensors = tuple(self.tensors[n] for n in self._tensors_of[group])
            terms = set().union(*(n.terms for n in nodes), *(t.terms for t in tensors))
            block = self.terms.block(terms)
            groups = {group, *(self._group_of[slot] for slot in block.slots.tolist())}
            self._near[group] = _Near(nodes, tensors, block, tuple(sorted(groups)))
        return self._near[group]

    # --- evaluation

    def removed(self, alive: NDArray[np.bool_]) -> Floats:
        """Removed units per slot: float64[slots]."""
        gone = self.slot_of[~alive]
        return np.bincount(gone[gone >= 0], minlength=self.slots).astype(np.float64)

    def totals(self, removed: Floats) -> Totals:
        """Exact totals for a number of removed units per slot: float64[slots]."""
        lost = np.rint(self.terms.lost(removed)).astype(np.int64).tolist()
        costs = [self._cost(node, lambda axis: lost[axis.term]) for node in self.nodes]
        macs = sum(cost.macs for cost in costs)
        other = sum(cost.other for cost in costs)
        params, size = (
            sum(int(of(lambda axis: lost[axis.term])) for of in each)
            for each in ([t.elements for t in self.tensors], [t.bytes for t in self.tensors])
        )
        return Totals(2 * macs + other, macs, params, size)

    def alternatives(self, metric: Metric, group: int, removed: Floats, options: Floats) -> Floats:
        """Cost of all that one group touches, for each of its options, others as in `removed`.

        Args:
            metric: What is counted.
            group: Index of the group.
            removed: float64[slots], the current state; that of the groups near is read.
            options: float64[options, slots of the group], removed units per slot.

        Returns: float64[options].
        """
        near = self.near(group)
        lost = near.block.lost(self.slots_of_group[group], removed, options)

        def sizes(axis: _Axis) -> Floats:
            return np.asarray(lost[near.block.rows[axis.term]])

        total = np.zeros(len(options))
        if metric in ("flops", "macs"):
            for node in near.nodes:
                cost = self._cost(node, sizes)
                total = total + (cost.flops if metric == "flops" else cost.macs)
        else:
            for tensor in near.tensors:
                total = total + (tensor.bytes if metric == "size" else tensor.elements)(sizes)
        return total

    def _cost(self, node: _Node, sizes: Sizes) -> Cost:
        def fact(sized: _Sized) -> Fact:
            if not sized.axes or sized.fact.shape is None:
                return sized.fact
            return Fact(
                sized.fact.dtype, _shrunk(sized.fact.shape, sized.axes, sizes), sized.fact.const
            )

        x = [None if s is None else fact(s) for s in node.x]
        counts = {c.name: c.size - sizes(c.axis) for c in node.counts}
        return node_cost(node.node, x, [fact(s) for s in node.y], counts) or FREE


def _apart(
    own: dict[tuple[int, bytes], _Axis], other: dict[tuple[int, bytes], _Axis]
) -> tuple[_Axis, ...]:
    """The axes that only one of two cuts of an initializer has."""
    return tuple((own | other)[key] for key in (*own, *other) if (key in own) != (key in other))


def _shrunk(shape: Sequence[int], axes: Iterable[_Axis], sizes: Sizes) -> tuple[int, ...]:
    """A shape with the lost part of each axis taken off; sizes may be arrays of alternatives."""
    new = list(shape)
    for axis in axes:
        new[axis.axis] = new[axis.axis] - sizes(axis)
    return tuple(new)
