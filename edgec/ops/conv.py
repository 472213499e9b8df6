"""Convolutions.

Symbols: g groups; input channels (g, i); output channels (g, o).
    Conv           W[(g,o), i, k…]     y[(g,o)] += W[(g,o), i] · x[(g,i)]
    ConvTranspose  W[(g,i), o, k…]
A grouped convolution can lose whole groups, or an equal count of channels in every group. With
more groups than channels in a group (depthwise at the extreme) whole groups are the finer choice:
the channels of a group become one unit. Otherwise the groups stay and each keeps its own pattern.
"""

from __future__ import annotations

import numpy as np

from edgec.errors import UsageError
from edgec.ops.examples import HEADER, between_convs
from edgec.ops.labels import Factor, Ids, Labels, line_labels
from edgec.ops.linear import LONE
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Cost, View, product

_GROUPS = "is all that a group of the convolution has"
_SPATIAL = "is convolved along this axis"
_WEIGHT = "is an axis of a kernel"


def _conv_labels(n: LabelContext) -> None:
    n.give_line(convolution(n), 1)


def _conv_transpose_labels(n: LabelContext) -> None:
    n.give_line(convolution(n, transposed=True), 1)


def convolution(n: LabelContext, *, transposed: bool = False, bias: int = 2) -> Ids | None:
    """Ties input, weight and bias; the atoms of the output's channels.

    Args:
        n: A node whose inputs 0 and 1 are those of Conv.
        transposed: Whether it is a ConvTranspose.
        bias: Which input is the bias.
    """
    group = int(n.attr("group", 1))
    outputs = n.shape(1)[1] * group if transposed else n.shape(1)[0]
    n.needs_shape(0, outputs)
    channels = n.shape(0)[1]
    wanted = n.shape(1)[0] if transposed else n.shape(1)[1] * group
    if channels != wanted:  # ONNX's inference does not look at these
        raise UsageError(
            f"node '{n.node.name or n.node.op_type}'",
            f"reads {channels} channels with a weight for {wanted}",
            "the model is not valid, nothing can run it: export it again",
        )
    x = n.only(0, 1, _SPATIAL)
    i, o = channels // group, outputs // group
    rank = len(n.shape(1))
    in_axis, out_axis = (0, 1) if transposed else (1, 0)
    y: Ids | None
    if group > 1 and x is not None and (group >= max(i, o) or min(i, o) == 1):
        y = _whole_groups(n, x, group, o)
        _tie_weight(n, line_labels(x if transposed else y, 0, rank))
    elif not n.is_param(1):
        y = _computed_weight(n, x, group, in_axis, out_axis)
    elif group == 1:
        y = n.fresh(outputs)
        labels = line_labels(y, out_axis, rank) + line_labels(x, in_axis, rank)
        n.use(1, labels, reads=(in_axis,), tie=True)
    else:
        y = _equal_counts(n, x, group, i, o, rank, transposed)
    n.use_line(bias, y)
    return y


def _tie_weight(n: LabelContext, labels: Labels) -> None:
    """The weight of a convolution whose groups go as a whole: one line, along its first axis."""
    if n.is_param(1):
        n.use(1, labels, tie=True)
        return
    own = n.only(1, 0, _WEIGHT)
    for factor in labels:
        if own is None:
            n.atoms.pin(factor.ids, LONE)
        else:
            n.atoms.unite(factor.ids.ravel(), own)


def _computed_weight(
    n: LabelContext, x: Ids | None, group: int, in_axis: int, out_axis: int
) -> Ids | None:
    """A weight that is no initializer: dequantized, normalised, or made from activations.

    Its second axis lies beside all groups alike, so of these all keep the same channels.
    """
    for axis in range(len(n.shape(1))):
        if axis not in (in_axis, out_axis):
            n.atoms.fix(n.labels(1), axis, _WEIGHT)
    reads, makes = (_of_all_groups(n, axis, group) for axis in (in_axis, out_axis))
    for own in (x, makes):
        if own is not None and group > 1:
            n.atoms.rows(Factor(own.reshape(group, -1), (0, 1)), _GROUPS)
    if x is not None and reads is not None:
        n.atoms.unite(x, reads)
        n.mix(0, line_labels(x, 1, len(n.shape(0))))
    for alone in (x, reads):
        if alone is not None and (x is None or reads is None):
            n.atoms.pin(alone, LONE)
    return makes


