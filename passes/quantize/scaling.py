"""Which channels can be scaled without changing what the network computes, and by whom.

Scaling channel c of a value by t > 0 is made where every node that gives it is a product by a
constant weight (its slices for c are multiplied by t), and undone where every node that reads it is
one (its slices are divided by t). Between them the scale passes through whatever is *positively
homogeneous* in each channel, f(t·x) = t·f(x): ReLU, pooling, sums, concatenations, reshapes.

Channel groups (`edgec.graph.channels`) say which channel of a node's output comes from which
channel of its inputs: they are of one unit. Here every value has a copy of its units of its own.
Copies are united where a homogeneous node ties them, and pinned at t = 1 where any other node reads
or makes them. So both sides of a depthwise convolution have scales of their own, a residual sum has
one for all its branches, and a chain of two layers is the special case of one maker and one reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgec.calibration.moments import channel_axis, weighted_layers
from edgec.graph.channels import ChannelGroups
from edgec.graph.trace import captured, title
from edgec.ops.labels import Atoms, Ids, Labels, on_axis
from edgec.passes.repair.layers import is_norm, read, write

Floats = NDArray[np.float64]

_FIRST = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Abs", "Neg", "Identity", "Dropout", "MaxPool", "AveragePool",
    "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Flatten", "Reshape",
    "Transpose", "Squeeze", "Unsqueeze", "Expand", "Tile", "Slice", "Split", "Gather",
    "DepthToSpace", "SpaceToDepth", "Upsample", "ReduceMean", "ReduceSum", "ReduceMax",
    "ReduceMin", "ReduceL1", "ReduceL2",
})  # fmt: skip
"""Homogeneous in the first input; all others are options, or multiply it."""
_ALL = frozenset({"Add", "Sub", "Sum", "Mean", "Max", "Min", "Concat"})
"""Homogeneous in all inputs together."""
_SIZES = frozenset({"Shape", "Size"})
"""Do not look at what they read."""
_NORMS = {
    "BatchNormalization": 1, "InstanceNormalization": 1, "GroupNormalization": 1,
    "LayerNormalization": -1,
}  # fmt: skip
"""The axis of the channels."""
_ENDLESS = float(np.finfo(np.float16).max)  # a Clip there clips nothing


@dataclass(frozen=True)
class Product:
    """A layer whose weight makes and undoes scales.

    Attributes:
        node: A Conv, ConvTranspose, Gemm or MatMul with a constant weight.
        reads: int64[input channels], the class of each; 0 is never scaled.
        makes: int64[output channels].
        why: Why no channel that it reads can be scaled; empty if one can.
    """

    node: ir.Node
    reads: Ids
    makes: Ids
    why: str = ""

    @property
    def groups(self) -> int:
        """Groups of a convolution, else 1."""
        return self.node.attributes.get_int("group", 1)

    def blocks(self, weight: Floats) -> Floats:
        """A view of a C-contiguous weight as [groups, outputs, inputs, taps]."""
        op, g = self.node.op_type, self.groups
        if op == "Conv":
            return weight.reshape(g, weight.shape[0] // g, weight.shape[1], -1)
        if op == "ConvTranspose":
            rows = weight.reshape(g, weight.shape[0] // g, weight.shape[1], -1)
            return rows.swapaxes(1, 2)
        by_rows = op == "Gemm" and self.node.attributes.get_int("transB", 0) == 1
        return (weight if by_rows else weight.T)[None, :, :, None]

    def scale(self, factor: Floats) -> None:
        """Scales weight and bias; `factor` is float64[classes], that of every class."""
        made, undone = factor[self.makes], factor[self.reads]
        if (made == 1).all() and (undone == 1).all():
            return
        weight = np.array(read(self.node, 1), np.float64, order="C")
        blocks = self.blocks(weight)
        blocks *= made.reshape(self.groups, -1, 1, 1) / undone.reshape(self.groups, 1, -1, 1)
        write(self.node, 1, weight)
        if len(self.node.inputs) > 2 and self.node.inputs[2] is not None:
            write(self.node, 2, read(self.node, 2) * made)


@dataclass(frozen=True)
class Norm:
    """A norm, whose scale and shift per channel make scales; that of a batch norm undoes them too.

    Attributes:
        node: The node, its parameters constant.
        reads: int64[channels], the class of each; 0 is never scaled.
        makes: int64[channels].
    """

    node: ir.Node
    reads: Ids
    makes: Ids

    def scale(self, factor: Floats) -> None:
        """y = γ (x − μ) / σ + β  ⟶  γ' = γ·t_y / t_x, β' = β·t_y, μ' = μ·t_x; σ stays."""
        made, undone = factor[self.makes], factor[self.reads]
        if (made == 1).all() and (undone == 1).all():
            return
        write(self.node, 1, read(self.node, 1) * (made / undone))
        if len(self.node.inputs) > 2 and self.node.inputs[2] is not None:
            write(self.node, 2, read(self.node, 2) * made)
        if self.node.op_type == "BatchNormalization":
            write(self.node, 3, read(self.node, 3) * undone)


