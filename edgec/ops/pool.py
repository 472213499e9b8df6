"""Pooling, resizing and reductions: spatial axes are mixed, channels pass."""

from __future__ import annotations

from collections.abc import Callable

from edgec.ops.examples import HEADER, between_convs
from edgec.ops.labels import Labels, rename_axes
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule, per_input, per_output
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Cost, View, product

_POOLED = "is pooled along this axis"
# A removed channel adds nothing to these; the others would need to know how many went.
_ADDITIVE = {"ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"}


def _pool(n: LabelContext) -> None:
    labels = n.whole(range(2, len(n.shape(0))), _POOLED)
    n.give(labels)
    for out, indices in enumerate(n.node.outputs[1:], 1):
        n.give(labels, out)
        if indices.uses() or indices.is_graph_output():
            n.atoms.pin_all(labels, "is pooled with indices, which count its channels")


def _pool_cost(n: View) -> Cost:
    return Cost(0, product(n.out_shape()) * product(n.attr("kernel_shape", [1])))


def _axes(n: View) -> list[int]:
    rank = len(n.shape(0))
    axes = n.ints("axes", 1)
    if not axes:
        axes = [] if n.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [a + rank if a < 0 else a for a in axes]


def _reduce(n: LabelContext) -> None:
    axes, labels, rank = _axes(n), n.labels(0), len(n.shape(0))
    why = f"{n.node.op_type} counts these channels"
    if n.node.op_type in _ADDITIVE:
        n.mix(0, tuple(f for f in labels if len(f.order) == 1 and f.order[0] in axes))
        labels = tuple(f for f in labels if len(f.order) > 1 or f.order[0] not in axes)
    elif n.node.op_type == "ReduceMean":
        labels = n.statistics(axes, why, outputs=())
    for axis in axes:
        labels = n.atoms.blend(labels, axis, why)
    n.give(labels if n.attr("keepdims", 1) else _drop_axes(labels, axes, rank))


def _drop_axes(labels: Labels, axes: list[int], rank: int) -> Labels:
    left = [a for a in range(rank) if a not in axes]
    return rename_axes(labels, left.index, len(left))


def _arg(n: LabelContext) -> None:
    axis, rank = n.axis(), len(n.shape(0))
    labels = n.atoms.blend(n.labels(0), axis, f"{n.node.op_type} returns the index of a channel")
    n.give(labels if n.attr("keepdims", 1) else _drop_axes(labels, [axis], rank))


def _cumulate(n: LabelContext) -> None:
    axis = n.const(1)
    rank = len(n.shape(0))
    axes = range(rank) if axis is None else [int(axis.ravel()[0]) % rank]
    n.give(n.whole(axes, "is accumulated along this axis"))


def _resize(n: LabelContext) -> None:
    why = "is resized along this axis"
    n.give(n.whole((a for a in range(len(n.shape(0))) if not _stays(n, a)), why))


def _stays(n: View, axis: int) -> bool:
    """Whether the operator leaves an axis as it is: the scale along it is 1, and nothing is cut."""
    old, new = n.shape(0)[axis], n.out_shape()[axis]
    cropped = n.attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    if old != new or cropped or n.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        return False
    scales = n.const(1 if n.node.op_type == "Upsample" or n.opset < 11 else 2)
    if scales is None or not scales.size:
        return True  # sizes are given
    axes = [int(a) % len(n.shape(0)) for a in n.attr("axes", range(scales.size))]
    return axis not in axes or float(scales.ravel()[axes.index(axis)]) == 1.0


def sized_repair(i: int) -> Callable[[RepairContext], None]:
    """Writes the sizes that changed into the shape vector at input `i`; it may name `axes`."""

    def repair(n: RepairContext) -> None:
        old, new = n.out_shape(), n.new_out_shape()
        if n.const(i) is not None and new != old:
            axes = n.attr("axes", range(len(new)))
            n.set_dims(i, [None if old[a] == new[a] else new[a] for a in axes])

    return repair


RULES = (
    *(
        OpRule(op, _pool, _pool_cost, between_convs(f"b = {op}<kernel_shape=[2,2]>(a)"))
        for op in ("MaxPool", "AveragePool", "LpPool")
    ),
    *(
        OpRule(op, _pool, per_input(), between_convs(f"b = {op}(a)"))
        for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    ),
    *(
        OpRule(
            op,
            _reduce,
            per_input(),
            between_convs(f"r = Abs(a)\n  b = {op}(r, axes)", ", int64[2] axes = {2, 3}"),
        )
        for op in (
            "ReduceMean",
            "ReduceSum",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSum",
            "ReduceLogSumExp",
        )
    ),
    *(
        OpRule(
            op,
            _arg,
            per_input(),
            between_convs(f"i = {op}<axis=2>(a)\n  f = Cast<to=1>(i)\n  b = Mul(a, f)"),
        )
        for op in ("ArgMax", "ArgMin")
    ),
    OpRule(
        "CumSum",
        _cumulate,
        per_output(),
        between_convs("b = CumSum(a, axis)", ", int64 axis = {2}"),
    ),
    OpRule(
        "Resize",
        _resize,
        per_output(4),
        HEADER + "example (float[1,3,4,4] x) => (y)\n"
        "<float[6,3,1,1] w1, float[4,6,1,1] w2, int64[4] sizes = {1,6,8,8}>\n"
        '{ a = Conv(x, w1)  b = Resize<mode="nearest">(a, , , sizes)  y = Conv(b, w2) }',
        sized_repair(3),
    ),
    OpRule(
        "Upsample",
        _resize,
        per_output(4),
        '<ir_version: 4, opset_import: ["" : 9]>\n'
        "example (float[1,3,4,4] x) => (float[1,4,8,8] y)\n"
        "<float[6,3,1,1] w1, float[4,6,1,1] w2, float[4] scales = {1.0,1.0,2.0,2.0}>\n"
        '{ a = Conv(x, w1)  b = Upsample<mode="nearest">(a, scales)  y = Conv(b, w2) }',
    ),
)