def _of_all_groups(n: LabelContext, axis: int, group: int) -> Ids | None:
    """Atoms of a computed weight along its first or second axis, one for each channel there."""
    ids = n.line(1, axis)
    return ids if ids is None or axis == 0 else np.tile(ids, group)


def _whole_groups(n: LabelContext, x: Ids, group: int, o: int) -> Ids:
    rows = x.reshape(group, -1)
    n.atoms.unite(rows, rows[:, :1])
    return np.repeat(rows[:, 0], o)


def _equal_counts(
    n: LabelContext, x: Ids | None, group: int, i: int, o: int, rank: int, transposed: bool
) -> Ids:
    y = n.fresh(group * o)
    n.atoms.rows(Factor(y.reshape(group, o), (0, 1)), _GROUPS)
    if x is not None:
        n.atoms.rows(Factor(x.reshape(group, i), (0, 1)), _GROUPS)
    # The weight's second axis means other channels in every group: a ragged factor.
    rows, per_row, inner = (x, i, y) if transposed else (y, o, x)
    labels: Labels = line_labels(rows, 0, rank)
    if inner is not None and n.shape(1)[1] > 1:
        pattern = np.repeat(inner.reshape(group, 1, -1), per_row, axis=1)
        shape = (group * per_row, -1, *[1] * (rank - 2))
        labels += (Factor(pattern.reshape(shape), (0, 1)),)
    reads = (0,) if transposed else (1,)
    n.use(1, labels, reads=reads, tie=True)
    return y


def _deform_conv(n: LabelContext) -> None:
    """As Conv, at sampled places; an offset group is a run of channels that share their places."""
    n.keep(2, "says where another tensor is sampled")
    n.keep(4, "weighs where another tensor is sampled")
    runs, x = int(n.attr("offset_group", 1)), n.only(0, 1, _SPATIAL)
    if x is not None and runs > 1:
        n.atoms.rows(Factor(x.reshape(runs, -1), (0, 1)), "is all that an offset group has")
    n.give_line(convolution(n, bias=3), 1)


def conv_cost(n: View) -> Cost:
    weight = n.shape(1)
    return Cost(product(n.out_shape()) * product(weight[1:]), 0)


def _conv_transpose_cost(n: View) -> Cost:
    weight = n.shape(1)
    return Cost(product(n.shape(0)) * product(weight[1:]), 0)


def _set_group(n: RepairContext, channels: int, per_group: int) -> None:
    group = channels // per_group
    if group != n.attr("group", 1):
        n.set_int("group", group)


def conv_repair(n: RepairContext) -> None:
    _set_group(n, n.new_shape(0)[1], n.new_shape(1)[1])


def _conv_transpose_repair(n: RepairContext) -> None:
    _set_group(n, n.new_out_shape(0)[1], n.new_shape(1)[1])


RULES = (
    OpRule(
        "Conv",
        _conv_labels,
        conv_cost,
        between_convs("b = Conv<group=2>(a, g, h)", ", float[8,3,1,1] g, float[8] h", reads=8),
        conv_repair,
    ),
    OpRule(
        "DeformConv",
        _deform_conv,
        conv_cost,
        between_convs(
            "b = DeformConv<group=6>(a, g, t, h, m)",
            ", float[6,1,3,3] g, float[6] h, float[2,18,6,6] t, float[2,9,6,6] m",
        ),
        conv_repair,
    ),
    OpRule(
        "ConvTranspose",
        _conv_transpose_labels,
        _conv_transpose_cost,
        HEADER + "example (float[1,3,6,6] x) => (y)\n"
        "<float[8,3,1,1] w1, float[8,3,2,2] g, float[6] h, float[4,6,1,1] w2>\n"
        "{ a = Conv(x, w1)\n"
        "  b = ConvTranspose<group=2, strides=[2,2]>(a, g, h)\n"
        "  y = Conv(b, w2) }",
        _conv_transpose_repair,
    ),
)