@dataclass(frozen=True)
class Constant:
    """A constant that meets scaled channels in a sum or a concatenation, and is scaled with them.

    Attributes:
        node: Who reads it.
        index: At which input.
        classes: Arrays of classes that broadcast with it; its elements are scaled by them all.
    """

    node: ir.Node
    index: int
    classes: tuple[Ids, ...]

    def scale(self, factor: Floats) -> None:
        """Scales it; `factor` is float64[classes], that of every class."""
        scaled = read(self.node, self.index).astype(np.float64)
        for ids in self.classes:
            scaled = scaled * factor[ids]
        write(self.node, self.index, scaled)


@dataclass(frozen=True)
class Scaling:
    """What can be scaled.

    Attributes:
        products: The layers, in the order of the graph.
        norms: The norms.
        constants: Constants that are scaled with what they meet.
        count: Number of classes, that of the channels that are never scaled (0) among them.
    """

    products: tuple[Product, ...]
    norms: tuple[Norm, ...]
    constants: tuple[Constant, ...]
    count: int

    def apply(self, factor: Floats) -> None:
        """Multiplies the channels of every class by float64[classes] > 0; [0] is 1."""
        parts: tuple[Product | Norm | Constant, ...] = (
            *self.products, *self.norms, *self.constants,
        )  # fmt: skip
        for part in parts:
            part.scale(factor)


def scaling_of(groups: ChannelGroups) -> Scaling:
    """Analyses a model for scales."""
    return _Walk(groups).result()


