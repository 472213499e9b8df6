"""Normalisations, softmax, and local response normalisation.

A statistic taken over the channel axis changes when channels go, so such an axis is pinned unless
norms may be crossed (`Freedom.across_norms`); the statistics are then those of the kept channels.
There are exceptions. Whole groups of a group norm may go. And where a removed channel counts as
zero, nothing changes: in an Lp norm, and in its neighbours' windows in LRN, which the cut graph
spells out (see `_lrn_repair`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.ops.examples import at_opset, between_convs, between_gemms
from edgec.ops.labels import line_labels
from edgec.ops.meet import adopt
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule, like_input, per_output
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Cost, Fact, View, product

STATISTICS = "statistics are taken across these channels"


def _batch_norm(n: LabelContext) -> None:
    """Axis 1 is normalised per channel; in training, by statistics over all other axes."""
    labels, rank = n.labels(0), len(n.shape(0))
    if n.attr("training_mode", 0) or len(n.node.outputs) > 1:
        labels = n.statistics([0, *range(2, rank)], STATISTICS)
    x = n.atoms.line(labels, 1)
    for i in range(1, len(n.node.inputs)):
        n.use_line(i, x)
    rest = tuple(f for f in labels if 1 not in f.order)
    n.give(rest + line_labels(x, 1, rank))
    for out in range(1, len(n.node.outputs)):
        n.give(line_labels(x, 0, 1), out)


def _instance_norm(n: LabelContext) -> None:
    labels = n.statistics(range(2, len(n.shape(0))), STATISTICS)
    x = n.atoms.line(labels, 1)
    for i in (1, 2):
        n.use_line(i, x)
    rest = tuple(f for f in labels if 1 not in f.order)
    n.give(rest + line_labels(x, 1, len(n.shape(0))))


def _layer_norm(n: LabelContext) -> None:
    rank = len(n.shape(0))
    axes, params = range(n.axis("axis", -1), rank), [i for i in (1, 2) if n.has(i)]
    if not all(n.is_param(i) for i in params):
        labels = n.whole(axes, STATISTICS)
    else:
        shifts = {i: rank - len(n.shape(i)) for i in params}
        labels = n.statistics(axes, STATISTICS, params=shifts)
        for i in params:
            labels = adopt(n, i, labels, rank)
    n.give(labels)
    for out in range(1, len(n.node.outputs)):  # mean and deviation have lost these axes
        n.give(tuple(f for f in labels if not set(f.order) & set(axes)), out)


def _layer_norm_facts(n: View) -> list[Fact]:
    """The result, and per token its mean and inverse deviation."""
    x, rank = n.fact(0), len(n.shape(0))
    axis = n.axis("axis", -1)
    moments = Fact(x.dtype, (*n.shape(0)[:axis], *[1] * (rank - axis)))
    return [Fact(x.dtype, x.shape), *[moments] * (len(n.y) - 1)]


def _group_norm(n: LabelContext) -> None:
    """A group is normalised by itself, so whole groups may go: each becomes one unit."""
    groups = int(n.attr("num_groups"))
    x = n.only(0, 1, STATISTICS)
    if groups == 1:
        x = n.atoms.line(n.statistics([1], STATISTICS, params={1: 1, 2: 1}), 1)
        for i in (1, 2):
            n.use_line(i, x)
    elif x is not None:
        rows = x.reshape(groups, -1)
        n.atoms.unite(rows, rows[:, :1])
        for i in (1, 2):  # before opset 21 one entry a group, from then on one a channel
            n.use_line(i, rows[:, 0] if n.shape(i)[0] == groups else x)
    n.give_line(x, 1)


def _group_norm_repair(n: RepairContext) -> None:
    groups, channels = int(n.attr("num_groups")), n.shape(0)[1]
    if groups > 1:  # whole groups went; a single one has lost channels
        n.set_int("num_groups", n.new_shape(0)[1] * groups // channels)


def _lp_norm(n: LabelContext) -> None:
    """A removed channel counts as zero, and adds nothing to the norm of the others."""
    axis = n.axis()
    mixed = tuple(f for f in n.labels(0) if f.order == (axis,))
    n.mix(0, mixed)
    n.give(n.labels(0) if mixed else n.whole([axis], STATISTICS))


def _mean_variance_norm(n: LabelContext) -> None:
    rank = len(n.shape(0))
    n.give(n.statistics([int(a) % rank for a in n.attr("axes", (0, 2, 3))], STATISTICS))


def _softmax(n: LabelContext) -> None:
    rank = len(n.shape(0))
    if n.opset < 13:  # older versions normalise over all axes from `axis` on
        axes = range(n.axis("axis", 1), rank)
    else:
        axis = n.axis("axis", -1)
        axes = range(axis, axis + 1)
    n.give(n.whole(axes, f"{n.node.op_type} compares these channels with each other"))


def _lrn_labels(n: LabelContext) -> None:
    x = n.only(0, 1, "is the spatial axis of LRN")
    labels = line_labels(x, 1, len(n.shape(0)))
    n.mix(0, labels)
    n.give(labels)


def _lrn_cost(n: View) -> Cost:
    # square, size-1 additions, scale, bias, power, division
    return Cost(0, (int(n.attr("size")) + 4) * product(n.out_shape()))


def _lrn_repair(n: RepairContext) -> None:
    """Spells LRN out over the kept channels: y = x / (bias + alpha/size · Σ x²)^beta.

    The window of channel c is the kept ones among its original neighbours. Each neighbour offset
    is one Gather of the squares, padded by one zero channel that stands for all removed ones.
    """
    alive = n.alive(0, 1)
    if alive.all():
        return
    size, old = int(n.attr("size")), len(alive)
    kept = np.flatnonzero(alive)
    place = np.full(old, len(kept), np.int64)  # removed channels point at the zero channel
    place[kept] = np.arange(len(kept))
    x = n.node.inputs[0]
    assert x is not None
    rank = len(n.shape(0))
    new = n.insert

    def constant(value: object, dtype: object = np.float32) -> ir.Value:
        return n.constant(np.asarray(value, dtype))  # type: ignore[call-overload]

    square = new("Mul", [x, x])
    pads = np.zeros(2 * rank, np.int64)
    pads[rank + 1] = 1
    if n.opset < 11:
        padded = new("Pad", [square], {"pads": pads.tolist()})
    else:
        padded = new("Pad", [square, n.constant(pads)])
    window = []
    for offset in range(-((size - 1) // 2), size - (size - 1) // 2):
        neighbour = kept + offset
        inside = (neighbour >= 0) & (neighbour < old)
        source = np.where(inside, place[np.clip(neighbour, 0, old - 1)], len(kept))
        window.append(new("Gather", [padded, n.constant(source)], {"axis": 1}))
    total = new("Sum", window)
    scaled = new("Mul", [total, constant(n.attr("alpha", 1e-4) / size)])
    shifted = new("Add", [scaled, constant(n.attr("bias", 1.0))])
    powered = new("Pow", [shifted, constant(n.attr("beta", 0.75))])
    n.replace_by(new("Div", [x, powered]))


RULES = (
    OpRule(
        "BatchNormalization",
        _batch_norm,
        per_output(2),
        between_convs(
            "b = BatchNormalization(a, s, t, m, v)",
            ", float[6] s, float[6] t, float[6] m, float[6] v",
        ),
    ),
    OpRule(
        "InstanceNormalization",
        _instance_norm,
        per_output(6),
        between_convs("b = InstanceNormalization(a, s, t)", ", float[6] s, float[6] t"),
    ),
    OpRule(
        "LayerNormalization",
        _layer_norm,
        per_output(6),
        between_convs(
            "n = LayerNormalization<axis=3>(a, s, t)\n  b = Relu(n)", ", float[8] s, float[8] t"
        ),
        infer=_layer_norm_facts,  # ONNX Runtime writes it into models older than its opset, 17
    ),
    OpRule(
        "RMSNormalization",
        _layer_norm,
        per_output(4),
        at_opset(between_convs("b = RMSNormalization<axis=3>(a, s)", ", float[8] s"), 23),
    ),
    OpRule(  # what ONNX Runtime calls RMSNormalization, in ONNX's domain
        "SimplifiedLayerNormalization",
        _layer_norm,
        per_output(4),
        between_convs(
            "b = SimplifiedLayerNormalization<axis=3>(a, s)",
            ", float[8] s",
            result="float[2,4,8,8] y",
        ),
        infer=_layer_norm_facts,
    ),
    OpRule(
        "MeanVarianceNormalization",
        _mean_variance_norm,
        per_output(4),
        between_convs("b = MeanVarianceNormalization<axes=[0,2,3]>(a)"),
        infer=like_input,  # ONNX's own stumbles over the default of `axes`
    ),
    OpRule(
        "LpNormalization",
        _lp_norm,
        per_output(3),
        between_convs("b = LpNormalization<axis=1>(a)"),
    ),
    OpRule(
        "GroupNormalization",
        _group_norm,
        per_output(6),
        between_convs(
            "b = GroupNormalization<num_groups=3>(a, s, t)",
            ", float[6] s, float[6] t, float[2,6,8,8] b",
        ),
        _group_norm_repair,
    ),
    OpRule("LRN", _lrn_labels, _lrn_cost, between_convs("b = LRN<size=3>(a)"), _lrn_repair),
    *(
        OpRule(op, _softmax, per_output(5), between_gemms(f"b = {op}<axis=0>(a)"))
        for op in ("Softmax", "LogSoftmax", "Hardmax")
    ),
)
