"""Operators that only rearrange: the label array takes the same way as the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from edgec.ops.examples import HEADER, between_convs, between_gemms
from edgec.ops.labels import Labels, along, index, rename_axes, reshape
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule, free, silent
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier


def reshaped(
    n: LabelContext, labels: Labels, before: Sequence[int], after: Sequence[int]
) -> Labels:
    """Labels in another shape; axes that are split off have rows."""
    split = max((len(f.order) for f in labels), default=1)
    moved = reshape(n.atoms, labels, before, after)
    return tuple(n.rows(f) if len(f.order) > split else f for f in moved)


def _reshape(n: LabelContext) -> None:
    n.give(reshaped(n, n.labels(0), n.shape(0), n.out_shape()))


def _reshape_repair(n: RepairContext) -> None:
    """Entries 0 (copy) and -1 (infer) stay where they are still right; others are the new sizes."""
    target = n.const(1)
    if n.new_out_shape() == n.out_shape() and n.new_shape(0) == n.shape(0):
        return
    if target is None:
        raise Barrier("computes its shape at run time")
    old_in, new_in, old, new = n.shape(0), n.new_shape(0), n.out_shape(), n.new_out_shape()
    copies = not n.attr("allowzero", 0)
    sizes: list[int | None] = []
    for axis, entry in enumerate(target.ravel().tolist()):
        copied = copies and entry == 0
        if (
            (copied and axis < len(old_in) and new_in[axis] == new[axis])
            or entry == -1
            or (not copied and old[axis] == new[axis])
        ):
            sizes.append(None)
        else:
            sizes.append(new[axis])
    n.set_dims(1, sizes)


def _transpose(n: LabelContext) -> None:
    rank = len(n.shape(0))
    perm = [int(a) for a in n.attr("perm", range(rank - 1, -1, -1))]
    n.give(rename_axes(n.labels(0), perm.index, rank))


def _expand(n: LabelContext) -> None:
    rank = len(n.out_shape())
    shift = rank - len(n.shape(0))
    own = (1,) * shift + tuple(n.shape(0))
    labels = rename_axes(n.labels(0), lambda a: a + shift, rank)
    repeated = [a for a in range(rank) if own[a] == 1]
    n.give(labels + _repeats(n, 1, repeated, makes=n.is_param(0)))


def _constant_of_shape(n: LabelContext) -> None:
    n.give(_repeats(n, 0, range(len(n.out_shape())), makes=True))


def _repeats(n: LabelContext, i: int, axes: Iterable[int], makes: bool) -> Labels:
    """Labels of axes along which a value is repeated, as often as the shape at input `i` says.

    Where that is the size of another value (zeros_like), they go with its channels. A constant
    (`makes`) that is repeated a number of times that the graph spells out, as an initial state is,
    has channels of its own: any number will do.
    """
    dtype, rank = n.y[0].dtype, len(n.out_shape())
    shift = rank - n.shape(i)[0]
    axes = [a for a in axes if a >= shift and n.out_shape()[a] > 1]
    like: dict[ir.Value, dict[int, int]] = {}
    for axis in axes:
        found = n.sized_by(i, axis - shift)
        if found is not None:
            like.setdefault(found[0], {}).setdefault(found[1], axis)
    labels: Labels = ()
    for value, place in like.items():
        own = n.trace.labels.get(value, ())
        whole = tuple(f for f in own if set(f.order) <= place.keys())
        labels += rename_axes(whole, place.__getitem__, rank)
    if makes and dtype is not None and dtype.is_floating_point():
        spelt = [a for a in axes if n.settled(i, a - shift)]
        labels += tuple(along(n.fresh(n.out_shape()[a]), a, rank) for a in spelt)
    return labels


def _expand_repair(n: RepairContext) -> None:
    _resize(n, 1)


def _constant_of_shape_repair(n: RepairContext) -> None:
    _resize(n, 0)


def _resize(n: RepairContext, i: int) -> None:
    """Writes the new sizes into the shape at input `i`, except where it says 1 (any size)."""
    target = n.const(i)
    old, new = n.out_shape(), n.new_out_shape()
    if target is None or old == new:
        return
    shift = len(old) - target.size
    n.set_dims(
        i,
        [
            None if entry == 1 or old[axis + shift] == new[axis + shift] else new[axis + shift]
            for axis, entry in enumerate(target.ravel().tolist())
        ],
    )


def _tile(n: LabelContext) -> None:
    repeats = n.const(1)
    if repeats is None:
        raise Barrier("computes its repeats at run time")
    labels: Labels = n.labels(0)
    for axis, times in enumerate(repeats.ravel().tolist()):
        if times != 1:
            reps = [1] * len(n.shape(0))
            reps[axis] = int(times)
            labels = index(labels, axis, lambda ids, r=tuple(reps): np.tile(ids, r))  # type: ignore[misc]
    n.give(labels)


def _whole_pixels(n: LabelContext, labels: Labels) -> None:
    """Channels that were dealt out over space go together."""
    for axis in (2, 3):
        labels = n.atoms.fix(labels, axis, "is spread over space")
    n.give_line(n.atoms.line(labels, 1), 1)


def _depth_to_space(n: LabelContext) -> None:
    batch, channels, height, width = n.shape(0)
    b = int(n.attr("blocksize"))
    c = channels // (b * b)
    if n.attr("mode", "DCR") == "DCR":
        split, perm = (batch, b, b, c, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (batch, c, b, b, height, width), (0, 1, 4, 2, 5, 3)
    labels = reshape(n.atoms, n.labels(0), n.shape(0), split)
    labels = rename_axes(labels, perm.index, 6)
    labels = reshape(n.atoms, labels, [split[a] for a in perm], n.out_shape())
    _whole_pixels(n, labels)


def _space_to_depth(n: LabelContext) -> None:
    b = int(n.attr("blocksize"))
    x = n.only(0, 1, "is spread over channels")
    n.give_line(None if x is None else np.tile(x, b * b), 1)


def _shape_repair(n: RepairContext) -> None:
    """Sizes that shrink keep their old numbers: the graph computes with them as it did.

    Whatever uses them as a shape is repaired itself; whatever uses them as numbers must not
    notice the cut. Sizes that do not shrink may be symbolic, and are still read.
    """
    old, new = np.asarray(n.shape(0), np.int64), np.asarray(n.new_shape(0), np.int64)
    part = slice(int(n.attr("start", 0)), int(n.attr("end", len(old))))
    old, shrinks = old[part], (old != new)[part]
    tensor = n.node.inputs[0]
    if tensor is not None and shrinks.any():
        read = n.insert("Shape", [tensor], {"start": part.start, "end": part.stop})
        n.replace_by(n.insert("Where", [n.constant(shrinks), n.constant(old), read]))


def _size(n: LabelContext) -> None:
    n.atoms.pin_all(n.labels(0), "its elements are counted")


def _flat(text: str, weights: str) -> str:
    return (
        HEADER + "example (float[2,3,4,4] x) => (y)\n"
        f"<float[6,3,1,1] w1, float[96,5] w2{weights}>\n"
        f"{{ a = Conv(x, w1)  {text}  y = Gemm(b, w2) }}"
    )


RULES = (
    OpRule(
        "Reshape",
        _reshape,
        free,
        _flat("b = Reshape(a, shape)", ", int64[2] shape = {0, 96}"),
        _reshape_repair,
    ),
    OpRule("Flatten", _reshape, free, _flat("b = Flatten(a)", "")),
    OpRule(
        "Squeeze",
        _reshape,
        free,
        HEADER + "example (float[2,3,8,8] x) => (y)\n"
        "<float[6,3,1,1] w1, float[6,4] w2, int64[2] axes = {2,3}>\n"
        "{ a = Conv(x, w1)  g = GlobalAveragePool(a)  b = Squeeze(g, axes)  y = Gemm(b, w2) }",
    ),
    OpRule(
        "Unsqueeze",
        _reshape,
        free,
        HEADER + "example (float[5,6] x) => (y)\n"
        "<float[6,8] w1, float[4,8,1,1] w2, int64[2] axes = {2,3}>\n"
        "{ a = Gemm(x, w1)  b = Unsqueeze(a, axes)  y = Conv(b, w2) }",
    ),
    OpRule(
        "Transpose",
        _transpose,
        free,
        HEADER + "example (float[2,3,8,8] x) => (y)\n<float[6,3,1,1] w1, float[6,4] w2>\n"
        "{ a = Conv(x, w1)  b = Transpose<perm=[0,2,3,1]>(a)  y = MatMul(b, w2) }",
    ),
    OpRule(
        "Expand",
        _expand,
        free,
        HEADER + "example (float[2,3,8,8] x) => (y)\n"
        "<float[6,3,1,1] w1, float[4,6,1,1] w2, int64[4] shape = {2,6,8,8}>\n"
        "{ a = Conv(x, w1)  g = GlobalAveragePool(a)  b = Expand(g, shape)  y = Conv(b, w2) }",
        _expand_repair,
    ),
    OpRule(
        "Tile",
        _tile,
        free,
        between_convs("b = Tile(a, times)", ", int64[4] times = {1,2,1,1}", reads=12),
    ),
    OpRule(
        "DepthToSpace",
        _depth_to_space,
        free,
        HEADER + "example (float[2,3,4,4] x) => (y)\n<float[12,3,1,1] w1, float[4,3,1,1] w2>\n"
        '{ a = Conv(x, w1)  b = DepthToSpace<blocksize=2, mode="CRD">(a)  y = Conv(b, w2) }',
    ),
    OpRule(
        "SpaceToDepth",
        _space_to_depth,
        free,
        between_convs("b = SpaceToDepth<blocksize=2>(a)", reads=24),
    ),
    OpRule("Shape", silent, free, between_convs("s = Shape(a)\n  b = Expand(a, s)"), _shape_repair),
    OpRule(
        "Size",
        _size,
        free,
        between_convs("s = Size(a)\n  f = Cast<to=1>(s)\n  z = Sign(f)\n  b = Mul(a, z)"),
    ),
    OpRule(
        "ConstantOfShape",
        _constant_of_shape,
        free,
        HEADER + "example (float[N,6] x) => (y)\n"
        "<float[6,8] w1, float[8,4] w2, int64[1] i = {0}, int64[1] j = {1}, int64[1] k = {8}>\n"
        "{ s = Shape(x)  n = Slice(s, i, j)  t = Concat<axis=0>(n, k)\n"
        "  o = ConstantOfShape<value = float[1] {0.5}>(t)\n"
        "  a = Gemm(x, w1)  b = Sub(o, a)  c = Relu(b)  y = Gemm(c, w2) }",
        _constant_of_shape_repair,
    ),
    OpRule(
        "Constant", silent, free, between_convs("c = Constant<value_float=0.5>()\n  b = Mul(a, c)")
    ),
    OpRule(
        "Range",
        silent,
        free,
        between_gemms(
            "i = Range(p, q, r)\n  m = ReduceMax(i)\n  b = Mul(a, m)",
            ", float p = {0.0}, float q = {3.0}, float r = {1.0}",
        ),
    ),
)