class _Walk:
    def __init__(self, groups: ChannelGroups) -> None:
        self.groups = groups
        self.atoms = Atoms()
        self.copies: dict[ir.Value, tuple[Ids, Ids]] = {}
        self.layers = {node for node in weighted_layers(groups.model) if _takes_scales(node)}
        self.sides: list[tuple[ir.Node, Ids, Ids]] = []
        self.norms: list[tuple[ir.Node, Ids, Ids]] = []
        self.constants: list[tuple[ir.Node, int, tuple[Ids, ...]]] = []
        self.gates: list[ir.Node] = []
        self.made: set[ir.Value] = set()  # from constants alone
        self.uses = {(use.node, use.index): use.labels for use in groups.trace.uses}

    def result(self) -> Scaling:
        graph = self.groups.model.graph
        for value in (*graph.inputs, *graph.outputs):
            self.pin(value, "is an input or output of the graph")
        for node in graph:
            self.atoms.here = title(node)
            self.visit(node)
        self.open_gates()
        roots = self.atoms.find(np.arange(len(self.atoms)))
        why = self.reasons()
        roots[np.isin(roots, list(why))] = 0
        number = np.unique(roots, return_inverse=True)[1].astype(np.int64)
        products = [
            Product(node, number[x], number[y], "" if number[x].any() else self.reason(x, why))
            for node, x, y in self.sides
        ]
        norms = [Norm(node, number[x], number[y]) for node, x, y in self.norms]
        constants = [
            Constant(node, index, tuple(number[ids] for ids in classes))
            for node, index, classes in self.constants
        ]
        live = (c for c in constants if any(ids.any() for ids in c.classes))
        return Scaling(tuple(products), tuple(norms), tuple(live), int(number.max()) + 1)

    def reasons(self) -> dict[int, str]:
        """Root of each pinned class → the first reason."""
        pins = self.atoms.pins
        number = np.repeat(np.arange(len(pins)), [len(pin.ids) for pin in pins])
        roots, first = np.unique(self.pinned(), return_index=True)
        said = [pins[i] for i in number[first]]
        text = [f"{pin.where}: {pin.why}" if pin.where else pin.why for pin in said]
        return dict(zip(roots.tolist(), text, strict=True))

    def pinned(self) -> Ids:
        """The root of everything that is pinned, pin by pin."""
        return self.atoms.find(np.concatenate([_NONE, *(pin.ids for pin in self.atoms.pins)]))

    def reason(self, ids: Ids, why: dict[int, str]) -> str:
        roots = self.atoms.find(ids[ids > 0])
        return why[int(roots[0])] if roots.size else "its channels cannot be told apart"

    # --- one node ---

    def visit(self, node: ir.Node) -> None:
        for value in captured(node):
            self.pin(value, "is read by a nested graph")
        if node.inputs and not self.varying(node):
            self.made.update(node.outputs)
        if node in self.layers:
            x, y, axis = node.inputs[0], node.outputs[0], channel_axis(node)
            assert x is not None
            self.sides.append((node, self.line(x, axis), self.line(y, axis)))
        elif _has_own_scale(node):
            self.visit_norm(node)
        elif node.op_type == "Mul" and len(self.varying(node)) == 2:
            self.gates.append(node)
        elif node.op_type not in _SIZES:
            scaled = _scaled_inputs(node)
            self.meet(node, self.varying(node) if node.op_type == "Mul" else scaled)

    def varying(self, node: ir.Node) -> list[int]:
        """The inputs of a node that are not made from constants alone."""
        return [
            i
            for i, value in enumerate(node.inputs)
            if value is not None and value.const_value is None and value not in self.made
        ]

    def visit_norm(self, node: ir.Node) -> None:
        x, y, axis = node.inputs[0], node.outputs[0], _NORMS[node.op_type]
        assert x is not None
        makes = self.line(y, axis)
        if node.op_type == "BatchNormalization":
            reads = self.line(x, axis)
        else:
            self.pin(x, "is normalised here")
            reads = np.zeros_like(makes)
        self.norms.append((node, reads, makes))

    def meet(self, node: ir.Node, scaled: Sequence[int]) -> None:
        """Unites the outputs with the inputs `scaled`; pins what has no partner, and all else."""
        outputs = node.outputs if node.op_type == "Split" else node.outputs[:1]
        if not scaled:
            outputs = ()
            for made in node.outputs:
                self.pin(made, "does not scale with its input")
        known = [_NONE]
        for i, value in enumerate(node.inputs):
            if value is None:
                continue
            if value.const_value is None and i not in scaled:
                self.pin(value, "is no input to be scaled")
            elif value.const_value is None:
                self.unite(value, outputs, every=node.op_type in _ALL - {"Concat"})
                known.append(self.of(value)[0])
            elif i in scaled:
                known.append(self.adopt(node, i))
        units = np.concatenate(known)
        for made in outputs:
            self.pin(made, "is made here", np.setdiff1d(self.of(made)[0], units))

    def unite(self, x: ir.Value, outputs: Iterable[ir.Value], *, every: bool) -> None:
        """Unites an input with the outputs; pins what only it has, with `every` what it lacks."""
        units, ids = self.of(x)
        alone = np.ones(len(units), bool)
        for y in outputs:
            theirs, others = self.of(y)
            _, mine, other = np.intersect1d(units, theirs, True, return_indices=True)
            self.atoms.unite(ids[mine], others[other])
            alone[mine] = False
            if every:
                self.pin(y, "meets what has no such channels", np.setdiff1d(theirs, units))
        self.atoms.pin(ids[alone], "is mixed or ends here")

    def adopt(self, node: ir.Node, index: int) -> Ids:
        """Scales a constant along with the output; the units that it has."""
        y = node.outputs[0]
        units, ids = self.of(y)
        if not read(node, index).any():
            return units
        labels: Labels = self.uses.get((node, index), ())
        own = [self.groups.unit_of[factor.ids] for factor in labels]
        known = np.unique(np.concatenate([u.ravel() for u in own] or [_NONE]))
        if node.op_type != "Concat":
            self.pin(y, "meets a constant without such channels", np.setdiff1d(units, known))
        if units.size:
            places = (np.searchsorted(units, u).clip(max=units.size - 1) for u in own)
            classes = [np.where(units[p] == u, ids[p], 0) for p, u in zip(places, own, strict=True)]
            self.constants.append((node, index, tuple(classes)))
        return known

    def open_gates(self) -> None:
        """A product of two activations scales with one of them where the other is pinned."""
        while self.gates:
            pinned = np.unique(self.pinned())
            held = {
                gate: [
                    np.isin(self.atoms.find(self.of(v)[1]), pinned).all() for v in gate.inputs if v
                ]
                for gate in self.gates
            }
            ready = [gate for gate in self.gates if any(held[gate])]
            for gate in ready or self.gates[:1]:  # neither is pinned: then the second is
                self.gates.remove(gate)
                self.atoms.here = title(gate)
                square = gate.inputs[0] is gate.inputs[1]
                self.meet(gate, () if square else (1,) if held[gate][0] else (0,))

    # --- copies of units ---

    def of(self, value: ir.Value) -> tuple[Ids, Ids]:
        """The units of a value, in order, and its copies of them."""
        if value not in self.copies:
            labels = self.groups.trace.labels.get(value, ())
            found = [self.groups.unit_of[factor.ids].ravel() for factor in labels]
            units = np.unique(np.concatenate(found or [_NONE]))
            ids = self.atoms.fresh(len(units), value.name or "")
            self.copies[value] = units, ids
            self.atoms.pin(ids[units == 0], "is fixed")
        return self.copies[value]

    def line(self, value: ir.Value, axis: int) -> Ids:
        """The copies along the channel axis of a value; 0 where it has none. Pins all others."""
        labels = self.groups.trace.labels.get(value, ())
        shape = self.groups.facts[value].shape
        assert shape is not None
        own = on_axis(labels, axis % len(shape))
        units, ids = self.of(value)
        for factor in labels:
            if factor is not own or len(factor.order) > 1:
                self.pin(value, "lies along another axis", self.groups.unit_of[factor.ids].ravel())
        if own is None or len(own.order) > 1:
            return np.zeros(shape[axis], np.int64)
        return ids[np.searchsorted(units, self.groups.unit_of[own.ids].ravel())]

    def pin(self, value: ir.Value, why: str, units: Ids | None = None) -> None:
        """Pins units of a value, all if none are named."""
        own, ids = self.of(value)
        self.atoms.pin(ids if units is None else ids[np.isin(own, units)], why)


