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

from edgec.ops.examples import HEADER, between_convs
from edgec.ops.labels import Factor, Ids, Labels, line_labels
from edgec.ops.repairing import RepairContext
from edgec.ops.rule import OpRule
from edgec.ops.tracing import LabelContext
from edgec.ops.view import Barrier, Cost, View, product

_GROUPS = "is all that a group of the convolution has"
_SPATIAL = "is convolved along this axis"


def _conv_labels(n: LabelContext) -> None:
    _convolution(n, transposed=False)


def _conv_transpose_labels(n: LabelContext) -> None:
    _convolution(n, transposed=True)


def _convolution(n: LabelContext, *, transposed: bool) -> None:
    group = int(n.attr("group", 1))
    channels = n.shape(0)[1]
    outputs = n.shape(1)[1] * group if transposed else n.shape(1)[0]
    if not n.is_param(1):
        raise Barrier("computes its weight at run time")
    x = n.only(0, 1, _SPATIAL)
    i, o = channels // group, outputs // group
    rank = len(n.shape(1))
    if group == 1:
        y = n.fresh(outputs)
        in_axis, out_axis = (0, 1) if transposed else (1, 0)
        labels = line_labels(y, out_axis, rank) + line_labels(x, in_axis, rank)
        n.use(1, labels, reads=(in_axis,), tie=True)
    elif x is not None and (group >= max(i, o) or min(i, o) == 1):
        y = _whole_groups(n, x, group, o)
        n.use(1, line_labels(x if transposed else y, 0, rank), tie=True)
    else:
        y = _equal_counts(n, x, group, i, o, rank, transposed)
    n.use_line(2, y)
    n.give_line(y, 1)


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


def _conv_cost(n: View) -> Cost:
    weight = n.shape(1)
    return Cost(product(n.out_shape()) * product(weight[1:]), 0)


def _conv_transpose_cost(n: View) -> Cost:
    weight = n.shape(1)
    return Cost(product(n.shape(0)) * product(weight[1:]), 0)


def _set_group(n: RepairContext, channels: int, per_group: int) -> None:
    group = channels // per_group
    if group != n.attr("group", 1):
        n.set_int("group", group)


def _conv_repair(n: RepairContext) -> None:
    _set_group(n, n.new_shape(0)[1], n.new_shape(1)[1])


def _conv_transpose_repair(n: RepairContext) -> None:
    _set_group(n, n.new_out_shape(0)[1], n.new_shape(1)[1])


RULES = (
    OpRule(
        "Conv",
        _conv_labels,
        _conv_cost,
        between_convs("b = Conv<group=2>(a, g, h)", ", float[8,3,1,1] g, float[8] h", reads=8),
        _conv_repair,
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
