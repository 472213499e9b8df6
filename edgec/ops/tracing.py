"""Labels while a graph is traced: what a labels rule reads, gives and records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgec.ops.labels import Atoms, Factor, Ids, Labels, along, line_labels, on_axis
from edgec.ops.view import Barrier, Fact, View


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


@dataclass(frozen=True)
class Count:
    """An integer attribute that counts what there is along an axis that no tensor shows.

    Attention knows its heads from such an attribute: its inputs have them and their width in one
    axis.

    Attributes:
        name: The attribute.
        labels: Labels of an input as the node sees it, with the axis.
        shape: The sizes of what it sees.
        axis: The axis.
    """

    name: str
    labels: Labels
    shape: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Norm:
    """A node that takes statistics across channels, which may be cut all the same.

    The cut node takes them over the kept channels only; no zeroing can say that.

    Attributes:
        node: The node.
        ids: int64[size], its channels.
        reads: (input, axis) of everything that it reads by channel.
        gives: (output, axis) of everything that it makes by channel.
    """

    node: ir.Node
    ids: Ids
    reads: tuple[tuple[int, int], ...]
    gives: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Freedom:
    """What may go besides channels whose removal equals zeroing them.

    Attributes:
        across_norms: Channels over which a norm takes its statistics.
        drop_heads: Patterns of nodes. Where channels that such a node makes are split into rows
            (heads), whole rows go, instead of an equal count of every row.
    """

    across_norms: bool = False
    drop_heads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """Where channels are split into rows: the node and which of its splits, and the outcome."""

    place: tuple[ir.Node, int]
    factor: Factor

    @property
    def length(self) -> int:
        """Channels in a row."""
        size: int = self.factor.ids.shape[self.factor.order[-1]]
        return size


@dataclass
class Trace:
    """The labels of a whole graph.

    `splits` are the places at which channels were split into rows; at those of `drop`, rows go
    whole.
    """

    facts: Mapping[ir.Value, Fact]
    freedom: Freedom = field(default_factory=Freedom)
    drop: Collection[tuple[ir.Node, int]] = ()
    splits: list[Split] = field(default_factory=list)
    atoms: Atoms = field(default_factory=Atoms)
    labels: dict[ir.Value, Labels] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    mixes: list[Mix] = field(default_factory=list)
    norms: list[Norm] = field(default_factory=list)
    counts: dict[ir.Node, list[Count]] = field(default_factory=dict)
    shared: dict[ir.Value, Use] = field(default_factory=dict)


_INDICES = {ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL, ir.DataType.STRING}


class LabelContext(View):
    """A View that reads labels of inputs and gives labels to outputs."""

    def __init__(
        self, node: ir.Node, x: Sequence[Fact | None], y: Sequence[Fact], trace: Trace
    ) -> None:
        super().__init__(node, x, y)
        self.trace = trace
        self.atoms = trace.atoms
        self._read: set[int] = set()
        self._splits = 0

    def is_param(self, i: int) -> bool:
        """Whether input `i` is an initializer (or a constant node's output)."""
        value = self.node.inputs[i] if self.has(i) else None
        return value is not None and value.const_value is not None

    def is_index(self, i: int) -> bool:
        """Whether input `i` holds indices, sizes or truth values, which are no channels."""
        return self.fact(i).dtype in _INDICES

    def settled(self, i: int, entry: int | None = None) -> bool:
        """Whether no size of the model's inputs decides input `i`, or one entry of that vector.

        Other constants are those of the sizes that the analysis was given.
        """
        value = self.node.inputs[i] if self.has(i) else None
        if value is not None and entry is not None:
            value, _ = self._source(value, entry)
        return value is None or value.const_value is not None

    def sized_by(self, i: int, entry: int) -> tuple[ir.Value, int] | None:
        """The value, and the axis of it, whose size is one entry of the vector at input `i`."""
        value = self.node.inputs[i] if self.has(i) else None
        if value is None:
            return None
        value, entry = self._source(value, entry)
        node = value.producer()
        sized = node.inputs[0] if node is not None and node.op_type == "Shape" else None
        shape = None if sized is None else self.trace.facts.get(sized, Fact()).shape
        if node is None or sized is None or shape is None:
            return None
        start = node.attributes.get_int("start", 0)
        return sized, range(len(shape))[start:][entry]

    def _source(self, value: ir.Value, entry: int) -> tuple[ir.Value, int]:
        """Behind all Concats: the vector that an entry of a vector comes from, and its place."""
        node, left = value.producer(), entry
        for part in () if node is None or node.op_type != "Concat" else node.inputs:
            shape = None if part is None else self.trace.facts.get(part, Fact()).shape
            if part is None or not shape:
                break
            if left < shape[0]:
                return self._source(part, left)
            left -= shape[0]
        return value, entry

    def labels(self, i: int = 0, *, stored: bool = False) -> Labels:
        """Labels of input `i`. An initializer read as data gets fresh atoms on each axis.

        Args:
            i: The input.
            stored: Whether integers of an initializer are no indices but stored numbers.
        """
        value = self.node.inputs[i] if self.has(i) else None
        if value is None or (self.is_param(i) and self.is_index(i) and not stored):
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

    def whole(self, axes: Iterable[int], why: str, i: int = 0) -> Labels:
        """Labels of input `i` whose `axes` stay whole, as the node mixes along them (`why`)."""
        labels = self.labels(i)
        for axis in axes:
            labels = self.atoms.blend(labels, axis, why)
        return labels

    def keep(self, i: int, why: str) -> None:
        """Keeps all of input `i` whole, because of `why`; an initializer stays as it is anyway."""
        if self.has(i) and not self.is_param(i):
            self.atoms.pin_all(self.labels(i), why)

    def fresh(self, size: int) -> Ids:
        """Atoms for an axis that this node's weight makes: int64[size]; one channel is fixed."""
        if size < 2:
            return np.zeros(size, np.int64)
        return self.atoms.fresh(size, self.node.name or self.node.op_type)

    def needs_shape(self, i: int, size: int) -> None:
        """Raises Barrier if the shape of input `i` is unknown.

        The `size` channels that the node's weight makes are there all the same, to be listed.
        """
        if self.fact(i).shape is None:
            self.fresh(size)
            raise Barrier("has an input of unknown shape")

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

    def count(self, name: str, labels: Labels, shape: Sequence[int], axis: int) -> None:
        """Records that the attribute `name` is the size of a value of the node's own making.

        Costs are told its new size, and the cut node gets it.
        """
        if labels:
            counts = self.trace.counts.setdefault(self.node, [])
            counts.append(Count(name, labels, tuple(shape), axis))

    def statistics(
        self,
        axes: Iterable[int],
        why: str,
        *,
        of: Labels | None = None,
        params: Mapping[int, int] | None = None,
        outputs: Sequence[int] = (0,),
    ) -> Labels:
        """Labels of input 0, or of what the node makes of it, behind statistics along `axes`.

        Such axes stay whole, because of `why`; rows of a ragged factor go whole, which changes no
        statistics. Where norms may be crossed, plain axes shrink all the same.

        Args:
            axes: The axes.
            why: The reason for pins.
            of: Labels of what the node puts together of `params`; by default those of input 0.
            params: Inputs that are read by channel → how many axes they lack in front.
            outputs: Outputs that have the axes; the others have lost them.
        """
        labels = self.labels(0) if of is None else of
        shifts = {**({0: 0} if of is None else {}), **(params or {})}
        for axis in axes:
            found = on_axis(labels, axis)
            if not self.trace.freedom.across_norms or found is None or len(found.order) > 1:
                labels = self.atoms.blend(labels, axis, why)
                continue
            reads = tuple(
                (i, axis - shift)
                for i, shift in shifts.items()
                if axis >= shift and self.has(i) and self.shape(i)[axis - shift] > 1
            )
            gives = tuple((out, axis) for out in outputs)
            if not outputs:
                labels = tuple(f for f in labels if f is not found)
            self.trace.norms.append(Norm(self.node, found.ids.ravel(), reads, gives))
        return labels

    def rows(self, factor: Factor) -> Factor:
        """A factor whose last axis was split off just now, as heads are from channels.

        Every row keeps an equal count; where the user wants rows dropped, all of a row goes.
        """
        self.atoms.box(factor)
        place = (self.node, self._splits)
        self._splits += 1
        self.trace.splits.append(Split(place, factor))
        return (
            self.atoms.tie_along(factor, factor.order[-1]) if place in self.trace.drop else factor
        )