_NONE = np.zeros(0, np.int64)


def _takes_scales(node: ir.Node) -> bool:
    """Whether scales of input and output can go into the layer's own weight and bias."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert weight is not None
    assert weight.const_value is not None
    return (
        len(weight.uses()) == 1
        and not weight.is_graph_output()
        and (node.op_type != "MatMul" or len(weight.const_value.shape) == 2)
        and not node.attributes.get_int("transA", 0)
        and (bias is None or bias.const_value is not None)
    )


def _has_own_scale(node: ir.Node) -> bool:
    """Whether the node is a norm with a constant scale for every channel."""
    if node.op_type not in _NORMS or node.domain or len(node.outputs) > 1:
        return False
    if node.op_type == "BatchNormalization":
        return is_norm(node)
    x, scale = node.inputs[0], node.inputs[1]
    if x is None or x.shape is None or any(v and v.const_value is None for v in node.inputs[1:]):
        return False
    axis, size = _NORMS[node.op_type], scale.shape if scale is not None else None
    last = node.attributes.get_int("axis", -1) in (-1, len(x.shape) - 1)
    return size is not None and len(size) == 1 and size[0] == x.shape[axis] and (axis == 1 or last)


def _scaled_inputs(node: ir.Node) -> Sequence[int]:
    """The inputs of a node that, scaled together, scale its output alike."""
    if node.domain:
        return ()
    if node.op_type in _ALL:
        return range(len(node.inputs))
    if node.op_type in _FIRST or node.op_type == "Div":
        return (0,)
    if node.op_type == "Where":
        return (1, 2)
    if node.op_type == "Clip":
        return (0,) if clip_ends(node) in {(0.0, np.inf), (-np.inf, 0.0)} else ()
    if node.op_type == "Pad":
        constant = node.attributes.get_string("mode", "constant") == "constant"
        value = node.inputs[2] if len(node.inputs) > 2 else None
        none = value is None or (value.const_value is not None and not read(node, 2).any())
        zero = none and node.attributes.get_float("value", 0.0) == 0
        return (0,) if zero or not constant else ()
    if node.op_type == "Resize":
        mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
        return () if mode == "tf_crop_and_resize" else (0,)
    return ()


def clip_ends(node: ir.Node) -> tuple[float, float] | None:
    """The least and the greatest value that a Clip lets through; None if they are computed."""
    ends = [node.attributes.get_float("min", -np.inf), node.attributes.get_float("max", np.inf)]
    for i, value in enumerate(node.inputs[1:3], 1):
        if value is not None:
            if value.const_value is None:
                return None
            ends[i - 1] = float(read(node, i))
    low, high = ends
    return (low if low > -_ENDLESS else -np.inf), (high if high < _ENDLESS else np.inf)
